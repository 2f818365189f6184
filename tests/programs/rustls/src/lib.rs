//! The common parts of the servers.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The length of the answer to a request for `/large`, in bytes: many records, several writes.
const LARGE: usize = 50_000;

/// From the files that the arguments `serve CERTIFICATE KEY` name.
pub fn server_configuration() -> Arc<ServerConfig> {
    let argument = |index| std::env::args().nth(index).expect("serve CERTIFICATE KEY");
    let certificate = CertificateDer::from_pem_file(argument(2)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(argument(3)).expect("a key");
    let builder = ServerConfig::builder().with_no_client_auth();
    Arc::new(
        builder
            .with_single_cert(vec![certificate], key)
            .expect("a usable certificate"),
    )
}

/// Takes the first whole request out of what was received, and says what the response to it is.
pub fn response(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head: Vec<u8> = received.drain(..end).collect();
    let body = if head.starts_with(b"GET /large ") {
        "x".repeat(LARGE)
    } else {
        "{\"hello\":\"world\"}\n".to_owned()
    };
    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}
