//! Recorded event streams as lines of JSON.
//!
//! Two formats are read: the product's own ([`mod@line`], self-contained, one event per line) and
//! the original's ([`original`], one object per line with the payload in a file beside it). This
//! module only translates lines; the caller opens files.

pub mod line;
pub mod original;

/// Why a line of a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or a field has the wrong type.
    #[error("not a recorded event: {0}")]
    Json(#[from] serde_json::Error),
    /// The payload is neither valid `text` nor valid `base64`.
    #[error("payload: expected base64, observed {0}")]
    Base64(#[from] base64::DecodeError),
    /// A secret is not a line of a key log.
    #[error("field \"key\": {0}")]
    Key(#[from] crate::format::keylog::KeyLogError),
    /// An address is not `ip:port`.
    #[error("address: expected ip:port, observed {0:?}")]
    Address(String),
    /// A field that this kind of event needs is missing.
    #[error("field {0:?} is missing")]
    Missing(&'static str),
    /// A field's value is outside its range.
    #[error("field {field:?}: expected {expected}, observed {observed}")]
    Range {
        /// Name of the field.
        field: &'static str,
        /// The values allowed.
        expected: &'static str,
        /// The value found.
        observed: String,
    },
    /// The header names a version that this program does not know.
    #[error("recording version: expected 1, observed {0}")]
    Version(u64),
}
