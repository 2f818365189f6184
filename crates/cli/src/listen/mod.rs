//! `--listen`: an HTTP server by which a run is watched and changed.
//!
//! ```text
//! connection ─► server (bounds, timeouts) ─► access (Host, Origin, token) ─► routes ─► status, metrics
//! ```
//!
//! It runs on a thread of its own and reads the same figures as the summary at the end, so that it neither
//! slows the run nor disagrees with it. Over TCP a token is needed, because every user of this host can connect
//! to a loopback address; over a socket file the kernel says who connects.

mod access;
mod attached;
mod change;
mod metrics;
mod request;
mod routes;
mod server;
mod socket;
mod status;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ecapture_actors::PipelineHandle;
use serde_json::Value;
use tokio::time::Instant;

use crate::settings::{CaptureSettings, ListenAddress, ListenSettings};
use access::Access;
pub(crate) use attached::AttachedFiles;
pub(crate) use change::{Attached, ChangeLibraries, Live};
use socket::{Socket, SocketFile};

/// A server that is bound to its address. Whoever connects waits until [`Self::serve`].
pub(crate) struct Server {
    socket: Socket,
    file: Option<SocketFile>,
    access: Access,
}

/// A run that is watched.
pub(crate) struct Run {
    /// The figures.
    pipeline: PipelineHandle,
    /// The settings of the run that cannot change; null for a replay.
    fixed: Value,
    /// The settings that can be changed; `None` for a replay.
    live: Option<Live>,
    started: Instant,
}

impl Run {
    /// A capture that begins now.
    pub(crate) fn capture(pipeline: PipelineHandle, settings: &CaptureSettings, live: Live) -> Self {
        Self {
            fixed: status::fixed(settings),
            live: Some(live),
            ..Self::replay(pipeline)
        }
    }

    /// A replay that begins now.
    pub(crate) fn replay(pipeline: PipelineHandle) -> Self {
        Self {
            pipeline,
            fixed: Value::Null,
            live: None,
            started: Instant::now(),
        }
    }
}

impl Server {
    /// Binds the address, and prints the token if one is needed that the user did not choose.
    pub(crate) fn bind(settings: &ListenSettings) -> Result<Self> {
        let (socket, file) = Socket::bind(&settings.address).with_context(|| match &settings.address {
            ListenAddress::Tcp(address) => {
                format!("--listen: cannot listen on {address}; give a free port of this host")
            }
            ListenAddress::Unix(path) => format!(
                "--listen: cannot listen on {}; give a path in an existing folder that only root can write to, \
                 such as /run/ecapture.sock",
                path.display()
            ),
        })?;
        let access = Access::new(&socket, settings).context("--listen: no token could be made")?;
        Ok(Self { socket, file, access })
    }

    /// Answers requests about `run` until the process ends. The socket file, if there is one, is removed when what is
    /// returned is dropped.
    pub(crate) fn serve(self, run: Run) -> Result<Option<SocketFile>> {
        let name = self.socket.name();
        server::start(self.socket, routes::router(Arc::new(run), self.access))
            .context("--listen: the server could not be started")?;
        tracing::info!("listening on {name}");
        Ok(self.file)
    }
}
