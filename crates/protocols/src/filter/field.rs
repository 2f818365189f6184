//! The fields of messages.

use super::table::{Entry, FIELDS};
pub(super) use super::table::{FieldName, Kind};

/// A field, and the name of the header for `http.header["name"]`.
#[derive(Debug, Clone)]
pub(super) struct Field {
    entry: &'static Entry,
    /// In lower case.
    header: Option<String>,
}

/// Returns the names of all fields.
pub fn fields() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|entry| entry.text)
}

impl Field {
    /// Returns the field of that name.
    pub(super) fn named(text: &str) -> Option<Self> {
        let entry = FIELDS.iter().find(|entry| entry.text == text)?;
        Some(Self { entry, header: None })
    }

    /// The same for the header of that name.
    pub(super) fn of_header(self, name: &str) -> Self {
        Self {
            header: Some(name.to_ascii_lowercase()),
            ..self
        }
    }

    pub(super) const fn name(&self) -> FieldName {
        self.entry.name
    }

    pub(super) const fn kind(&self) -> Kind {
        self.entry.kind
    }

    /// Returns the name of the header in lower case; empty if it is that of another kind of field, or not known yet.
    pub(super) fn header(&self) -> &str {
        self.header.as_deref().unwrap_or(self.entry.header)
    }

    /// Returns true if all messages of a connection have the same values.
    pub(super) const fn is_of_connection(&self) -> bool {
        matches!(
            self.name(),
            FieldName::Address
                | FieldName::AddressDestination
                | FieldName::AddressSource
                | FieldName::Comm
                | FieldName::Connection
                | FieldName::Ipv4
                | FieldName::Ipv6
                | FieldName::Pid
                | FieldName::Port
                | FieldName::PortDestination
                | FieldName::PortSource
                | FieldName::Program
                | FieldName::Tcp
                | FieldName::TcpStream
                | FieldName::Uid
        )
    }

    pub(super) const fn is_of_response(&self) -> bool {
        self.entry.of_response
    }

    pub(super) const fn is_of_content(&self) -> bool {
        self.entry.of_content
    }
}

/// Returns the field whose name is most like `text`, for a message.
pub(super) fn similar(text: &str) -> Option<&'static str> {
    let distance = |name: &&str| edits(text.as_bytes(), name.as_bytes());
    fields()
        .min_by_key(distance)
        .filter(|name| distance(name) <= text.len().min(name.len()) / 3)
}

/// Returns the number of changed, added and removed bytes between two short names.
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.iter().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, against) in other.iter().enumerate() {
            let change = diagonal + usize::from(byte != against);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
