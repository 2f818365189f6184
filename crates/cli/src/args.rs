//! What the user typed. Meaning is given to it in [`crate::settings`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "ecapture",
    version,
    about = "Shows what really goes through TLS on this host: no CA, no proxy, no change to any program.",
    long_about = "Shows what really goes through TLS on this host: no CA, no proxy, no change to any program.\n\n\
        Probes in the kernel copy the plaintext at the TLS library's own functions; HTTP/1, HTTP/2, gRPC, \
        WebSocket and server-sent events are decoded per connection and direction and printed when a message \
        is complete. Whatever could not be captured or shown is counted by name and printed at the end.",
    after_long_help = AFTER_HELP,
    infer_subcommands = true,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  ecapture tls                          everything that TLS libraries on this host send and receive
  ecapture tls --pid 1234 --hex         one process, as a hex dump
  ecapture tls -- curl https://example  run a command, capture it and its children, end with it
  ecapture tls --format jsonl           one JSON object per message
  ecapture tls -o text -o jsonl:FILE    print them, and keep them in a file as well
  ecapture gotls --elfpath ./server     one Go program; gnutls and nspr capture those libraries only
  ecapture record out.jsonl -- COMMAND  keep the events; `ecapture replay out.jsonl` prints them again
  ecapture doctor                       what can be captured here, and what keeps the rest from it
  ecapture demo                         see it work on this machine

Events go to standard output, logs to standard error.

