//! The names of the ledger in words, with what helps.

use ecapture_actors::Stage;

/// The meaning of a row of the ledger, as the end of a sentence.
pub(super) fn of(stage: Stage, reason: &str) -> &'static str {
    match (stage, reason) {
        (Stage::Kernel, "filtered") => "calls by processes that are not captured",
        (Stage::Kernel, "content") => "content left out in the kernel (--privacy metadata)",
        (Stage::Kernel, "excluded") => "data of processes that --not-pid names, or that read this output",
        (Stage::Kernel, "text_limit") => {
            "parts of statements and commands beyond the limits; each is marked in its event"
        }
        (Stage::Reader, "filtered") => "events of processes that --pid and --uid do not select",
        (Stage::Decoder, "filtered") => {
            "bytes of connections that no filter can select; they were not decoded"
        }
        (Stage::Kernel, _) => of_kernel(reason),
        (Stage::Sink, _) => of_output(reason),
        _ => of_decoding(reason),
    }
}

fn of_kernel(reason: &str) -> &'static str {
    match reason {
        "ring_full" => "the ring buffer was full; a larger --mapsize gives it more room",
        "ring_share" => {
            "the process had used up its share of the ring buffer; a larger --mapsize gives it more room"
        }
        "close_lost" => {
            "the ring buffer was full when connections ended; a larger --mapsize gives it more room"
        }
        "secret_lost" => {
            "secrets of handshakes that found the ring buffer full; a larger --mapsize gives it more room"
        }
        "secret_without_handshake" => {
            "secrets of TLS 1.3 (or of QUIC) whose handshake is unknown, because this version of the library keeps the client's random at an unknown place"
        }
        "memory_fault" => "the program's memory could not be read",
        "call_too_long" => "a call was too long, or (--privacy metadata) beside another one",
        "sent_from_file" => "the kernel sent them from files; they were never in a program's memory",
        "calls_map_full" => "more library calls at once than are tracked",
        "calls_forgotten" => {
            "more library calls at once than are tracked; some were forgotten before they returned"
        }
        "sessions_forgotten" => {
            "more TLS sessions at once than are tracked; their data is shown after a mark, though nothing may be missing"
        }
        "connections_forgotten" => {
            "more connections at once than are tracked; it is not known whether their beginning is missing"
        }
        "sessions_map_full" => "more TLS sessions at once than are tracked",
        "call_not_understood" => "a function without a stable interface was called in an unexpected way",
        "thread_ended_in_write" => "threads ended during a write; it is not known what they had sent",
        "undecodable_record" => "records from the kernel object that this version cannot decode",
        "left_in_ring" => "captured but not read before the capture ended",
        "write_not_returned" => "writes that had not returned when the capture ended",
        "call_began_before_capture" => "calls that were in progress when the capture began",
        "connection_joined_late" => {
            "connections that were opened before the probes were attached; their beginning may be missing"
        }
        "program_too_short" => "programs that connected and ended before the probes were attached",
        "program_not_inspected" => "programs that could not be inspected for TLS before the capture ended",
        "program_not_captured" => "programs with TLS that cannot be captured; each is named in the log",
        "fact_without_room" => {
            "facts about processes that are not in the output because too many came at once"
        }
        "file_without_room" => "times a new program was not inspected because too many were waiting",
        "file_given_up" => {
            "files of programs that are damaged or beyond the limits; each is named in the log"
        }
        "owner_lost" => {
            "times that it was not reported which process uses a socket, because the ring buffer for packets was full"
        }
        "packets_dropped" => "packets that found the ring buffer full; raise --mapsize or lower --snaplen",
        "packets_unreadable" => "packets whose bytes could not be read",
        "packets_not_matching" => "packets that the filter expression does not match",
        "packets_of_others" => "packets of processes that are not captured",
        "packets_of_unknown" => "packets whose process is not known, such as those of ICMP and ARP",
        "connection_open_before_capture" => {
            "connections that were open before the capture; they are shown from the middle"
        }
        _ => "lost before they were read",
    }
}

fn of_decoding(reason: &str) -> &'static str {
    match reason {
        "decode_error" => "records that could not be read",
        "injected" => "lost on purpose (--inject)",
        "worker_full" => "more arrived for one connection than may wait for its decoder; see --max-memory",
        "unfinished" => "the run ended before they were decoded",
        "shutdown_deadline" => "not decoded before the deadline for stopping",
        "worker_failed" => "a decoder failed on them",
        "worker_restart" => "waiting for, or held by, a decoder that failed",
        "body_limit" => "bodies beyond the limit; each is marked in its message",
        "buffer_limit" => "held by decoders beyond --max-buffered or --max-memory",
        "header_limit" => "headers beyond the limit",
        "resync" => "skipped in the search for the next message",
        _ => "lost on the way to the output",
    }
}

fn of_output(reason: &str) -> &'static str {
    match reason {
        "sink_closed" => "messages whose reader had closed the output",
        "sink_error" => "messages that could not be written",
        "sink_full" => {
            "messages beyond the limit while the output failed, or beyond what an output that drops could take"
        }
        "reader_slow" => "messages that at least one reader of the output was too slow to receive",
        "no_reader" => "messages written while the output had no reader",
        "rejected" => "messages that the collector refused for good; the log has its reason",
        "no_record" => "messages that the format has no records for, such as those that are not HTTP",
        "sink_deadline" => "messages that were not written before the deadline for stopping",
        _ => "messages that were not written",
    }
}

#[cfg(test)]
mod tests {
    use ecapture_actors::Loss;

    use super::*;

    #[test]
    fn every_loss_has_words_of_its_own() {
        let mut words: Vec<_> = Loss::ALL
            .iter()
            .map(|loss| of(loss.stage(), loss.as_str()))
            .collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Loss::ALL.len());
        assert!(!words.contains(&"lost on the way to the output"));
        assert!(!words.contains(&"messages that were not written"));
    }

    #[test]
    fn a_full_ring_names_the_flag_that_helps() {
        for reason in ["ring_full", "ring_share", "close_lost", "packets_dropped"] {
            assert!(of(Stage::Kernel, reason).contains("--mapsize"), "{reason}");
        }
    }
}
