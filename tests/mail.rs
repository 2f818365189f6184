//! Mail over TLS, spoken by packaged servers and clients: raw bytes, all of them, in both directions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::can_capture;
use crate::support::flows::{Flows, capture, run, went};
use crate::support::servers::{Certificate, Server, free_port};

/// A message whose lines look like other protocols, with all bytes that a line may have.
fn message(folder: &Path) -> (String, Vec<u8>) {
    let mut message = b"Subject: GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    message.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n..\r\ndata: event\r\n\r\n");
    for number in 0..600 {
        message.extend(format!("{number} ").bytes());
        message.extend((1..=255_u8).filter(|byte| !b"\r\n.".contains(byte)));
        message.extend(b"\r\n");
    }
    let file = folder.join("message");
    fs::write(&file, &message).expect("a written file");
    (file.to_str().expect("a plain path").to_owned(), message)
}

fn curl(arguments: &[&str]) -> Vec<u8> {
    run(Command::new("curl")
        .args(["-sSk", "--max-time", "30"])
        .args(arguments))
}

/// Asserts that a message was sent as SMTP has it: a line that begins with a dot gets one more.
fn assert_sent(flows: &Flows, port: u16, message: &[u8]) {
    let end = message
        .windows(4)
        .position(|part| part == b"\r\n..")
        .expect("a dot");
    let (before, after) = message.split_at(end + 2);
    assert!(went(flows, true, port, &[before, b".", after].concat()));
    assert!(went(flows, true, port, b"RCPT TO:<b@example>"));
    assert!(went(flows, false, port, b"250 OK\r\n"));
}

#[test]
fn smtp() {
    let Some(_alone) = can_capture(&["aiosmtpd", "curl", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let (file, message) = message(folder.path());
    for (scheme, options) in [
        ("smtps", ["--smtpscert", "--smtpskey"]),
        ("smtp", ["--tlscert", "--tlskey"]),
    ] {
        let port = free_port();
        let mut command = Command::new("aiosmtpd");
        command.args(["-n", "-l", &format!("127.0.0.1:{port}")]);
        for (option, file) in options.iter().zip([&certificate.certificate, &certificate.key]) {
            command.arg(option).arg(file);
        }
        let _server = Server::listening(command, port);
        let url = format!("{scheme}://127.0.0.1:{port}/client.example");
        let flows = capture(port, || {
            let ends = ["--mail-from", "a@example", "--mail-rcpt", "b@example"];
            curl(&[&["--ssl-reqd", &url, "-T", &file][..], &ends].concat());
        });
        assert_sent(&flows, port, &message);
    }
}

#[test]
fn imap() {
    let Some(_alone) = can_capture(&["dovecot", "curl", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let (file, message) = message(folder.path());
    let port = free_port();
    let mut command = Command::new("dovecot");
    command
        .arg("-F")
        .arg("-c")
        .arg(dovecot(folder.path(), &certificate, port));
    let _server = Server::listening(command, port);
    let inbox = format!("imaps://127.0.0.1:{port}/INBOX");
    let flows = capture(port, || {
        curl(&["-u", "user:secret", &inbox, "-T", &file]);
        let read = curl(&["-u", "user:secret", &format!("{inbox};MAILINDEX=1")]);
        assert!(read == message, "what is read is what was stored");
    });
    for to_server in [true, false] {
        assert!(went(&flows, to_server, port, &message), "{to_server}");
    }
    assert!(went(&flows, true, port, b" FETCH 1 BODY[]\r\n"));
    assert!(went(&flows, false, port, b" OK "));
}

/// Its configuration: one user, whose mail is in a folder that it may write to.
fn dovecot(folder: &Path, certificate: &Certificate, port: u16) -> std::path::PathBuf {
    let mail = folder.join("mail");
    fs::create_dir(&mail).expect("a new folder");
    run(Command::new("chown").arg("daemon").arg(&mail));
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("an open folder");
    let (key, certificate) = (certificate.key.display(), certificate.certificate.display());
    let folder_name = folder.display();
    let text = format!(
        "base_dir = {folder_name}/run
log_path = {folder_name}/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
first_valid_uid = 1
mail_location = maildir:{folder_name}/mail
service imap-login {{
  chroot =
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=daemon gid=daemon home={folder_name}
}}
"
    );
    let file = folder.join("dovecot.conf");
    fs::write(&file, text).expect("a written file");
    file
}
