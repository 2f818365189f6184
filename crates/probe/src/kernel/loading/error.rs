//! Why the object cannot be used, and why a program does not run.

use std::io;
use std::sync::Arc;

use aya_obj::ParseError;
use aya_obj::btf::BtfError;
use aya_obj::relocation::EbpfRelocationError;

/// Why the kernel object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not an object with kernel programs.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Its type information cannot be adapted to this kernel.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// It has no type information.
    #[error("no type information in the object")]
    NoTypes,
    /// Its programs cannot be joined with the maps or with the functions that they call.
    #[error(transparent)]
    Relocation(#[from] EbpfRelocationError),
}

/// Why the kernel does not run a program.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProgramError {
    /// It is for a tracepoint that the kernel lacks.
    #[error("this kernel has no such tracepoint")]
    NoTracepoint,
    /// The kernel refused it without a word of the verifier.
    #[error(transparent)]
    Refused(Arc<io::Error>),
    /// The verifier refused it.
    #[error("{source} ({verifier})")]
    Verifier {
        /// From the system.
        source: Arc<io::Error>,
        /// The verifier's last words.
        verifier: String,
    },
    /// The kernel loaded it and did not attach it to its tracepoint.
    #[error("it cannot be attached: {0}")]
    NotAttached(#[source] Arc<io::Error>),
}

/// Why a loaded program was not attached to a file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// Nothing is attached any more.
    #[error("the capture has ended")]
    Ended,
    /// The kernel refused it.
    #[error(transparent)]
    System(Arc<io::Error>),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::System(Arc::new(error))
    }
}