Exit codes:
  0  done; also when the reader of the output went away (a closed pipe)
  1  could not start, or the run failed; the reason is on standard error
     (`doctor`: nothing can be captured on this host; the reason is in its table)
  2  the command line is wrong
  3  something was lost and --fail-on-loss was given
  With `-- COMMAND`: the command's own exit code (128 + signal), when nothing above applies.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Capture the plaintext of TLS libraries on this host (needs root).
    #[command(alias = "openssl")]
    Tls(TlsArgs),
    /// Capture the plaintext of one Go program.
    #[command(visible_alias = "tlsgo")]
    Gotls(GotlsArgs),
    /// Capture the plaintext of GnuTLS only.
    #[command(visible_alias = "gnu")]
    Gnutls(GnutlsArgs),
    /// Capture the plaintext of NSS only.
    #[command(visible_alias = "nss")]
    Nspr(NsprArgs),
    /// Capture like `tls`, and write the event stream to a file for `replay`.
    Record(RecordArgs),
    /// Print a recorded event stream through the same decoders; needs no privileges.
    Replay(ReplayArgs),
    /// Check this host, and list what has TLS in it: what would be captured, what not, and why.
    Doctor,
    /// Capture a small local HTTPS exchange for real and print it.
    Demo,
    /// Not built yet.
    #[command(hide = true)]
    Bash(UnbuiltArgs),
    /// Not built yet.
    #[command(hide = true)]
    Zsh(UnbuiltArgs),
    /// Not built yet.
    #[command(hide = true)]
    Mysqld(UnbuiltArgs),
    /// Not built yet.
    #[command(hide = true)]
    Postgres(UnbuiltArgs),
    /// Waits to be captured, then becomes the command.
    #[command(name = HELD_COMMAND, hide = true)]
    Held {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Name of the hidden command behind `-- COMMAND`.
pub(crate) const HELD_COMMAND: &str = "__held";

/// Arguments of a command that is not built yet: anything, so that the refusal is what is seen.
#[derive(Debug, Args)]
pub(crate) struct UnbuiltArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

/// Flags that every command takes, with the original's names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Log debug messages.
    #[arg(short, long, global = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) debug: bool,
    /// Log warnings and errors only. Without this flag and `--debug`, RUST_LOG says what is logged, as in
    /// `RUST_LOG=ecapture_probe=debug`.
    #[arg(short, long, global = true, conflicts_with = "debug")]
    pub(crate) quiet: bool,
    /// Kernel type information: 0 and 1 use BTF; 2 (without BTF) is not supported.
    #[arg(short, long, global = true, value_name = "MODE", default_value_t = 0)]
    pub(crate) btf: u8,
    /// Dump the formatted output in hexadecimal.
    #[arg(long, global = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) hex: bool,
    /// Size of the ring buffer in pages of 4 KiB per CPU; the total is rounded up to a power of two.
    #[arg(long, global = true, value_name = "PAGES", default_value_t = 1024)]
    pub(crate) mapsize: u32,
    /// Capture only these processes with all their threads, by id or by the name of their program, such as
    /// `1234,nginx`; 0 means all.
    #[arg(short, long, global = true, value_name = "PID|NAME", value_delimiter = ',')]
    pub(crate) pid: Vec<String>,
    /// Capture only processes of this user, by id or by name; 0 means all (`root` means root's).
    #[arg(short, long, global = true, value_name = "UID|NAME")]
    pub(crate) uid: Option<String>,
    /// Also write the logs, as JSON lines, to FILE (appending) or tcp://HOST:PORT.
    #[arg(short, long, global = true, value_name = "TARGET")]
    pub(crate) logaddr: Option<String>,
    /// Write the events to FILE (appending) or tcp://HOST:PORT instead of standard output; short for
    /// `-o FORMAT:TARGET`.
    #[arg(long, global = true, value_name = "TARGET")]
    pub(crate) eventaddr: Option<String>,
    /// Cut each message after this many bytes; 0 means never.
    #[arg(
        short,
        long,
        global = true,
        value_name = "BYTES",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) tsize: u64,
    /// Write the events in FORMAT to TARGET; may be given several times, for several outputs of one run.
    ///
    /// FORMAT is `text`, `jsonl` (one JSON object per message), `protobuf` (the original's log entries, each
    /// with its length before it), `recording` (the events as captured, for `ecapture replay`; the file is
    /// replaced) or `ecaptureq` (log entries for eCaptureQ clients; TARGET is the address to listen on,
    /// ws://HOST:PORT/). TARGET is a file (appending) or tcp://HOST:PORT; without it,
    /// standard output. `,on-error=POLICY` at the end sets what --on-sink-error sets for all. Reading waits
    /// for the slowest output; one of several with the policy `drop` is not waited for, and loses what its
    /// target is too slow for.
    #[arg(short, long, global = true, value_name = "FORMAT[:TARGET]")]
    pub(crate) output: Vec<String>,
    /// Also serve the events to eCaptureQ clients: listen on ws://HOST:PORT/; short for `-o ecaptureq:ws://…`
    /// beside the other outputs.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) ecaptureq: Option<String>,
    /// How messages are printed [default: text]; short for `-o FORMAT`.
    #[arg(long, global = true, value_enum)]
    pub(crate) format: Option<FormatName>,
    /// HTTP/2 as all its frames, as the original prints it, or as messages. The default is `all` for text
    /// and `messages` for JSON, where `all` adds the frames that belong to no message.
    #[arg(long, global = true, value_enum, value_name = "WHAT")]
    pub(crate) frames: Option<Frames>,
    /// Print a message when it is complete. Otherwise one that takes longer than a tenth of a second comes
    /// in parts, the head with the first. As text, the head of an event stream always comes before its events.
    #[arg(long, global = true)]
    pub(crate) whole: bool,
    /// When to colour the text format.
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub(crate) color: When,
    /// What to do when the events cannot be written: end the run, or open the output anew until it
    /// works, and meanwhile drop them or keep them within a bound. A message that was half written is
    /// completed first, or written again on a new connection.
    #[arg(long, global = true, value_enum, default_value_t = OnSinkError::Stop, value_name = "POLICY")]
    pub(crate) on_sink_error: OnSinkError,
    /// Memory for captured and formatted bytes, in MiB; what does not fit is shed and counted.
    #[arg(long, global = true, value_name = "MIB", default_value_t = 256)]
    pub(crate) max_memory: u32,
    /// Decoders at work at once, two per connection; beyond that the connections idle longest are
    /// let go, with what they hold shown as incomplete.
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 200_000)]
    pub(crate) max_workers: u32,
    /// What one direction of a connection may hold of an unfinished message, in KiB; then it is
    /// shown as incomplete.
    #[arg(long, global = true, value_name = "KIB", default_value_t = 16 * 1024)]
    pub(crate) max_buffered: u32,
    /// Print the figures every so many seconds; SIGUSR1 prints them at any time.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) stats: Option<u32>,
    /// Exit with code 3 when anything was lost, a connection's beginning included that may have been missed, and
    /// a program whose TLS cannot be captured (`program_not_captured`): one that the command or a process given by
    /// --pid executes, or, in a capture of the whole host, one that starts meanwhile and connects.
    /// What limits leave out of bodies (`body_limit`) is left out and not lost; it is marked in its
    /// message and summed up at the end. So are files of programs that are damaged or beyond the limits
    /// (`file_given_up`): anybody can make one.
    #[arg(long, global = true)]
    pub(crate) fail_on_loss: bool,
    /// Flags of the original that are not built yet.
    #[command(flatten)]
    pub(crate) unbuilt: UnbuiltGlobalArgs,
}

