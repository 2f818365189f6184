//! The values of `--ends`.

use clap::ValueEnum;
use ecapture_protocols::format::Ends;

/// How exchanges are shown that both ends are captured of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EndsName {
    /// Once.
    Once,
    /// By each end.
    Both,
}

impl From<EndsName> for Ends {
    fn from(name: EndsName) -> Self {
        match name {
            EndsName::Once => Self::Once,
            EndsName::Both => Self::Both,
        }
    }
}
