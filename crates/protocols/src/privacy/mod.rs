//! What of a message may be shown: how much of it ([`Level`]), and which values are secrets ([`Secrets`]).
//!
//! A stage in front of the formats ([`crate::format::Private`]) applies it, so that no format has to know of it.
//! Everything here reads each byte a fixed number of times and guesses to the safe side: where a secret may end
//! in two places, the later one counts, and what cannot be searched is left out.

mod fields;
mod messages;
mod names;
mod patterns;
mod ranges;
mod urls;

pub(crate) use fields::concealed;
pub use patterns::{PatternError, Secrets};

use ranges::Ranges;

use std::sync::Arc;

use crate::message::Message;

/// How much of a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Which process called whom, when, with which method, path, status, type and sizes.
    Metadata,
    /// Also all header fields.
    Headers,
    /// Everything.
    #[default]
    Full,
}

impl Level {
    /// Its name, as the user gives it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Headers => "headers",
            Self::Full => "full",
        }
    }
}

/// Masks credentials and secret parameters in the URLs of `text`. `None` if there is nothing to mask.
pub(crate) fn mask_urls(text: &[u8]) -> Option<Vec<u8>> {
    let mut found = Ranges::default();
    urls::find(text, urls::Text::Words, &Secrets::default(), &mut found);
    found.mask(text)
}

/// What of the messages an output shows.
#[derive(Debug, Clone, Default)]
pub struct Privacy {
    /// How much.
    pub level: Level,
    /// Which values are masked; `None`: none are.
    pub secrets: Option<Arc<Secrets>>,
}

impl Privacy {
    /// Returns true if everything is shown.
    pub fn is_off(&self) -> bool {
        self.level == Level::Full && self.secrets.is_none()
    }

    /// Masks and leaves out what may not be shown of `message`.
    pub fn apply(&self, message: &mut Message) {
        if !self.is_off() {
            messages::apply(self, message);
        }
    }
}