/// Global flags of the original that are refused, so that none is accepted and ignored.
#[derive(Debug, Args)]
pub(crate) struct UnbuiltGlobalArgs {
    #[arg(long, global = true, hide = true)]
    pub(crate) listen: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub(crate) eventroratesize: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub(crate) eventroratetime: Option<String>,
}

/// Flags of `tls`.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// Library or executable that carries the `SSL_*` functions; without it all that can be found
    /// on the host are used.
    #[arg(long, value_name = "FILE")]
    pub(crate) libssl: Vec<PathBuf>,
    /// What all capturing commands take.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `gotls`.
#[derive(Debug, Args)]
pub(crate) struct GotlsArgs {
    /// Go program to capture.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) elfpath: PathBuf,
    /// What all capturing commands take.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `gnutls`.
#[derive(Debug, Args)]
pub(crate) struct GnutlsArgs {
    /// Library or executable that carries the `gnutls_*` functions; without it all that can be
    /// found on the host are used.
    #[arg(long, value_name = "FILE")]
    pub(crate) gnutls: Vec<PathBuf>,
    /// What all capturing commands take.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `nspr`.
#[derive(Debug, Args)]
pub(crate) struct NsprArgs {
    /// The library libnspr4.so; without it all that can be found on the host are used.
    #[arg(long, value_name = "FILE")]
    pub(crate) nspr: Vec<PathBuf>,
    /// What all capturing commands take.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// What all capturing commands take.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Capture mode; only `text` is built.
    #[arg(short, long, default_value = "text", value_name = "MODE")]
    pub(crate) model: String,
    /// Only processes in this cgroup (a folder of the cgroup2 file system) or below it.
    #[arg(long = "cgroup_path", value_name = "FOLDER")]
    pub(crate) cgroup_path: Option<PathBuf>,
    /// With --pid: capture the children of these processes, too, those they have and those they start.
    #[arg(long)]
    pub(crate) follow_children: bool,
    /// Do not capture these processes, nor what they start, by id or by the name of their program. Whoever reads
    /// this program's output from a pipe is left out anyway, unless --pid names it.
    #[arg(long, value_name = "PID|NAME", value_delimiter = ',')]
    pub(crate) not_pid: Vec<String>,
    /// Flags of the original that are not built yet.
    #[command(flatten)]
    pub(crate) unbuilt: UnbuiltCaptureArgs,
    /// For tests: discovery-hold:FILE looks into what is found later only when FILE, such as a FIFO, was read to
    /// its end; system-calls does without what only newer kernels have for learning of sockets and mapped files;
    /// tables:N follows so many calls, threads, sessions and sockets at once.
    #[arg(long, hide = true, value_name = "FAILURE")]
    pub(crate) inject: Vec<String>,
    /// Words before `--`: the original's packet filter, which needs `-m pcap`.
    #[arg(hide = true)]
    pub(crate) filter: Vec<String>,
    /// Run COMMAND, capture only it and its children, and end with it. Where the messages go to standard
    /// output, what COMMAND prints there goes to standard error; `--eventaddr FILE` leaves it alone.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Flags of the original's capturing commands that are refused.
#[derive(Debug, Args)]
pub(crate) struct UnbuiltCaptureArgs {
    #[arg(short, long, hide = true)]
    pub(crate) keylogfile: Option<String>,
    #[arg(short = 'w', long, hide = true)]
    pub(crate) pcapfile: Option<String>,
    #[arg(short, long, hide = true)]
    pub(crate) ifname: Option<String>,
    #[arg(long = "ssl_version", hide = true)]
    pub(crate) ssl_version: Option<String>,
    #[arg(long = "perf-reorder", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) perf_reorder: Option<String>,
    #[arg(long = "perf-reorder-lag-ms", hide = true)]
    pub(crate) perf_reorder_lag_ms: Option<String>,
}

/// Flags of `record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// File to write; an existing one is replaced.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// What to capture.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// Flags of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A file written by `record`, or the original's `events.jsonl` with its `.bin` files beside it.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Refused: a recording does not have it.
    #[arg(long = "cgroup_path", hide = true)]
    pub(crate) cgroup_path: Option<PathBuf>,
    /// Test the resilience of the pipeline: make it fail on purpose. May be given several times.
    ///
    /// worker-panic:every=N (the decoder of every Nth event panics), sink-error:after=N (the output
    /// fails after N bytes, and again after N more once opened anew), slow-sink:MS (every write
    /// takes so long), reader-stall:MS (the source is silent before every batch), drop-event:every=N
    /// (every Nth event is lost before it is read). What is lost that way is counted like any loss. All
    /// decoders then run on one thread, so that the same events are hit in every run.
    #[arg(long, value_name = "FAILURE")]
    pub(crate) inject: Vec<String>,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// The original's text.
    Text,
    /// One JSON object per message and line.
    Jsonl,
}

/// How HTTP/2 is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Frames {
    /// Every frame.
    All,
    /// One message per stream and direction.
    Messages,
}

/// What to do when the events cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnSinkError {
    /// End the run.
    Stop,
    /// Count them as lost and go on.
    Drop,
    /// Keep them within a bound and try again.
    Retry,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_original_spellings_are_understood() {
        let cli =
            Cli::try_parse_from(["ecapture", "tls", "-d", "-p1234", "--hex=false", "-t", "512"]).unwrap();
        assert!(cli.global.debug && !cli.global.hex);
        assert_eq!((cli.global.pid, cli.global.tsize), (vec!["1234".to_owned()], 512));
        let cli = Cli::try_parse_from(["ecapture", "--uid=5", "openssl", "--libssl", "/x"]).unwrap();
        assert_eq!(cli.global.uid.as_deref(), Some("5"));
        assert!(
            matches!(cli.command, Command::Tls(TlsArgs { libssl, .. }) if libssl == ["/x"].map(PathBuf::from))
        );
    }

    #[test]
    fn what_follows_the_dashes_is_the_command() {
        let cli = Cli::try_parse_from(["ecapture", "record", "f", "--", "curl", "-k", "--hex"]).unwrap();
        let Command::Record(record) = cli.command else {
            panic!("a record command")
        };
        assert_eq!(record.tls.capture.command, ["curl", "-k", "--hex"]);
        assert!(!cli.global.hex);
    }

    #[test]
    fn several_processes_are_a_list() {
        let cli = Cli::try_parse_from(["ecapture", "tls", "-p", "12,nginx", "--pid", "34"]).unwrap();
        assert_eq!(cli.global.pid, ["12", "nginx", "34"]);
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert!(Cli::try_parse_from(["ecapture", "tls", "-p", "-1"]).is_err());
        assert!(Cli::try_parse_from(["ecapture", "tls", "-b", "999"]).is_err());
    }
}
