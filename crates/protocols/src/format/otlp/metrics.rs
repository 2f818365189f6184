//! The figures of a run as metrics.

use prost::Message as _;

use super::attributes::Attributes;
use super::messages::{DataPoint, Metric, MetricsRequest, Resource, ResourceMetrics, ScopeMetrics, Sum};
use super::scope;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// Totals of a run at one moment.
#[derive(Debug, Clone, Default)]
pub struct Figures<'a> {
    /// Start of the run, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// This moment.
    pub now_ns: u64,
    /// This process.
    pub pid: u32,
    /// The name of this host.
    pub host: Option<&'a str>,
    /// The totals.
    pub counters: Vec<Counter<'a>>,
}

/// One metric: totals that never fall.
#[derive(Debug, Clone, Default)]
pub struct Counter<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is counted.
    pub description: &'a str,
    /// UCUM unit.
    pub unit: &'a str,
    /// The totals, each with the attributes that tell it from the others.
    pub points: Vec<(Vec<(&'a str, &'a str)>, u64)>,
}

impl Figures<'_> {
    /// Returns an `ExportMetricsServiceRequest`.
    pub fn encode(&self) -> Vec<u8> {
        let mut attributes = Attributes::default();
        attributes.text("service.name", "ecapture");
        attributes.text("service.version", env!("CARGO_PKG_VERSION"));
        attributes.number("process.pid", self.pid);
        if let Some(host) = self.host {
            attributes.text("host.name", host);
        }
        let metrics = self.counters.iter().map(|counter| self.metric(counter));
        let request = MetricsRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: attributes.into_values(),
                }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: metrics.collect(),
                }],
            }],
        };
        request.encode_to_vec()
    }

    fn metric(&self, counter: &Counter<'_>) -> Metric {
        let points = counter.points.iter().map(|(labels, value)| {
            let mut attributes = Attributes::default();
            for (key, value) in labels {
                attributes.text(key, value);
            }
            DataPoint {
                start_time_unix_nano: self.start_ns,
                time_unix_nano: self.now_ns,
                as_int: Some(i64::try_from(*value).unwrap_or(i64::MAX)),
                attributes: attributes.into_values(),
            }
        });
        Metric {
            name: counter.name.to_owned(),
            description: counter.description.to_owned(),
            unit: counter.unit.to_owned(),
            sum: Some(Sum {
                data_points: points.collect(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
        }
    }
}
