//! A HAR document in a file: whole at any moment, because each entry overwrites the end of the document
//! and brings a new one along, in one write.
//!
//! The messages of a WebSocket belong into its entry, which has other ones behind it by then. So the entry has
//! room for them: spaces, which JSON allows. When the room is used up the messages go on in another entry.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecapture_actors::{Resumption, SinkWriter as _, Taken, Target, Unwritten};
use ecapture_protocols::format::har::record::{
    BEGINNING, CONVERSATION_CONTINUES, CONVERSATION_END, CONVERSATION_OPEN, END, Key, Record, Side,
    push_message,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::super::beginning::{Beginning, Repeated};
use super::{FileOptions, FileOutput};

/// Room for messages in the first entry of a WebSocket, and in the later ones at most: each has twice that of the
/// one before.
const ROOM: usize = 16 * 1024;
const LARGEST_ROOM: usize = 256 * 1024;
/// WebSockets whose messages go on in an entry of theirs; the one that was silent longest is forgotten first.
const CONVERSATIONS: usize = 1024;
/// Longest entry that is repeated for more messages; in place of a longer one is one without its heads.
const REPEATED_BYTES: usize = 16 * 1024;

/// See the module's documentation.
pub(in crate::outputs) struct DocumentFile {
    path: PathBuf,
    file: FileOutput,
    /// The number of the file that the state below is about.
    generation: u64,
    /// Where the end of the document begins.
    end: u64,
    /// It has an entry.
    has_entries: bool,
    conversations: Conversations,
    /// The bytes of a write.
    buffer: Vec<u8>,
}

/// A WebSocket.
struct Conversation {
    side: Side,
    /// Its entry up to the messages.
    entry: Box<[u8]>,
    /// Where the next message goes, and how many bytes are free there.
    at: u64,
    room: usize,
    /// Bytes of room that the entry had.
    reserved: usize,
    has_messages: bool,
    last_used: u64,
}

#[derive(Default)]
struct Conversations {
    by_key: HashMap<Key, Conversation>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

impl DocumentFile {
    /// Opens a file to replace it with a document when the run begins. Other files than such documents are not
    /// replaced.
    pub(in crate::outputs) fn open(path: &Path, mut options: FileOptions) -> io::Result<Self> {
        refuse_others(path)?;
        let mut beginning = options.beginning.bytes();
        beginning.extend_from_slice(END);
        options.beginning = Beginning::new(beginning.clone(), |_| Repeated::Never);
        let mut file = FileOutput::open(path, options)?;
        // The beginning is written here, and not as a record.
        file.begins = false;
        if !file.is_regular() {
            return Err(io::Error::other(
                "only a regular file can be a HAR document, because its end is overwritten",
            ));
        }
        if file.file.metadata()?.len() == 0 {
            file.file.write_all_at(&beginning, 0)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            generation: 0,
            end: 0,
            has_entries: false,
            conversations: Conversations::default(),
            buffer: Vec::new(),
        })
    }

    fn add(&mut self, record: &[u8]) -> io::Result<()> {
        match Record::parse(record) {
            Some(Record::Beginning(beginning)) => self.begin(beginning),
            Some(Record::Entry(entry)) => self.add_entry(&[entry]).map(|_| ()),
            Some(Record::Conversation { key, side, entry }) => {
                self.add_conversation(key, side, entry, &[], ROOM)
            }
            Some(Record::Message {
                key,
                sent,
                side,
                entry,
                message,
            }) => self.add_message(key, sent, (side, entry), message),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Replaces what the file holds.
    fn begin(&mut self, beginning: &[u8]) -> io::Result<()> {
        if let Some(replacement) = self.file.replacement.take() {
            self.file.file = replacement.begin_over()?;
        } else if self.file.file.metadata()?.len() > 0 {
            return Err(io::Error::other(format!(
                "{}: it was changed, and a document cannot be continued in it",
                self.path.display()
            )));
        }
        overwrite(&self.file.file)?;
        self.buffer.clear();
        self.buffer.extend_from_slice(beginning);
        self.buffer.extend_from_slice(END);
        let size = self.buffer.len() as u64;
        // A new file has these bytes already, so that it is a document all the time.
        let written = self.file.file.write_all_at(&self.buffer, 0);
        if let Err(error) = written.and_then(|()| self.file.file.set_len(size)) {
            self.file.file.set_len(0)?;
            return Err(self.file.named(&error));
        }
        self.start_at(size);
        Ok(())
    }

    /// The file is a document of `size` bytes without entries.
    fn start_at(&mut self, size: u64) {
        self.generation = self.file.generation;
        self.end = size - END.len() as u64;
        self.file.size = size;
        self.has_entries = false;
        self.conversations.leave_file();
    }

    /// Adds an entry, of all `parts`. Returns where it begins.
    fn add_entry(&mut self, parts: &[&[u8]]) -> io::Result<u64> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.file.rotate_if_due(bytes + END.len());
        self.notice_change()?;
        let separator: &[u8] = if self.has_entries { b",\n" } else { b"\n" };
        self.buffer.clear();
        self.buffer.extend_from_slice(separator);
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        self.buffer.extend_from_slice(END);
        if let Err(error) = self.file.file.write_all_at(&self.buffer, self.end) {
            // The place of the end is there, also on a full disk.
            self.write_end()?;
            self.file.broke_at = self.file.size;
            return Err(self.file.named(&error));
        }
        let start = self.end + separator.len() as u64;
        self.end = start + bytes as u64;
        self.has_entries = true;
        self.file.size = self.end + END.len() as u64;
        self.file.note_records();
        Ok(start)
    }

    /// After a rotation the state is that of a document without entries.
    fn notice_change(&mut self) -> io::Result<()> {
        if self.generation != self.file.generation {
            overwrite(&self.file.file)?;
            self.start_at(self.file.size);
        }
        Ok(())
    }

    fn write_end(&self) -> io::Result<()> {
        self.file.file.write_all_at(END, self.end)?;
        self.file.file.set_len(self.end + END.len() as u64)
    }

    fn add_conversation(
        &mut self,
        key: Key,
        side: Side,
        entry: &[u8],
        message: &[u8],
        room: usize,
    ) -> io::Result<()> {
        let spaces = vec![b' '; room];
        let start = self.add_entry(&[entry, message, &spaces, CONVERSATION_END])?;
        let repeated = if entry.len() > REPEATED_BYTES { &[] } else { entry };
        self.conversations.insert(
            key,
            Conversation {
                side,
                entry: repeated.into(),
                at: start + (entry.len() + message.len()) as u64,
                room,
                reserved: room,
                has_messages: !message.is_empty(),
                last_used: 0,
            },
        );
        Ok(())
    }

    /// Adds a message to the entry of its WebSocket, or to a new one. `otherwise` is the entry if there is none.
    fn add_message(
        &mut self,
        key: Key,
        sent: bool,
        otherwise: (Side, &[u8]),
        message: &[u8],
    ) -> io::Result<()> {
        self.notice_change()?;
        let mut text = Vec::with_capacity(message.len() + 20);
        let Some(conversation) = self.conversations.take(key) else {
            push_message(sent, otherwise.0, message, &mut text);
            return self.add_conversation(key, otherwise.0, otherwise.1, &text, ROOM);
        };
        if conversation.has_messages {
            text.push(b',');
        }
        push_message(sent, conversation.side, message, &mut text);
        if text.len() <= conversation.room {
            let written = self.file.file.write_all_at(&text, conversation.at);
            let advance = if written.is_ok() { text.len() } else { 0 };
            if written.is_err() {
                let _blank = self
                    .file
                    .file
                    .write_all_at(&vec![b' '; text.len()], conversation.at);
                self.file.broke_at = self.file.size;
            }
            self.conversations.insert(
                key,
                Conversation {
                    at: conversation.at + advance as u64,
                    room: conversation.room - advance,
                    has_messages: conversation.has_messages || advance > 0,
                    ..conversation
                },
            );
            return written.map_err(|error| self.file.named(&error));
        }
        let text = text.strip_prefix(b",").unwrap_or(&text);
        let repeated = Some(&*conversation.entry).filter(|entry| !entry.is_empty());
        let entry = repeated.unwrap_or(otherwise.1);
        let head = entry
            .strip_suffix(CONVERSATION_CONTINUES)
            .or_else(|| entry.strip_suffix(CONVERSATION_OPEN))
            .unwrap_or(entry);
        let entry = [head, CONVERSATION_CONTINUES].concat();
        let room = (conversation.reserved * 2).clamp(ROOM, LARGEST_ROOM);
        let added = self.add_conversation(key, conversation.side, &entry, text, room);
        if added.is_err() {
            self.conversations.insert(key, conversation);
        }
        added
    }
}

impl Conversations {
    fn insert(&mut self, key: Key, mut conversation: Conversation) {
        self.take(key);
        self.uses += 1;
        conversation.last_used = self.uses;
        self.by_use.insert(self.uses, key);
        self.by_key.insert(key, conversation);
        if self.by_key.len() > CONVERSATIONS
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_key.remove(&oldest);
        }
    }

    fn take(&mut self, key: Key) -> Option<Conversation> {
        let conversation = self.by_key.remove(&key)?;
        self.by_use.remove(&conversation.last_used);
        Some(conversation)
    }

    /// Their entries are in another file.
    fn leave_file(&mut self) {
        for conversation in self.by_key.values_mut() {
            (conversation.room, conversation.reserved) = (0, 0);
        }
    }
}

impl Target for DocumentFile {
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        let mut taken = 0;
        for record in records.records() {
            match self.add(record) {
                Ok(()) => taken += record.len(),
                Err(error) if taken == 0 => return Err(error),
                // The next call meets the same error.
                Err(_) => break,
            }
        }
        Ok(Taken::written(taken))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        let resumption = self.file.reopen()?;
        overwrite(&self.file.file)?;
        if resumption == Resumption::SamePlace && self.end > 0 {
            self.write_end()?;
        }
        Ok(resumption)
    }

    fn renew(&mut self) {
        self.file.renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.file.tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        self.file.tend()
    }
}

/// Makes writes go where they are meant to, instead of to the end of the file.
fn overwrite(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(())
}

/// An error if there is a file that is not a HAR document.
fn refuse_others(path: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => {
            file.take(BEGINNING.len() as u64).read_to_end(&mut start)?
        }
        _ => 0,
    };
    let start: Vec<u8> = start
        .into_iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if start.is_empty() || start.starts_with(br#"{"log":"#) {
        return Ok(());
    }
    Err(io::Error::other(
        "there is a file that is not a HAR document, and it would be replaced; remove it, or name another file",
    ))
}
