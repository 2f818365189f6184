//! Plays recorded streams through decoders, as the pipeline does.

use bytes::Bytes;
use ecapture_protocols::decoder::Skipped;
use ecapture_protocols::message::Gap;
use ecapture_protocols::{Message, Options, Output, PeerNotice, StreamDecoder, stream_decoder};

use super::fixture::Fixture;
use super::random::Random;

/// How events are cut into the pieces that are fed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Split {
    /// As they were recorded.
    Whole,
    /// Byte by byte.
    Bytes,
    /// The stream in two pieces, cut before the byte of this number.
    At(usize),
    /// At random, from this seed.
    Random(u64),
}

/// The output of a stream's decoder.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) messages: Vec<Message>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Decoders for the streams of a fixture.
pub(crate) struct Player<'a> {
    fixture: &'a Fixture,
    decoders: Vec<Box<dyn StreamDecoder>>,
    played: Vec<Played>,
}

/// Feeds everything in recorded order, cut by `split`, and closes all streams.
pub(crate) fn play(fixture: &Fixture, options: Options, split: Split) -> Vec<Played> {
    let mut player = Player::new(fixture, options);
    let mut random = Random::new(match split {
        Split::Random(seed) => seed,
        Split::Whole | Split::Bytes | Split::At(_) => 0,
    });
    let mut offsets = vec![0; fixture.streams.len()];
    for &(stream, event) in &fixture.order {
        let event = &fixture.streams[stream].events[event];
        if event.delay_ns > 1_000_000_000 {
            player.idle();
        }
        let offset = &mut offsets[stream];
        for piece in pieces(&event.payload, *offset, split, &mut random) {
            player.feed(stream, &piece, event.timestamp_ns);
        }
        *offset += event.payload.len();
    }
    player.close()
}

fn pieces(payload: &Bytes, offset: usize, split: Split, random: &mut Random) -> Vec<Bytes> {
    match split {
        Split::Bytes => (0..payload.len())
            .map(|index| payload.slice(index..=index))
            .collect(),
        Split::At(at) if at > offset && at < offset + payload.len() => {
            vec![payload.slice(..at - offset), payload.slice(at - offset..)]
        }
        Split::Whole | Split::At(_) => vec![payload.clone()],
        Split::Random(_) => {
            let mut rest = payload.clone();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let longest = rest.len();
                pieces.push(rest.split_to(1 + random.length(longest - 1)));
            }
            pieces
        }
    }
}

impl<'a> Player<'a> {
    pub(crate) fn new(fixture: &'a Fixture, options: Options) -> Self {
        let streams = || fixture.streams.iter();
        Self {
            fixture,
            decoders: streams().map(|_| stream_decoder(options)).collect(),
            played: streams().map(|_| Played::default()).collect(),
        }
    }

    pub(crate) fn feed(&mut self, stream: usize, payload: &Bytes, timestamp_ns: u64) {
        self.act(stream, |decoder, output| {
            decoder.feed(payload, timestamp_ns, output);
        });
    }

    pub(crate) fn gap(&mut self, stream: usize, gap: Gap, timestamp_ns: u64) {
        self.act(stream, |decoder, output| decoder.gap(gap, timestamp_ns, output));
    }

    pub(crate) fn idle(&mut self) {
        for stream in 0..self.decoders.len() {
            self.act(stream, |decoder, output| decoder.idle(output));
        }
    }

    pub(crate) fn close(mut self) -> Vec<Played> {
        for stream in 0..self.decoders.len() {
            self.act(stream, |decoder, output| decoder.close(output));
        }
        self.played
    }

    fn act(&mut self, stream: usize, act: impl FnOnce(&mut dyn StreamDecoder, &mut Output)) {
        let mut output = Output::default();
        act(&mut *self.decoders[stream], &mut output);
        let notices = std::mem::take(&mut output.notices);
        self.played[stream].messages.append(&mut output.messages);
        self.played[stream].skipped.append(&mut output.skipped);
        self.notify(stream, &notices);
    }

    /// Passes notices to the other direction of the connection.
    fn notify(&mut self, from: usize, notices: &[PeerNotice]) {
        let streams = &self.fixture.streams;
        let peer = (0..streams.len())
            .find(|&other| other != from && streams[other].connection == streams[from].connection);
        if let Some(peer) = peer {
            for notice in notices {
                self.act(peer, |decoder, output| decoder.notice(notice, output));
            }
        }
    }
}
