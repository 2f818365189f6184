//! From kernel records to events: the only place where the two vocabularies meet. What a module
//! captures it decodes itself; every capture has the ends of processes, sockets and sessions.

use ecapture_ebpf::record::{CloseRecord, DecodeError, KIND_CLOSE_SESSION, KIND_CLOSE_SOCKET, Record};
use ecapture_protocols::{CapturedEvent, Close};

use crate::modules::{Decode, Join, Joined, ModuleOptions, Modules};

/// Turns the records of the ring into events.
pub(crate) struct Decoders {
    of_modules: Vec<(&'static [u32], Decoder)>,
}

enum Decoder {
    Each(fn(&[u8]) -> Result<CapturedEvent, DecodeError>),
    Join(Box<dyn Join>),
}

impl Decoders {
    pub(crate) fn new(modules: Modules, options: &ModuleOptions) -> Self {
        let decoders = modules.chosen().map(|module| {
            let decoder = match module.decode {
                Decode::Each(decode) => Decoder::Each(decode),
                Decode::Join(begin) => Decoder::Join(begin(options)),
            };
            (module.records, decoder)
        });
        Self {
            of_modules: decoders.collect(),
        }
    }

    /// Copies one record out of the ring.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let kind = kind(bytes)?;
        let mut decoders = self.of_modules.iter_mut();
        let decoder = decoders.find(|(records, _)| records.contains(&kind));
        match decoder {
            Some((_, Decoder::Each(decode))) => {
                let event = decode(bytes)?;
                let bytes = event.payload_bytes();
                Ok(Decoded {
                    event: Some(event),
                    payload: Some(bytes),
                    beyond: 0,
                })
            }
            Some((_, Decoder::Join(join))) => {
                let Joined { event, bytes, beyond } = join.join(bytes)?;
                Ok(Decoded {
                    event,
                    payload: Some(bytes),
                    beyond,
                })
            }
            None => Ok(Decoded {
                event: Some(end(bytes)?),
                payload: None,
                beyond: 0,
            }),
        }
    }

    /// What is left when the ring is empty and the capture has ended.
    pub(crate) fn finish(&mut self) -> Vec<CapturedEvent> {
        let joins = self
            .of_modules
            .iter_mut()
            .filter_map(|(_, decoder)| match decoder {
                Decoder::Join(join) => Some(join.finish()),
                Decoder::Each(_) => None,
            });
        joins.flatten().collect()
    }
}

/// What came of a record.
pub(crate) struct Decoded {
    /// The event that is complete with it.
    pub(crate) event: Option<CapturedEvent>,
    /// Its bytes, if the kernel counts it among the payload records.
    pub(crate) payload: Option<u64>,
    /// Bytes of its payload that were beyond the limits of joined records.
    pub(crate) beyond: u64,
}

/// Every record begins with its kind.
fn kind(bytes: &[u8]) -> Result<u32, DecodeError> {
    match bytes.first_chunk() {
        Some(kind) => Ok(u32::from_ne_bytes(*kind)),
        None => Err(DecodeError::Short {
            expected: size_of::<u32>(),
            observed: bytes.len(),
        }),
    }
}

fn end(bytes: &[u8]) -> Result<CapturedEvent, DecodeError> {
    match Record::decode(bytes)? {
        Record::Close(record) => Ok(CapturedEvent::Close {
            timestamp_ns: record.timestamp_ns,
            close: close(&record),
        }),
        Record::Data(header, _) => Err(DecodeError::UnknownKind(header.kind)),
    }
}

fn close(record: &CloseRecord) -> Close {
    match record.kind {
        KIND_CLOSE_SOCKET => Close::Socket { sock: record.object },
        KIND_CLOSE_SESSION => Close::Session {
            pid: record.pid,
            session: record.object,
        },
        _ => Close::Process { pid: record.pid },
    }
}

#[cfg(test)]
mod tests {
    use ecapture_ebpf::record::{KIND_CLOSE_PROCESS, KIND_DATA};

    use super::*;

    #[test]
    fn every_kind_of_end_is_told_apart() {
        let record = |kind| CloseRecord {
            kind,
            pid: 5,
            timestamp_ns: 1,
            object: 6,
        };
        assert_eq!(close(&record(KIND_CLOSE_SOCKET)), Close::Socket { sock: 6 });
        assert_eq!(
            close(&record(KIND_CLOSE_SESSION)),
            Close::Session { pid: 5, session: 6 }
        );
        assert_eq!(close(&record(KIND_CLOSE_PROCESS)), Close::Process { pid: 5 });
    }

    #[test]
    fn a_record_is_decoded_by_the_module_of_its_kind() {
        let mut decoders = Decoders::new(Modules::TLS, &ModuleOptions::default());
        let mut event = |bytes: &[u8]| decoders.decode(bytes).map(|decoded| decoded.event);
        let short = event(&[1, 0, 0]).unwrap_err();
        assert_eq!(
            short,
            DecodeError::Short {
                expected: 4,
                observed: 3
            }
        );
        let data = event(&KIND_DATA.to_ne_bytes()).unwrap_err();
        assert!(matches!(data, DecodeError::Short { expected: 120, .. }), "{data}");
        let end = event(&KIND_CLOSE_PROCESS.to_ne_bytes()).unwrap_err();
        assert!(matches!(end, DecodeError::Short { expected: 24, .. }), "{end}");
        assert_eq!(event(&77u32.to_ne_bytes()), Err(DecodeError::UnknownKind(77)));
    }
}
