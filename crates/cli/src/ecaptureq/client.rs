//! One client's connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use ecapture_protocols::format::protobuf;
use tokio::time::{Instant, interval_at};

use super::hub::{Client, Hub, Item};
use super::run_log::RunLog;
use crate::one_line::warning_line;

/// As the original's.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Sends everything to a client until it goes away or the run ends.
pub(super) async fn serve(mut socket: WebSocket, hub: Arc<Hub>) {
    let Ok(client) = RunLog::join(&hub, heartbeat(0)) else {
        let refusal = "this server has the maximum number of clients; close one of them";
        tracing::warn!("eCaptureQ: a client was refused, because the maximum number of clients is connected");
        let _gone = send(&mut socket, protobuf::log_line(&warning_line(refusal)).into()).await;
        let _gone = socket.send(Message::Close(None)).await;
        return;
    };
    // However its connection ends, nothing is queued for it any more.
    let _left = Leaves(&hub, &client);
    let _gone = talk(&mut socket, &client).await;
}

struct Leaves<'client>(&'client Hub, &'client Arc<Client>);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// An error when the client is gone.
async fn talk(socket: &mut WebSocket, client: &Client) -> Result<(), axum::Error> {
    let mut heartbeats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut count = 0;
    loop {
        tokio::select! {
            item = client.next() => match item {
                Some(Item::Entry(entry)) => {
                    send(socket, entry).await?;
                    client.sent();
                }
                Some(Item::Missed(entries)) => {
                    let message = format!("{entries} entries were skipped: this client read too slowly");
                    send(socket, protobuf::log_line(&warning_line(&message)).into()).await?;
                }
                None => return say_goodbye(socket).await,
            },
            _ = heartbeats.tick() => {
                count += 1;
                send(socket, heartbeat(count).into()).await?;
            }
            // What a client says means nothing; pings are answered while it is read.
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(said) => drop(said?),
            },
        }
    }
}

/// Closes the connection and waits for the client to do so: what is still on its way to a client that has
/// sent something is lost when this end closes first.
async fn say_goodbye(socket: &mut WebSocket) -> Result<(), axum::Error> {
    socket.send(Message::Close(None)).await?;
    while socket.recv().await.transpose()?.is_some() {}
    Ok(())
}

async fn send(socket: &mut WebSocket, entry: Bytes) -> Result<(), axum::Error> {
    socket.send(Message::Binary(entry)).await
}

fn heartbeat(count: i64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    protobuf::heartbeat(i64::try_from(now.as_secs()).unwrap_or(i64::MAX), count)
}
