//! A requested change, in the original's words.

use std::path::PathBuf;
use std::sync::Arc;

use ecapture_protocols::Filter;
use serde_json::{Map, Value};

use crate::selection::{self, Selection};

/// A change; `None`: as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The processes; empty: all.
    pub(super) pids: Option<Vec<u32>>,
    pub(super) follow_children: Option<bool>,
    pub(super) uid: Option<Setting<u32>>,
    pub(super) cgroup: Option<Setting<PathBuf>>,
    pub(super) hex: Option<bool>,
    pub(super) truncate: Option<Setting<usize>>,
    /// What the outputs show of the messages.
    pub(super) filter: Option<Setting<Expression>>,
    /// Libraries or programs; empty: all that can be found.
    pub(super) files: Option<Vec<PathBuf>>,
    /// Keys that change nothing, with the reason.
    pub(super) unused: Vec<(String, &'static str)>,
}

/// An expression of `--filter`, compiled. Two with the same text are the same.
#[derive(Debug, Clone)]
pub(super) struct Expression(pub(super) Arc<Filter>);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

/// The value of a key that may also turn something off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting<T> {
    Off,
    On(T),
}

impl<T> Setting<T> {
    pub(super) const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T> From<Setting<T>> for Option<T> {
    fn from(setting: Setting<T>) -> Self {
        match setting {
            Setting::Off => None,
            Setting::On(value) => Some(value),
        }
    }
}

impl<T> From<Option<T>> for Setting<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Off, Self::On)
    }
}

/// Keys that need no value here, or that a run cannot change and does not depend on.
const UNUSED: [(&[&str], &str); 4] = [
    (
        &[
            "btf",
            "btf_mode",
            "byte_code_file_mode",
            "sslversion",
            "isboringssl",
            "masterhookfuncs",
            "sslbpffile",
            "is_android",
            "androidver",
            "go_version",
            "is_register_abi",
            "build_info",
            "is_pie_build_mode",
            "gnuversion",
            "perf_reorder",
            "perf_reorder_lag_ms",
        ],
        "nothing depends on it",
    ),
    (
        &["debug", "per_cpu_map_size", "listen", "addr_type"],
        "it is set when ecapture starts: --debug, --mapsize, --listen",
    ),
    (
        &["keylogfile", "keylog_file", "pcapfile", "pcap_file", "ifname"],
        "it belongs to key logs and packets, which are not captured",
    ),
    (
        &["filters"],
        "name the processes in `pid`, such as \"nginx,curl\", and what is shown in `filter`",
    ),
];

/// Keys that must be empty, because they would need another run, with the flag for it.
const EMPTY: [(&[&str], &str); 4] = [
    (&["logger_addr"], "start ecapture with --logaddr"),
    (&["event_collector_addr"], "start ecapture with --eventaddr or -o"),
    (&["ecapture_q"], "start ecapture with --ecaptureq"),
    (&["pcapfilter", "pcap_filter"], "packets are not captured"),
];

/// Keys that name libraries or programs.
const FILES: [&str; 5] = ["opensslpath", "elf_path", "gnutlspath", "nss_path", "nspr_path"];

const KNOWN: &str = "pid, follow_children, uid, cgroup_path, opensslpath (elf_path, gnutlspath, nspr_path), is_hex, \
                     truncate_size, filter";

impl Request {
    /// Reads a body. An error says what is wrong with it.
    pub(super) fn read(body: &Map<String, Value>) -> Result<Self, String> {
        let mut request = Self::default();
        for (key, value) in body {
            request
                .take(key, value)
                .map_err(|problem| format!("{key}: {problem}"))?;
        }
        Ok(request)
    }

