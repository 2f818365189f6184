//! From kernel records to events: the only place where the two vocabularies meet. What a module
//! captures it decodes itself; every capture has the ends of processes, sockets and sessions.

use ecapture_ebpf::record::{CloseRecord, DecodeError, KIND_CLOSE_SESSION, KIND_CLOSE_SOCKET, Record};
use ecapture_protocols::{CapturedEvent, Close};

use crate::modules::Modules;

/// Copies one record out of the ring.
pub(crate) fn event(bytes: &[u8]) -> Result<CapturedEvent, DecodeError> {
    match Modules::ALL.of_record(kind(bytes)?) {
        Some(module) => (module.decode)(bytes),
        None => end(bytes),
    }
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
