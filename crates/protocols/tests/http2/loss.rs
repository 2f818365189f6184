//! HTTP/2 connections that are captured in part: without the beginning, or without any one event.
//!
//! Whatever is missing, the output has to be true: the same frames, the same fields where they are
//! known, no content under the fields of another message.

use std::collections::BTreeMap;

use crate::support::halves::{STRUCTURED, TEXT, case_names, contents, decode, halves, options, oracle};
use bytes::Bytes;
use ecapture_protocols::http2::Http2Decoder;
use ecapture_protocols::message::{BodyError, Field, Gap, GapReason, Http2Detail, Http2Frame, Http2Message};
use ecapture_protocols::{Content, Output, StreamDecoder, View};

/// Returns directions as lists of events: recorded ones, if they are available, and some made by
/// h2.
fn directions() -> Vec<Vec<Bytes>> {
    let mut directions = Vec::new();
    for seed in 0..3 {
        let connection = crate::support::exchange::connection(seed, 30);
        directions.extend([connection.client, connection.server]);
    }
    if let Some(oracle) = oracle() {
        for name in case_names(&oracle) {
            directions.extend(halves(&oracle.join(name)).into_iter().map(|half| half.events));
        }
    }
    directions
}

/// Decodes the events from `start` on, without the one at `missing`.
fn partial(view: View, events: &[Bytes], start: usize, missing: Option<usize>) -> Vec<Content> {
    let mut decoder = Http2Decoder::new(options(view), start == 0);
    let mut output = Output::default();
    for (at, event) in events.iter().enumerate().skip(start) {
        if missing == Some(at) {
            let bytes = Some(event.len() as u64);
            let reason = GapReason::KernelLoss;
            decoder.gap(Gap { bytes, reason }, 0, &mut output);
        } else {
            decoder.feed(event, 0, &mut output);
        }
    }
    decoder.close(&mut output);
    contents(output.messages)
}

/// Returns the frames that are in the bytes, which merged content and the gap are not.
fn frames(contents: &[Content]) -> Vec<&Http2Frame> {
    let mut frames = Vec::new();
    for content in contents {
        if let Content::Http2Frame(frame) = content
            && !matches!(frame.detail, Http2Detail::Merged(_))
        {
            frames.push(&**frame);
        }
    }
    frames
}

#[derive(Default)]
struct Tally {
    right: usize,
    unknown: usize,
}

impl Tally {
    /// Checks that known names and values are the true ones.
    fn check(&mut self, found: &[Field], truth: &[Field], how: &str) {
        assert!(found.len() <= truth.len(), "{how}: {found:?} for {truth:?}");
        for (found, truth) in found.iter().zip(truth) {
            let name_right = found.name.is_none() || found.name == truth.name;
            let value_right = found.value.is_none() || found.value == truth.value;
            assert!(
                name_right && value_right,
                "{how}: wrong field {found:?} for {truth:?}"
            );
            if found.name.is_some() && found.value.is_some() {
                self.right += 1;
            } else {
                self.unknown += 1;
            }
        }
    }
}

fn same_frame(found: &Http2Frame, truth: &Http2Frame) -> bool {
    let key = |frame: &Http2Frame| (frame.frame_type, frame.flags, frame.stream, frame.length);
    key(found) == key(truth)
}

/// Returns how many of the last frames are the last frames of `truth`, and checks their fields.
fn check_end(found: &[&Http2Frame], truth: &[&Http2Frame], tally: &mut Tally, how: &str) -> usize {
    let mut same = 0;
    for (found, truth) in found.iter().rev().zip(truth.iter().rev()) {
        if !same_frame(found, truth) {
            break;
        }
        same += 1;
        if let (Http2Detail::Fields { fields, .. }, Http2Detail::Fields { fields: truth, .. }) =
            (&found.detail, &truth.detail)
        {
            tally.check(fields, truth, how);
        }
    }
    same
}

#[test]
fn a_late_attach_shows_nothing_wrong() {
    let mut tally = Tally::default();
    let (mut attaches, mut found_frames, mut true_frames) = (0, 0, 0);
    for (number, events) in directions().iter().enumerate() {
        let whole = decode(TEXT, events);
        let whole = frames(&whole);
        for start in 1..events.len() {
            let how = format!("direction {number} from event {start}");
            let contents = partial(TEXT, events, start, None);
            let found = frames(&contents);
            assert!(found.len() <= whole.len(), "{how}: more frames than there are");
            let same = check_end(&found, &whole, &mut tally, &how);
            assert_eq!(same, found.len(), "{how}: a frame that is none");
            attaches += 1;
            found_frames += found.len();
            // Frames that begin at or after the attach, at most one more than end after it.
            let before = decode(TEXT, &events[..start]);
            true_frames += whole.len() - frames(&before).len().min(whole.len());
        }
    }
    let fields = tally.right + tally.unknown;
    println!(
        "{attaches} attaches: {found_frames} of {true_frames} frames found, 0 wrong; of {fields} fields {} right, {} \
         unknown, 0 wrong",
        tally.right, tally.unknown
    );
    assert!(
        tally.right > tally.unknown && tally.unknown > 0,
        "the recordings use the dynamic table"
    );
    assert!(
        found_frames * 100 >= true_frames * 95,
        "less than 95 % of the frames found"
    );
}

