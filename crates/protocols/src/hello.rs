//! ClientHello and ServerHello of TLS (RFC 8446 §4.1.2 and §4.1.3), as far as they are there: a message may be whole, or
//! end with the packet that it is in.

use crate::event::CLIENT_RANDOM_BYTES;

/// A random, of either side.
pub(crate) type Random = [u8; CLIENT_RANDOM_BYTES];

/// Types of handshake messages.
pub(crate) const CLIENT_HELLO: u8 = 1;
pub(crate) const SERVER_HELLO: u8 = 2;
/// Versions of TLS.
pub(crate) const TLS_1_3: u16 = 0x0304;

/// RFC 8446 §4.1.3: SHA-256 of "HelloRetryRequest".
pub(crate) const RETRY: Random = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2,
    0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];
const ENCRYPT_THEN_MAC: u16 = 22;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;

/// A ClientHello that is there at least up to its random.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientHello<'a> {
    pub(crate) random: Random,
    rest: Fields<'a>,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of a message.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let mut rest = Fields(body);
        rest.number()?;
        let random = *rest.take(CLIENT_RANDOM_BYTES)?.first_chunk()?;
        Some(Self { random, rest })
    }

    /// Returns whether data may follow before the server has said anything; `None` if it is not there up to its
    /// extensions.
    pub(crate) fn offers_early_data(self) -> Option<bool> {
        let mut rest = self.rest;
        rest.short_vector()?;
        rest.vector()?;
        rest.short_vector()?;
        Some(rest.extensions().any(|(kind, _)| kind == EARLY_DATA))
    }
}

/// A ServerHello that is there at least up to its random.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerHello<'a> {
    pub(crate) random: Random,
    version: u16,
    rest: Fields<'a>,
}

/// What the server has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) version: u16,
    pub(crate) suite: u16,
    pub(crate) encrypt_then_mac: bool,
}

impl<'a> ServerHello<'a> {
    /// Reads the body of a message.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let mut rest = Fields(body);
        let version = rest.number()?;
        let random = *rest.take(CLIENT_RANDOM_BYTES)?.first_chunk()?;
        Some(Self {
            random,
            version,
            rest,
        })
    }

    /// Returns true if it is a HelloRetryRequest: the client is to begin again.
    pub(crate) fn asks_again(&self) -> bool {
        self.random == RETRY
    }

    /// Returns what it chooses; `None` if it is not there up to its extensions. Of these the ones that are there count.
    pub(crate) fn choice(self) -> Option<Choice> {
        let mut rest = self.rest;
        rest.short_vector()?;
        let suite = rest.number()?;
        rest.take(1)?;
        let mut choice = Choice {
            version: self.version,
            suite,
            encrypt_then_mac: false,
        };
        for (kind, value) in rest.extensions() {
            match (kind, value) {
                (SUPPORTED_VERSIONS, &[high, low]) => choice.version = u16::from_be_bytes([high, low]),
                (ENCRYPT_THEN_MAC, _) => choice.encrypt_then_mac = true,
                _ => {}
            }
        }
        Some(choice)
    }
}

/// The fields that are left of a message.
#[derive(Debug, Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of two bytes.
    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A value with its length, two bytes, before it.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// A value with its length, one byte, before it.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let &[length] = self.take(1)?.first_chunk()?;
        self.take(length.into())
    }

    /// The extensions that are there, if there are any.
    fn extensions(mut self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let length = self.number().unwrap_or_default();
        let mut rest = Fields(&self.0[..self.0.len().min(length.into())]);
        std::iter::from_fn(move || Some((rest.number()?, rest.vector()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: u16 = 0x1301;

    /// With a session id of one byte.
    fn server(extensions: &[u8]) -> Vec<u8> {
        let length = u8::try_from(extensions.len()).unwrap();
        [&[3, 3], &[8; 32][..], &[1, 9, 0x13, 1, 0, 0, length], extensions].concat()
    }

    #[test]
    fn what_is_there_of_a_server_hello_counts() {
        let whole = server(&[0, 22, 0, 0, 0, 43, 0, 2, 3, 4]);
        for end in 0..=whole.len() {
            let found = ServerHello::read(&whole[..end]);
            assert_eq!(found.is_some(), end >= 34, "{end}");
            let expected = (end >= 39).then_some(Choice {
                version: if end == whole.len() { TLS_1_3 } else { 0x0303 },
                suite: SUITE,
                encrypt_then_mac: end >= 45,
            });
            assert_eq!(found.and_then(ServerHello::choice), expected, "{end}");
        }
        // An extension that says that it is longer than the message, and bytes behind the extensions.
        let choice = |bytes: &[u8]| ServerHello::read(bytes)?.choice();
        assert_eq!(choice(&server(&[0, 43, 0, 9, 3, 4])).unwrap().version, 0x0303);
        let behind = [&server(&[]), &[0, 43, 0, 2, 3, 4][..]].concat();
        assert_eq!(choice(&behind).unwrap().version, 0x0303);
    }

    #[test]
    fn the_random_of_a_client_hello_is_there_before_the_rest() {
        let whole = [
            &[3, 3],
            &[7; 32][..],
            &[0, 0, 2, 0x13, 1, 1, 0, 0, 4, 0, 42, 0, 0],
        ]
        .concat();
        for end in 0..=whole.len() {
            let found = ClientHello::read(&whole[..end]);
            assert_eq!(found.map(|hello| hello.random), (end >= 34).then_some([7; 32]));
            let expected = (end >= 41).then_some(end == whole.len());
            assert_eq!(found.and_then(ClientHello::offers_early_data), expected, "{end}");
        }
    }
}
