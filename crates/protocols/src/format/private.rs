//! Only what may be shown of each message.

use std::sync::Arc;

use super::{ExchangeEnd, Format, MessageEnd, Records};
use crate::decoder::View;
use crate::event::Origin;
use crate::message::Message;
use crate::privacy::Privacy;

/// Masks secrets in messages, and leaves parts of them out, before another format gets them.
pub struct Private {
    /// The format.
    pub format: Arc<dyn Format>,
    /// What is shown.
    pub privacy: Arc<Privacy>,
}

impl Format for Private {
    fn view(&self) -> View {
        match self.format.view() {
            // A frame alone does not say what its content is.
            View::Text => View::TextMessages,
            view => view,
        }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        self.format.begin(out);
    }

    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        self.format.join_ends(client, server, out);
    }

    fn join_messages(&self, shown: (&MessageEnd, &[u8]), other: &MessageEnd, out: &mut Vec<u8>) {
        self.format.join_messages(shown, other, out);
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            self.privacy.apply(message);
        }
        self.format.write(origin, &messages, out);
    }
}
