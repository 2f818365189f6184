//! The meaning of the command line: resolved and checked, before anything is opened.

mod capture;
mod filters;
mod libraries;
mod limits;
mod listen;
mod log_targets;
mod mode;
mod output_options;
mod output_target;
mod outputs;
mod packets;
mod privacy;
mod unbuilt;
pub(crate) mod watch;

pub(crate) use capture::CaptureSettings;
pub(crate) use libraries::Libraries;
pub(crate) use listen::{ListenAddress, ListenSettings};
pub(crate) use log_targets::log_targets;
pub(crate) use outputs::OutputSettings;
pub(crate) use packets::{outputs as outputs_of, refuse as refuse_packets, selecting_words};

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ecapture_probe::DEFAULT_RING_BYTES;

    use super::capture::ring_bytes;
    use super::output_target::OutputTarget;
    use super::*;
    use crate::args::{Cli, Command};
    use crate::usage::UsageError;

    fn resolve(line: &str) -> Result<(OutputSettings, CaptureSettings), UsageError> {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Tls(tls) = &cli.command else {
            panic!("a tls command")
        };
        Ok((
            OutputSettings::resolve(&cli.global)?,
            CaptureSettings::resolve(&cli.global, tls.into(), &tls.capture)?,
        ))
    }

    #[test]
    fn zero_means_no_filter() {
        let (output, capture) = resolve("ecapture tls -p 0 -u 0 -t 0").unwrap();
        assert_eq!((capture.pids, capture.uid, output.truncate), (vec![], None, None));
        let (output, capture) = resolve("ecapture tls -p 5 -u 6 -t 7").unwrap();
        assert_eq!(
            (capture.pids, capture.uid, output.truncate),
            (vec![5], Some(6), Some(7))
        );
    }

    #[test]
    fn packets_replace_the_text_unless_an_output_is_named() {
        let outputs = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::Tls(tls) = &cli.command else {
                panic!("a tls command")
            };
            let output = outputs_of(&cli.global, &tls.capture).unwrap();
            output.outputs.iter().map(OutputTarget::name).collect::<Vec<_>>()
        };
        assert_eq!(outputs("ecapture tls"), ["text"]);
        assert_eq!(outputs("ecapture tls -m pcap"), ["packets:save.pcapng"]);
        assert_eq!(outputs("ecapture tls -m PcapNG -w -"), ["packets"]);
        assert_eq!(
            outputs("ecapture tls -m pcap -w f -o jsonl:g"),
            ["jsonl:g", "packets:f"]
        );
        let (_, capture) = resolve("ecapture tls -m pcap -i lo,eth0 --snaplen 0 tcp port 443").unwrap();
        let packets = capture.packets.unwrap();
        assert_eq!(packets.filter.as_deref(), Some("tcp port 443"));
        assert_eq!(
            packets.interfaces,
            ecapture_probe::Interfaces::Named(vec!["lo".into(), "eth0".into()])
        );
        assert!(!packets.of_processes);
        assert_eq!(packets.ring_bytes, DEFAULT_RING_BYTES.max(capture.ring_bytes));
        let (_, capture) = resolve("ecapture tls -m pcap --mapsize 8192").unwrap();
        assert!(capture.ring_bytes > DEFAULT_RING_BYTES);
        assert_eq!(capture.packets.unwrap().ring_bytes, capture.ring_bytes);
        for filters in ["-p 5", "-u 1", "--cgroup_path /x"] {
            let (_, capture) = resolve(&format!("ecapture tls -m pcap {filters}")).unwrap();
            assert!(capture.packets.unwrap().of_processes, "{filters}");
        }
        let (_, capture) = resolve("ecapture tls -m pcap -p 0 -u 0").unwrap();
        assert!(!capture.packets.unwrap().of_processes);
    }

    #[test]
    fn what_is_not_needed_is_accepted() {
        for flags in [
            "--ssl_version x",
            "--perf-reorder",
            "--perf-reorder-lag-ms 5",
            "-b 2",
        ] {
            assert!(resolve(&format!("ecapture tls {flags}")).is_ok(), "{flags}");
        }
    }

    #[test]
    fn values_are_checked() {
        for flags in [
            "-m nonsense",
            "-b 3",
            "--inject discovery-hold:",
            "--inject tables:0",
            "--inject nothing",
            "--inject drop-event:every=2",
            "--mapsize 0",
            "--mapsize 999999999",
            "--eventaddr tcp://nowhere",
            "--eventaddr tcp://h:0",
            "--hex --format jsonl",
            "--hex -o jsonl",
            "-o nothing",
            "-o text:tcp://h",
            "--listen 0.0.0.0:1",
            "--listen-token 0123456789abcdef",
            "--max-memory 31",
            "--max-workers 1",
            "--max-buffered 63",
            "--pid 1 -- true",
            "--follow-children",
            "--stats 0",
        ] {
            let error = resolve(&format!("ecapture tls {flags}")).unwrap_err();
            assert!(matches!(error, UsageError::Value { .. }), "{flags}: {error}");
        }
        assert!(matches!(
            resolve("ecapture tls curl").unwrap_err(),
            UsageError::Filter(_)
        ));
    }

    #[test]
    fn outputs_that_cannot_go_together_are_refused_with_a_way_out() {
        for flags in [
            "-o text -o jsonl",
            "-o text:/x/f -o jsonl:/x/f",
            "-o text --format jsonl",
            "--eventaddr f -o text",
            "--eventroratesize 1",
            "--eventroratetime 1 --eventaddr tcp://h:1",
            "--eventroratetime 1 -o text:f",
        ] {
            let error = resolve(&format!("ecapture tls {flags}")).unwrap_err();
            assert!(matches!(error, UsageError::Outputs { .. }), "{flags}: {error}");
            assert!(error.to_string().contains("; "), "{flags}: {error}");
        }
        let (output, _) = resolve("ecapture tls -o text -o jsonl:a -o recording:b").unwrap();
        let names: Vec<_> = output.outputs.iter().map(OutputTarget::name).collect();
        assert_eq!(names, ["text", "jsonl:a", "recording:b"]);
    }

    #[test]
    fn the_ring_is_a_power_of_two_within_its_bounds() {
        assert_eq!(ring_bytes(1024, 2).unwrap(), 8 * 1024 * 1024);
        assert_eq!(ring_bytes(1, 1).unwrap(), 256 * 1024);
        assert_eq!(ring_bytes(100, 3).unwrap(), 2 * 1024 * 1024);
    }
}
