//! Decodes one stream for several outputs that want to see it differently.

use bytes::Bytes;
use ecapture_protocols::message::Gap;
use ecapture_protocols::{Output, PeerNotice, StreamDecoder};

type Decoder = dyn StreamDecoder;

/// One decoder for each view, fed with the same bytes. What they learn of the stream is the same, so
/// only the first one's skipped bytes are passed on, and the notices of one: the first whose responses bring
/// their requests, or else the first that pairs, because its notices include all others'.
pub(super) struct Views {
    decoders: Vec<Box<dyn StreamDecoder>>,
    notifies: usize,
}

impl Views {
    /// The decoders in the order of the views; `notifies` is the number of the one whose notices are
    /// passed on.
    pub(super) fn new(decoders: Vec<Box<dyn StreamDecoder>>, notifies: usize) -> Self {
        Self { decoders, notifies }
    }

    fn each(&mut self, output: &mut Output, mut act: impl FnMut(&mut Decoder, &mut Output)) {
        let Some((first, others)) = self.decoders.split_first_mut() else {
            return;
        };
        let before = output.notices.len();
        act(first.as_mut(), output);
        if self.notifies > 0 {
            output.notices.truncate(before);
        }
        output.other_views.resize_with(others.len(), Vec::new);
        let mut other = Output::default();
        for (index, (decoder, messages)) in others.iter_mut().zip(&mut output.other_views).enumerate() {
            std::mem::swap(&mut other.messages, messages);
            act(decoder.as_mut(), &mut other);
            std::mem::swap(&mut other.messages, messages);
            if index + 1 == self.notifies {
                output.notices.append(&mut other.notices);
            }
            other.clear();
        }
    }

    fn any(&self, asks: impl Fn(&Decoder) -> bool) -> bool {
        self.decoders.iter().any(|decoder| asks(decoder.as_ref()))
    }
}

impl StreamDecoder for Views {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.each(output, |decoder, output| {
            decoder.feed(payload, timestamp_ns, output);
        });
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.each(output, |decoder, output| decoder.gap(gap, timestamp_ns, output));
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        self.each(output, |decoder, output| decoder.notice(notice, output));
    }

    fn begin_late(&mut self, last: Option<u32>) {
        for decoder in &mut self.decoders {
            decoder.begin_late(last);
        }
    }

    fn awaits_notice(&self) -> bool {
        self.any(StreamDecoder::awaits_notice)
    }

    fn awaits_end(&self) -> bool {
        self.any(StreamDecoder::awaits_end)
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        self.each(output, |decoder, output| {
            if decoder.awaits_notice() {
                decoder.notice_overdue(output);
            }
        });
    }

    fn has_more(&self) -> bool {
        self.any(StreamDecoder::has_more)
    }

    fn go_on(&mut self, output: &mut Output) {
        self.each(output, |decoder, output| {
            if decoder.has_more() {
                decoder.go_on(output);
            }
        });
    }

    fn has_parts(&self) -> bool {
        self.any(StreamDecoder::has_parts)
    }

    fn emit_parts(&mut self, output: &mut Output) {
        self.each(output, StreamDecoder::emit_parts);
    }

    fn idle(&mut self, output: &mut Output) {
        self.each(output, StreamDecoder::idle);
    }

    fn sleep(&mut self) {
        self.decoders.iter_mut().for_each(|decoder| decoder.sleep());
    }

    fn is_begun_anew(&self, payload: &[u8]) -> bool {
        self.any(|decoder| decoder.is_begun_anew(payload))
    }

    fn close(&mut self, output: &mut Output) {
        self.each(output, StreamDecoder::close);
    }

    fn buffered_bytes(&self) -> usize {
        self.decoders.iter().map(|decoder| decoder.buffered_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use ecapture_protocols::decoder::Options;
    use ecapture_protocols::{View, stream_decoder};

    use super::*;

    #[test]
    fn every_view_goes_on_with_what_it_held() {
        let decoder = |view| {
            stream_decoder(Options {
                view,
                ..Options::default()
            })
        };
        let structured = View::Structured { frames: false };
        let mut views = Views::new(vec![decoder(View::Text), decoder(structured)], 1);
        let mut output = Output::default();
        let responses = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(1000);
        views.feed(&Bytes::from(responses), 1, &mut output);
        views.notice_overdue(&mut output);
        assert!(views.has_more(), "it takes more than one step");
        while views.has_more() {
            views.go_on(&mut output);
        }
        assert_eq!(output.messages.len(), 1000);
        assert_eq!(output.other_views[0].len(), 1000);
    }
}