#[test]
fn a_lost_event_shows_nothing_wrong_in_text() {
    let mut tally = Tally::default();
    let (mut losses, mut lost_frames, mut whole_frames) = (0, 0, 0);
    for (number, events) in directions().iter().enumerate() {
        let whole = decode(TEXT, events);
        let whole = frames(&whole);
        for missing in 0..events.len() {
            let how = format!("direction {number} without event {missing}");
            let contents = partial(TEXT, events, 0, Some(missing));
            let gap = contents
                .iter()
                .position(|content| matches!(content, Content::Gap(_)));
            let gap = gap.unwrap_or_else(|| panic!("{how}: the gap is not shown"));
            let before = frames(&contents[..gap]);
            // The frame that the gap cut may have been begun.
            for (found, truth) in before.iter().zip(&whole) {
                assert!(same_frame(found, truth), "{how}: {found:?} for {truth:?}");
            }
            let after = frames(&contents[gap..]);
            let same = check_end(&after, &whole, &mut tally, &how);
            assert_eq!(same, after.len(), "{how}: a frame that is none");
            losses += 1;
            whole_frames += whole.len();
            lost_frames += whole.len().saturating_sub(before.len() + after.len());
        }
    }
    println!(
        "{losses} losses: {lost_frames} of {whole_frames} frames lost with them, 0 wrong; fields after them: {} right, {} \
         unknown, 0 wrong",
        tally.right, tally.unknown
    );
    assert!(lost_frames * 10 < whole_frames);
}

fn messages(contents: &[Content]) -> Vec<&Http2Message> {
    let mut messages = Vec::new();
    for content in contents {
        if let Content::Http2(message) = content {
            messages.push(&**message);
        }
    }
    messages
}

fn check_message(found: &Http2Message, truth: &Http2Message, tally: &mut Tally, how: &str) {
    assert_eq!(found.kind, truth.kind, "{how}");
    tally.check(&found.fields, &truth.fields, how);
    tally.check(&found.trailers, &truth.trailers, how);
    let (body, true_body) = (&found.body, &truth.body);
    // If unknown fields hide what the content is, it is shown as received.
    if body.encoding != true_body.encoding || true_body.data.len() as u64 != true_body.len {
        let unknown = found
            .fields
            .iter()
            .any(|field| field.name.is_none() || field.value.is_none());
        assert!(
            unknown || found.fields.is_empty() || body.data.is_empty() || body.error.is_some(),
            "{how}"
        );
        return;
    }
    if body.complete && body.error.is_none() {
        assert_eq!(body.data, true_body.data, "{how}: whole content");
    } else if body.error != Some(BodyError::Gap) {
        assert!(
            true_body.data.starts_with(&body.data),
            "{how}: beginning of the content"
        );
    }
}

#[test]
fn a_lost_event_pairs_nothing_wrong_in_messages() {
    let mut tally = Tally::default();
    let (mut losses, mut whole_messages, mut found_messages, mut complete) = (0, 0, 0, 0);
    for (number, events) in directions().iter().enumerate() {
        let whole = decode(STRUCTURED, events);
        let truth: BTreeMap<(u32, bool), &Http2Message> = messages(&whole)
            .into_iter()
            .map(|message| {
                (
                    (
                        message.stream,
                        message.kind == ecapture_protocols::message::Http2Kind::Request,
                    ),
                    message,
                )
            })
            .collect();
        for missing in 0..events.len() {
            let how = format!("direction {number} without event {missing}");
            let contents = partial(STRUCTURED, events, 0, Some(missing));
            let gaps = contents
                .iter()
                .filter(|content| matches!(content, Content::Gap(_)))
                .count();
            assert_eq!(gaps, 1, "{how}: the gap is shown once");
            losses += 1;
            whole_messages += truth.len();
            for found in messages(&contents) {
                let request = found.kind == ecapture_protocols::message::Http2Kind::Request;
                let truth = truth.get(&(found.stream, request));
                // Content alone does not show which side it is.
                if let Some(truth) = truth {
                    check_message(found, truth, &mut tally, &how);
                    found_messages += 1;
                } else {
                    assert!(
                        found.fields.is_empty(),
                        "{how}: a message that is none: {found:?}"
                    );
                }
                complete += usize::from(found.body.complete);
            }
        }
    }
    println!(
        "{losses} losses: {found_messages} of {whole_messages} messages shown, {complete} of them complete, 0 wrong; \
         fields: {} right, {} unknown, 0 wrong",
        tally.right, tally.unknown
    );
    assert!(found_messages * 100 >= whole_messages * 80);
}