    /// Refuses a filter that asks for content, if the run leaves content out.
    pub(super) fn check_content(&self, leaves_content_out: bool) -> Result<(), String> {
        let filter = self.filter.as_ref().and_then(Setting::as_ref);
        if leaves_content_out && filter.is_some_and(|filter| filter.0.reads_content()) {
            return Err(
                "filter: it asks for content, which this run leaves out (--privacy metadata); start ecapture with \
                 this --filter"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "pid" => self.pids = Some(pids(value)?),
            "follow_children" => self.follow_children = Some(boolean(value)?),
            "uid" => {
                let user = selection::user(&word(value)?).map_err(|error| error.to_string())?;
                self.uid = Some(user.into());
            }
            "cgroup_path" => self.cgroup = Some(path(value)?.into()),
            "hex" | "is_hex" => self.hex = Some(boolean(value)?),
            "tsize" | "truncate_size" => self.truncate = Some(size(value)?.into()),
            "filter" => self.filter = Some(filter(value)?.into()),
            "capturemode" | "capture_mode" => mode(value)?,
            _ if FILES.contains(&key) => self.files.get_or_insert_default().extend(paths(value)?),
            _ => return self.take_unused(key, value),
        }
        Ok(())
    }

    fn take_unused(&mut self, key: &str, value: &Value) -> Result<(), String> {
        if let Some((_, reason)) = UNUSED.iter().find(|(keys, _)| keys.contains(&key)) {
            self.unused.push((key.to_owned(), reason));
            return Ok(());
        }
        match EMPTY.iter().find(|(keys, _)| keys.contains(&key)) {
            Some(_) if is_empty(value) => Ok(()),
            Some((_, instead)) => Err(format!("it cannot be changed while ecapture runs; {instead}")),
            None => Err(format!("there is no such key; what can be changed is {KNOWN}")),
        }
    }
}

/// An expression of `--filter`; empty: none.
fn filter(value: &Value) -> Result<Option<Expression>, String> {
    let text = value.as_str().ok_or("an expression of --filter is expected")?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = Filter::parse(text).map_err(|error| error.to_string())?;
    Ok(Some(Expression(Arc::new(filter))))
}

/// A number, a list such as `"1234,nginx"`, or an array of both. 0 and nothing mean all.
fn pids(value: &Value) -> Result<Vec<u32>, String> {
    let words = match value {
        Value::Array(values) => values.iter().map(word).collect::<Result<Vec<_>, _>>()?,
        value => word(value)?.split(',').map(str::to_owned).collect(),
    };
    match words.as_slice() {
        [] => Ok(Vec::new()),
        [word] if word.is_empty() || word == "0" => Ok(Vec::new()),
        words => {
            let selection = Selection::of_processes("pid", words);
            let running = selection.and_then(|selection| selection.running());
            running.map_err(|error| error.to_string())
        }
    }
}

fn word(value: &Value) -> Result<String, String> {
    match value {
        Value::Number(number) => Ok(number.to_string()),
        Value::String(word) => Ok(word.clone()),
        other => Err(format!("expected a number or a name, observed {other}")),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("expected true or false, observed {value}"))
}

/// `None` for the empty path.
fn path(value: &Value) -> Result<Option<PathBuf>, String> {
    let path = value.as_str().map(str::trim);
    let path = path.ok_or_else(|| format!("expected a path, observed {value}"))?;
    Ok((!path.is_empty()).then(|| PathBuf::from(path)))
}

/// One path or an array of them.
fn paths(value: &Value) -> Result<Vec<PathBuf>, String> {
    let paths = match value {
        Value::Array(values) => values.iter().map(path).collect::<Result<Vec<_>, _>>()?,
        value => vec![path(value)?],
    };
    Ok(paths.into_iter().flatten().collect())
}

/// `None` for 0, which means no limit.
fn size(value: &Value) -> Result<Option<usize>, String> {
    let bytes = value.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.ok_or_else(|| format!("expected a number of bytes, observed {value}"))?;
    Ok((bytes > 0).then_some(bytes))
}

fn mode(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("" | "text") => Ok(()),
        _ => Err(format!("only text is captured, observed {value}")),
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Request, String> {
        Request::read(&serde_json::from_str(body).expect("an object"))
    }

    #[test]
    fn the_examples_of_the_originals_documentation_are_accepted() {
        let tls = r#"{"pid":0,"uid":0,"debug":false,"hex":false,"btf":0,"per_cpu_map_size":1024,"truncate_size":0,
            "filters":{"target_process":["nginx","curl"],"ignore_process":["ecapture"]}}"#;
        let request = read(tls).expect("an example");
        assert_eq!((request.pids, request.uid), (Some(vec![]), Some(Setting::Off)));
        assert_eq!((request.hex, request.truncate), (Some(false), Some(Setting::Off)));
        assert_eq!(request.cgroup, None, "what is not named stays as it is");
        let unused: Vec<_> = request.unused.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(unused, ["btf", "debug", "filters", "per_cpu_map_size"]);
        assert!(read(r#"{"pid":0,"uid":0,"debug":true,"per_cpu_map_size":2048}"#).is_ok());
        assert!(read(r#"{"pid":0,"uid":0,"debug":false}"#).is_ok());
    }

    #[test]
    fn processes_are_a_number_a_list_or_an_array() {
        let own = std::process::id();
        for body in [
            format!("{own}"),
            format!("\"{own}\""),
            format!("[{own}]"),
            format!("[\"{own}\"]"),
        ] {
            let request = read(&format!("{{\"pid\":{body}}}")).expect("a process");
            assert_eq!(request.pids, Some(vec![own]), "{body}");
        }
        for body in ["0", "\"\"", "[]", "[0]"] {
            let request = read(&format!("{{\"pid\":{body}}}")).expect("all");
            assert_eq!(request.pids, Some(vec![]), "{body}");
        }
    }

    #[test]
    fn a_filter_that_asks_for_content_is_refused_where_content_is_left_out() {
        let body = read(r#"{"filter":"http.request and body contains \"x\""}"#).expect("a filter");
        let error = body.check_content(true).expect_err("content is left out");
        assert!(
            error.contains("asks for content") && error.contains("--filter"),
            "{error}"
        );
        assert_eq!(body.check_content(false), Ok(()));
        for other in [
            r#"{"filter":"http.response.code == 200"}"#,
            r#"{"filter":""}"#,
            "{}",
        ] {
            let request = read(other).expect("a request");
            assert_eq!(request.check_content(true), Ok(()), "{other}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, part) in [
            (
                r#"{"pids":1}"#,
                "pids: there is no such key; what can be changed is pid,",
            ),
            (r#"{"pid":-1}"#, "pid: "),
            (r#"{"pid":"no-such-program"}"#, "no running process"),
            (r#"{"pid":{}}"#, "expected a number or a name"),
            (r#"{"uid":"no-such-user"}"#, "getent passwd"),
            (r#"{"is_hex":"yes"}"#, "true or false"),
            (r#"{"truncate_size":-1}"#, "a number of bytes"),
            (r#"{"cgroup_path":1}"#, "a path"),
            (r#"{"capturemode":"pcap"}"#, "only text"),
            (r#"{"ecapture_q":"ws://h:1"}"#, "--ecaptureq"),
        ] {
            let error = read(body).expect_err(body);
            assert!(error.contains(part), "{body}: {error}");
        }
        assert!(read(r#"{"ecapture_q":"","capturemode":"text"}"#).is_ok());
    }
}
