//! Reads recorded event streams in the original's format.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ecapture_protocols::recording::original::OriginalLine;
use ecapture_protocols::{CapturedEvent, Close, DataEvent, Direction, Origin};

/// One recorded case.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) name: String,
    folder: PathBuf,
    pub(crate) streams: Vec<Stream>,
    /// The events in recorded order, as stream and position in it.
    pub(crate) order: Vec<(usize, usize)>,
}

/// One direction of one connection.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) origin: Origin,
    /// Name of the connection, the same for both directions.
    pub(crate) connection: String,
    pub(crate) events: Vec<StreamEvent>,
}

#[derive(Clone)]
pub(crate) struct StreamEvent {
    pub(crate) payload: Bytes,
    pub(crate) timestamp_ns: u64,
    /// Real pause before the event.
    pub(crate) delay_ns: u64,
}

impl Stream {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.events
            .iter()
            .flat_map(|event| event.payload.to_vec())
            .collect()
    }
}

/// Returns the recorded cases whose names begin with `prefix`. If the shared folder does not exist,
/// prints the reason and returns `None`.
#[expect(clippy::print_stdout, reason = "a test that does not run says why")]
pub(crate) fn oracle(prefix: &str) -> Option<Vec<Fixture>> {
    let Ok(shared) = std::env::var("ECAPTURE_SHARED") else {
        println!("not run: ECAPTURE_SHARED does not name the folder with the recorded fixtures");
        return None;
    };
    let folder = Path::new(&shared).join("fixtures/oracle");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && name_of(path).starts_with(prefix))
        .collect();
    cases.sort();
    assert!(
        !cases.is_empty(),
        "no case named {prefix}* in {}",
        folder.display()
    );
    Some(cases.iter().map(|path| Fixture::load(path)).collect())
}

impl Fixture {
    fn load(folder: &Path) -> Self {
        let mut fixture = Self {
            name: name_of(folder),
            folder: folder.to_owned(),
            streams: Vec::new(),
            order: Vec::new(),
        };
        let mut by_key = HashMap::new();
        let mut delay_ns = 0;
        for line in fixture.file("events.jsonl").unwrap().split(|&byte| byte == b'\n') {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let line = OriginalLine::parse(line).unwrap();
            delay_ns += line.delay_ns();
            let mut payload = line
                .payload_file()
                .map_or_else(Vec::new, |name| fixture.file(&name).unwrap());
            payload.truncate(usize::try_from(line.payload_len()).unwrap());
            match line.event(payload.into(), delay_ns).unwrap() {
                CapturedEvent::Data(event) => fixture.add(&event, line.delay_ns(), &mut by_key),
                CapturedEvent::Close { close, .. } => assert!(matches!(close, Close::Socket { .. })),
                CapturedEvent::Observed(_) => panic!("the original observes nothing"),
            }
        }
        fixture
    }

    /// Returns a file of the case; `None` if it does not exist.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.folder.join(name)).ok()
    }

    pub(crate) fn truth(&self) -> Option<serde_json::Value> {
        Some(serde_json::from_slice(&self.file("truth.json")?).unwrap())
    }

    fn add(&mut self, event: &DataEvent, delay_ns: u64, by_key: &mut HashMap<(String, Direction), usize>) {
        let connection = connection_of(event);
        let index = *by_key
            .entry((connection.clone(), event.direction))
            .or_insert_with(|| {
                self.streams.push(Stream {
                    origin: Origin::of(event, 1),
                    connection,
                    events: Vec::new(),
                });
                self.streams.len() - 1
            });
        let events = &mut self.streams[index].events;
        events.push(StreamEvent {
            payload: event.payload.clone(),
            timestamp_ns: event.timestamp_ns,
            delay_ns,
        });
        self.order.push((index, events.len() - 1));
    }
}

fn connection_of(event: &DataEvent) -> String {
    let pid = event.process.pid;
    match (event.socket, event.fd) {
        (Some(socket), _) => format!("sock {}", socket.sock),
        (None, Some(fd)) => format!("pid {pid} fd {fd}"),
        (None, None) => format!("pid {pid} tid {}", event.process.tid),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
