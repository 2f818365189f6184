//! Calls on Sinks that may be idle: when somebody asks for it, and at the intervals of their targets.

use std::time::Duration;

use actix::WeakRecipient;
use tokio::sync::watch;

use crate::messages::Tend;

/// Asks all targets of a pipeline to begin again, such as files that were renamed.
#[derive(Debug, Clone)]
pub struct Renewal(watch::Sender<()>);

impl Default for Renewal {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Renewal {
    /// Each target that is open begins again between two records, see
    /// [`Target::renew`](crate::Target::renew): at once if it is idle. May be called before the pipeline
    /// has started.
    pub fn ask(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        let mut receiver = self.0.subscribe();
        // Whatever was asked before it started came after its target was opened.
        receiver.mark_changed();
        receiver
    }
}

/// Sends [`Tend`] until the Sink has ended. A Sink with a full mailbox looks for itself before it writes.
pub(crate) async fn tend(
    sink: WeakRecipient<Tend>,
    mut renewal: watch::Receiver<()>,
    interval: Option<Duration>,
) {
    loop {
        tokio::select! {
            () = asked(&mut renewal) => {}
            () = after(interval) => {}
        }
        let Some(sink) = sink.upgrade() else { return };
        let _busy = sink.try_send(Tend);
    }
}

/// Never returns when there is nobody left who could ask.
async fn asked(renewal: &mut watch::Receiver<()>) {
    if renewal.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn after(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}
