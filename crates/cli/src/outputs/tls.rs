//! TLS to a server that takes records, with the certificates that this host trusts.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

/// An encrypted connection.
pub(super) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error(
        "no certificates to trust were found; install ca-certificates, or name a file of them in SSL_CERT_FILE"
    )]
    NoRoots,
    #[error("TLS: {0}; to trust the server's certificate, name a file with it in SSL_CERT_FILE")]
    Handshake(#[source] io::Error),
}

/// Shakes hands with a server whose certificate is trusted: by the system or, when `SSL_CERT_FILE` or
/// `SSL_CERT_DIR` is set, by the certificates that it names.
pub(super) fn secure(host: &str, mut tcp: TcpStream) -> Result<Secured, TlsError> {
    let failed = |error: Error| TlsError::Handshake(io::Error::other(error));
    let config = client_config(b"http/1.1")?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| TlsError::Handshake(io::Error::other(error)))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).map_err(TlsError::Handshake)?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// Returns what is trusted, for a server that speaks `protocol` (RFC 7301).
pub(super) fn client_config(protocol: &[u8]) -> Result<ClientConfig, TlsError> {
    let failed = |error: Error| TlsError::Handshake(io::Error::other(error));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier::new(&provider)?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// Verifies as rustls does, but also accepts a self-signed certificate that is itself among the trusted ones.
/// `openssl req -x509` marks such certificates as an authority's, which rustls does not accept as a server's.
#[derive(Debug)]
struct Verifier {
    trusted: Vec<CertificateDer<'static>>,
    usual: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn new(provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        // Files that cannot be read are left out.
        let trusted = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(Self {
            trusted,
            usual: usual.build().map_err(|_| TlsError::NoRoots)?,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .usual
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        if verified.is_err() && self.trusted.iter().any(|trusted| trusted == certificate) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
