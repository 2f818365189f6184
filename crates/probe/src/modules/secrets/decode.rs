//! From the kernel's records of secrets to facts.

use ecapture_ebpf::record::DecodeError;
use ecapture_ebpf::secret::SecretRecord;
use ecapture_protocols::{CapturedEvent, Comm, Fact, Observed, Process, Secret, SecretLabel, SecretValue};

/// Copies one record out of the ring. A record without a secret that a key log holds is not one.
pub(super) fn event(bytes: &[u8]) -> Result<CapturedEvent, DecodeError> {
    let record = SecretRecord::decode(bytes)?;
    let secret = secret(&record).ok_or(DecodeError::UnknownKind(record.kind))?;
    Ok(CapturedEvent::Observed(Box::new(Observed {
        timestamp_ns: record.timestamp_ns,
        process: Process {
            pid: record.pid,
            tid: record.tid,
            uid: Some(record.uid),
            comm: Comm::new(record.comm),
        },
        container_id: None,
        program: None,
        fact: Fact::Secret(secret),
    })))
}

fn secret(record: &SecretRecord) -> Option<Secret> {
    let label = SecretLabel::of(record.label()).or_else(|| SecretLabel::of_derivation(record.label()))?;
    Some(Secret {
        label,
        client_random: record.client_random,
        value: SecretValue::new(record.secret())?,
    })
}
