//! Flags that say what may be shown.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ecapture_protocols::redact::Redaction;

/// Global flags of privacy.
#[derive(Debug, Args)]
pub(crate) struct PrivacyArgs {
    /// Mask secrets as `***` in every output: credentials and cookies in header fields (Authorization, Cookie,
    /// Set-Cookie, X-Api-Key and the like), credentials in URLs, secret parameters of URLs and forms (token, password,
    /// signature and the like), passwords in commands, and all literals of statements.
    ///
    /// It is the default for outputs that leave this host (tcp://, ws:// and wss:// to an address that is not a
    /// loopback address, --ecaptureq on one) and that are made to be handed on. Bytes of no known protocol are left
    /// out, and marked. Other bodies are not searched: see --redact-file and --privacy. Recordings and packets hold the
    /// bytes as captured, so they are refused.
    #[arg(long, global = true)]
    pub(crate) redact: bool,
    /// Mask nothing in any output, not even passwords in statements and commands.
    #[arg(long, global = true, conflicts_with = "redact")]
    pub(crate) no_redact: bool,
    /// Also mask what the patterns in FILE name; implies --redact.
    ///
    /// Each line is `header NAME`, `query NAME` (of a URL or form; `*` stands for any text) or `text REGEX` (in
    /// header values, URLs and bodies). Messages are printed whole then.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "no_redact")]
    pub(crate) redact_file: Option<PathBuf>,
    /// How much of each message is shown: everything, no bodies, or metadata (process, addresses, method, host,
    /// path without its query, status, media type, sizes and times; of other header fields the names).
    ///
    /// With `metadata` the kernel leaves bodies out, so that they never enter the memory of ecapture (Linux 5.17 or
    /// newer), unless --filter asks for what is in them. Only their sizes are known then, and those of the bodies that
    /// gRPC messages and server-sent events are in.
    #[arg(long, global = true, value_enum, value_name = "LEVEL", default_value_t = PrivacyLevel::Full)]
    pub(crate) privacy: PrivacyLevel,
}

/// A level of `--privacy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrivacyLevel {
    /// Neither bodies nor header fields.
    Metadata,
    /// No bodies.
    Headers,
    /// Everything.
    Full,
}

impl PrivacyArgs {
    /// What is masked in statements and commands where they are captured.
    pub(crate) fn redaction(&self) -> Redaction {
        if self.redact {
            Redaction::Literals
        } else if self.no_redact {
            Redaction::Nothing
        } else {
            Redaction::Passwords
        }
    }
}
