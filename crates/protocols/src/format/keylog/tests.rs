use super::*;
use crate::event::{Close, Observed, Process, ProcessTls};

fn secret(label: SecretLabel, length: usize) -> Secret {
    Secret {
        label,
        client_random: std::array::from_fn(|index| u8::try_from(index).unwrap_or(0)),
        value: SecretValue::new(&vec![0xfe; length]).unwrap(),
    }
}

fn observed(fact: Fact) -> CapturedEvent {
    CapturedEvent::Observed(Box::new(Observed {
        timestamp_ns: 1,
        process: Process::default(),
        container_id: None,
        program: None,
        fact,
    }))
}

#[test]
fn a_line_is_as_other_programs_write_it() {
    let mut line = Vec::new();
    write(&secret(SecretLabel::Master, 2), &mut line);
    assert_eq!(
        String::from_utf8(line).unwrap(),
        "CLIENT_RANDOM 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f fefe\n"
    );
}

#[test]
fn every_secret_survives_a_round_trip() {
    for label in SecretLabel::ALL {
        for length in [1, 32, 48, 64] {
            let secret = secret(label, length);
            let mut line = Vec::new();
            write(&secret, &mut line);
            assert_eq!(parse(&line), Ok(Some(secret)));
            assert_eq!(parse(&line.to_ascii_uppercase()[..]), Ok(Some(secret)));
            line.insert(line.len() - 1, b'\r');
            assert_eq!(parse(&line), Ok(Some(secret)), "as written on Windows");
        }
    }
}

#[test]
fn comments_are_passed_over_and_faults_are_named() {
    assert_eq!(parse(b""), Ok(None));
    assert_eq!(parse(b"  \r\n"), Ok(None));
    assert_eq!(parse(b"# SSL/TLS secrets log file\n"), Ok(None));
    let random = "00".repeat(32);
    let fault = |line: String| parse(line.as_bytes()).unwrap_err();
    assert_eq!(fault("CLIENT_RANDOM 00".into()), KeyLogError::Words { words: 2 });
    assert_eq!(fault(format!("RSA {random} 00")), KeyLogError::Label);
    assert_eq!(fault("CLIENT_RANDOM 00 00".into()), KeyLogError::ClientRandom);
    for value in ["0", "0g", &"00".repeat(65)] {
        assert_eq!(
            fault(format!("CLIENT_RANDOM {random} {value}")),
            KeyLogError::Secret
        );
    }
}

#[test]
fn an_output_takes_secrets_only() {
    let key = observed(Fact::Secret(secret(SecretLabel::Exporter, 32)));
    let process = observed(Fact::Process(ProcessTls::default()));
    let close = CapturedEvent::Close {
        timestamp_ns: 1,
        close: Close::Process { pid: 1 },
    };
    assert!(
        KeyLog::default().takes(&key)
            && !KeyLog::default().takes(&process)
            && !KeyLog::default().takes(&close)
    );
    let mut out = Vec::new();
    for event in [&key, &process, &close, &key] {
        KeyLog::default().write(event, &mut out);
    }
    assert_eq!(out.split(|&byte| byte == b'\n').count(), 3, "two lines");
}
