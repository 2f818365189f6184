//! The command line as the user typed it. [`crate::settings`] gives it a meaning.

mod databases;
mod ends;
mod privacy;
mod stat;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use databases::offset;
pub(crate) use ends::EndsName;
pub(crate) use privacy::{PrivacyArgs, PrivacyLevel};
pub(crate) use stat::StatArgs;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "ecapture",
    version,
    about = "Shows what really goes through TLS on this host: no CA, no proxy, no change to any program.",
    long_about = "Shows what really goes through TLS on this host: no CA, no proxy, no change to any program.\n\n\
        Probes in the kernel copy the plaintext at the TLS library's own functions; HTTP/1, HTTP/2, gRPC, \
        WebSocket and server-sent events are decoded per connection and direction and printed when a message \
        is complete. Whatever could not be captured or shown is counted under a named reason, and the counts are printed at the end.",
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
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  ecapture tls                          everything that TLS libraries on this host send and receive
  ecapture tls --pid 1234 --hex         one process, as a hex dump
  ecapture tls -- curl https://example  run a command, capture it and its children, stop when it ends
  ecapture tls --format jsonl           one JSON object per message
  ecapture tls -o text -o jsonl:FILE    print the messages and write them to a file
  ecapture tls -m pcap -i eth0 -w FILE  packets for Wireshark, with the keys that decrypt them
  ecapture gotls --elfpath ./server     one Go program; gnutls and nspr capture those libraries only
  ecapture bash                         every command that is typed into a bash; zsh captures zsh
  ecapture mysqld                       the statements of MariaDB's servers; postgres those of PostgreSQL's
  ecapture watch tls bash zsh           all of that in one run
  ecapture record out.jsonl -- COMMAND  record the events; `ecapture replay out.jsonl` prints them later
  ecapture stat --by path               calls, errors and latency of each path, as a table
  ecapture doctor                       what can be captured on this host, and why the rest cannot
  ecapture demo                         see it work on this machine

Events go to standard output, logs to standard error.

SIGHUP reopens the files of outputs and logs, as logrotate needs it; it ends a run without files, or whose
terminal is gone. SIGUSR1 prints the figures.

Exit codes:
  0  success; also when the reader of the output closed its pipe
  1  could not start, or the run failed; the reason is on standard error
     (`doctor`: nothing can be captured on this host; the reason is in its table)
  2  the command line is wrong
  3  something was lost and --fail-on-loss was given
  With `-- COMMAND`: the command's own exit code (128 + signal), unless one of the above applies.";

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
    /// Capture like `tls`, but write the events to a file for `replay`.
    Record(RecordArgs),
    /// Decode and print a recording, or a capture of packets (needs no privileges).
    Replay(ReplayArgs),
    /// Show calls, errors, latency and bytes of each process, peer, host or path, of a capture or a recording.
    Stat(StatArgs),
    /// Check a file of `-o jsonl:FILE,chain` for lines that were changed, removed or put in.
    Verify(VerifyArgs),
    /// Check this host and list its programs with TLS: which can be captured, which cannot, and why.
    Doctor,
    /// Capture and print a small HTTPS exchange on this machine.
    Demo,
    /// Capture the commands that are typed into bash.
    Bash(BashArgs),
    /// Capture the commands that are typed into zsh.
    Zsh(ZshArgs),
    /// Capture several kinds in one run, such as `watch tls bash`.
    Watch(WatchArgs),
    /// Capture the statements that MariaDB's and MySQL's servers execute.
    Mysqld(MysqldArgs),
    /// Capture the statements that PostgreSQL's servers execute.
    Postgres(PostgresArgs),
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

/// Flags that every command takes, with the original's names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Log debug messages; the text also says which processes use TLS, and whether it is captured.
    #[arg(short, long, global = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) debug: bool,
    /// Log warnings and errors only. Without this flag and `--debug`, the environment variable RUST_LOG selects
    /// what is logged, for example `RUST_LOG=ecapture_probe=debug`.
    #[arg(short, long, global = true, conflicts_with = "debug")]
    pub(crate) quiet: bool,
    /// Kernel type information: 0 and 1 use BTF; 2 (without BTF) is not supported.
    #[arg(short, long, global = true, value_name = "MODE", default_value_t = 0)]
    pub(crate) btf: u8,
    /// Dump the formatted output in hexadecimal.
    #[arg(long, global = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) hex: bool,
    /// Size of the ring buffer in pages of 4 KiB per CPU; the total is rounded up to a power of two. That for packets has
    /// 16 MiB at least.
    #[arg(long, global = true, value_name = "PAGES", default_value_t = 1024)]
    pub(crate) mapsize: u32,
    /// Capture only these processes, given by id or program name, for example `1234,nginx`; all their threads are
    /// captured; 0 means all processes.
    #[arg(short, long, global = true, value_name = "PID|NAME", value_delimiter = ',')]
    pub(crate) pid: Vec<String>,
    /// Capture only processes of this user, given by id or name; 0 means all users (`root` means root).
    #[arg(short, long, global = true, value_name = "UID|NAME")]
    pub(crate) uid: Option<String>,
    /// Also write the logs, as JSON lines, to a file (appending), or to a collector as --eventaddr does.
    #[arg(short, long, global = true, value_name = "TARGET")]
    pub(crate) logaddr: Option<String>,
    /// Write the events to a file (appending), tcp://HOST:PORT, unix:///PATH, ws://HOST:PORT/PATH or
    /// wss://… instead of standard output; short for `-o FORMAT:TARGET`.
    #[arg(long, global = true, value_name = "TARGET")]
    pub(crate) eventaddr: Option<String>,
    /// Rotate the file of --eventaddr before it exceeds this many MiB; short for `rotate-size=` of -o.
    #[arg(long, global = true, value_name = "MIB")]
    pub(crate) eventroratesize: Option<u32>,
    /// Rotate the file of --eventaddr this many seconds after its first message; short for `rotate-age=` of -o.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) eventroratetime: Option<u32>,
    /// Truncate each message to this many bytes; 0 means no limit.
    #[arg(
        short,
        long,
        global = true,
        value_name = "BYTES",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) tsize: u64,
    /// Write the events in FORMAT to TARGET; may be repeated, for several outputs of one run.
    ///
    /// FORMAT is `text`, `original` (text as the original prints it, also on a terminal), `jsonl` (one JSON
    /// object per message), `exchange` (a line per request with its response, when that is complete),
    /// `har` (a document with an entry for each of these; TARGET is a regular file, which is replaced),
    /// `protobuf` (the original's log entries, each after its length), `pcapng` (the plaintext as packets,
    /// for Wireshark; the file is replaced), `recording` (the events as captured, for `ecapture replay`; the
    /// file is replaced), `ecaptureq` (log entries for eCaptureQ clients; TARGET is the address to listen
    /// on, ws://HOST:PORT/) or `otlp` (a span per HTTP exchange, and the losses as metrics; TARGET is a
    /// collector: http://HOST:4318, https://…, grpc://HOST:4317 or grpcs://…).
    ///
    /// TARGET is a file (appending), tcp://HOST:PORT, unix:///PATH (a stream socket), ws://HOST:PORT/PATH
    /// or wss://…; without it, standard output. A WebSocket server gets each record as one message: text in
    /// base64, as the original sends it, JSON lines as they are, protobuf as binary messages.
    ///
    /// Append `,on-error=POLICY` to set for one output what --on-sink-error sets for all. Capturing waits for
    /// the slowest output. With several outputs, one with the policy `drop` is not waited for: it loses what
    /// its target cannot keep up with.
    ///
    /// Append `,rotate-size=100M` (K, M, G) or `,rotate-age=1h` (s, m, h, d) or both to rotate a file between
    /// two records: the old file is renamed to NAME-2006-01-02T15-04-05.000.EXT (local time). `,keep=5` deletes
    /// all but the newest 5 of them. On SIGHUP all files are reopened, as logrotate's `postrotate` needs it.
    ///
    /// Append `,redact` or `,no-redact` to set for one output what --redact and --no-redact set for all.
    /// Append `,gzip` to compress what `otlp` sends. Its headers, such as those that authenticate, are those of
    /// the variable OTEL_EXPORTER_OTLP_HEADERS. Unless on-error= says otherwise, it retries.
    ///
    /// Append `,filter=EXPRESSION` last, to set for one output what --filter sets for all.
    #[arg(short, long, global = true, value_name = "FORMAT[:TARGET]")]
    pub(crate) output: Vec<String>,
    /// Also serve the events to eCaptureQ clients: listen on ws://HOST:PORT/; short for `-o ecaptureq:ws://…`
    /// beside the other outputs.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) ecaptureq: Option<String>,
    /// With the exchange format: also print the heads of both messages; twice (-vv): the bodies, too.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// What is shown of an exchange whose client and server are both captured: `once`, the client's line or messages with
    /// the server's process and time, or `both`, those of each. The default is `once` for the exchange format and for
    /// text on a terminal. In files and pipes `once` holds for text, too, and adds a line to JSON Lines.
    #[arg(long, global = true, value_enum, value_name = "WHICH")]
    pub(crate) ends: Option<EndsName>,
    /// How messages are printed [default: text]; short for `-o FORMAT`.
    #[arg(long, global = true, value_enum)]
    pub(crate) format: Option<FormatName>,
    /// Begin the line above each message with the local time and the direction (`->` sent, `<-` received); on a
    /// terminal it has both already, and gets the date.
    #[arg(long, global = true)]
    pub(crate) time: bool,
    /// Print only the messages that EXPRESSION selects, for example `http.response.code >= 500 && proc.comm ==
    /// "nginx"`; everything else is counted.
    ///
    /// Names and operators are Wireshark's: == != === !== < <= > >=, `contains`, `matches` (regular expressions
    /// without regard to case), `in {1, 5..9}`, any, all, and/&&, or/||, xor/^^, not/!, brackets, `http.host[0:4]`,
    /// len(), lower(), upper(). Fields: http.request.method, http.request.uri (.path, .query), http.host,
    /// http.response.code, `http.header["name"]`, http.content_type, http.user_agent and other headers, http.time
    /// (seconds to the response's first byte), http.file_data, body, frame.len, ip.addr, ip.src, ip.dst,
    /// ipv6.addr, tcp.port, tcp.srcport, tcp.dstport, tcp.stream, http2.streamid, http2.headers.path and others,
    /// websocket.opcode, proc.pid, proc.uid, proc.comm, proc.program, connection, exchange, exchange.pairing. Layers:
    /// http, http2, grpc, websocket, tcp, ip, ipv6, frame. A text in double quotes is searched for in the whole
    /// message. What is not known is neither equal nor different. A request whose response decides is printed with
    /// the response. Text shows HTTP/2 as messages then.
    #[arg(long, global = true, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
    /// Print HTTP/2 as frames, as the original does, or as messages. The default is `all` for text and
    /// `messages` for JSON; in JSON, `all` adds the frames that belong to no message.
    #[arg(long, global = true, value_enum, value_name = "WHAT")]
    pub(crate) frames: Option<Frames>,
    /// Print each message only when it is complete. Without this flag, a message that takes longer than a tenth
    /// of a second is printed in parts, the head with the first. In text, the head of an event stream is always
    /// printed before its events.
    #[arg(long, global = true)]
    pub(crate) whole: bool,
    /// When to colour the text format.
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub(crate) color: When,
    /// Policy for events that cannot be written: end the run, or reopen the output until it works and, in
    /// the meantime, drop the events or keep them up to a limit. A message that was half written is completed
    /// first, or written again on a new connection.
    #[arg(long, global = true, value_enum, default_value_t = OnSinkError::Stop, value_name = "POLICY")]
    pub(crate) on_sink_error: OnSinkError,
    /// Memory for captured and formatted bytes, in MiB; bytes that do not fit are discarded and counted.
    #[arg(long, global = true, value_name = "MIB", default_value_t = 256)]
    pub(crate) max_memory: u32,
    /// Maximum number of decoders, two per connection; beyond it, ecapture forgets the connections that have been
    /// idle longest and prints their partial messages as incomplete.
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 200_000)]
    pub(crate) max_workers: u32,
    /// How much of an unfinished message is kept for each direction of a connection, in KiB; a larger one is
    /// printed as incomplete.
    #[arg(long, global = true, value_name = "KIB", default_value_t = 16 * 1024)]
    pub(crate) max_buffered: u32,
    /// Print the statistics every SECONDS seconds; SIGUSR1 prints them at any time.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) stats: Option<u32>,
    /// Exit with code 3 if anything was lost.
    ///
    /// The beginning of a connection that may have been missed is a loss. So is a program whose TLS cannot be
    /// captured (`program_not_captured`), if the command or a process given by --pid executes it or, in a capture
    /// of the whole host, if it starts during the capture and connects. Parts of bodies beyond a limit
    /// (`body_limit`) are not a loss: they are marked in their message and counted at the end. Nor are files of
    /// programs that are damaged or beyond the limits (`file_given_up`), as anybody can create one.
    #[arg(long, global = true)]
    pub(crate) fail_on_loss: bool,
    /// What may be shown.
    #[command(flatten)]
    pub(crate) privacy: PrivacyArgs,
    /// The HTTP server.
    #[command(flatten)]
    pub(crate) listening: ListenArgs,
}

/// Global flags of the HTTP server.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Watch and change this run over HTTP: listen on HOST:PORT (a loopback address, such as localhost:28256) or
    /// unix:///PATH (a socket for root only).
    ///
    /// GET /status, GET /metrics (for Prometheus) and GET /healthz; POST /tls (or /gotls, /gnutls, /nss) with JSON,
    /// such as {"pid": 1234, "uid": 0, "cgroup_path": "", "opensslpath": "", "is_hex": false, "truncate_size": 0}, changes these
    /// settings. Over TCP every request but /healthz needs a
    /// token, which is printed at the start: `Authorization: Bearer TOKEN` or `?token=TOKEN`.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The token of --listen, instead of a random one. The environment variable ECAPTURE_LISTEN_TOKEN sets it
    /// without showing it to other users in the list of processes.
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) listen_token: Option<String>,
    /// Also accept requests to this host name, such as that of a proxy before --listen. May be repeated.
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) allow_host: Vec<String>,
}

/// Flags of `tls`.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// Library or executable with the `SSL_*` functions; by default, all that can be found on the host.
    #[arg(long, value_name = "FILE")]
    pub(crate) libssl: Vec<PathBuf>,
    /// Flags of all capturing commands.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `gotls`.
#[derive(Debug, Args)]
pub(crate) struct GotlsArgs {
    /// Go program to capture.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) elfpath: PathBuf,
    /// Flags of all capturing commands.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `gnutls`.
#[derive(Debug, Args)]
pub(crate) struct GnutlsArgs {
    /// Library or executable with the `gnutls_*` functions; by default, all that can be found on the host.
    #[arg(long, value_name = "FILE")]
    pub(crate) gnutls: Vec<PathBuf>,
    /// Flags of all capturing commands.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `nspr`.
#[derive(Debug, Args)]
pub(crate) struct NsprArgs {
    /// The library libnspr4.so; by default, all that can be found on the host.
    #[arg(long, value_name = "FILE")]
    pub(crate) nspr: Vec<PathBuf>,
    /// Flags of all capturing commands.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// Flags of `bash`.
#[derive(Debug, Args)]
pub(crate) struct BashArgs {
    /// The files.
    #[command(flatten)]
    pub(crate) files: BashFiles,
    /// Which commands.
    #[command(flatten)]
    pub(crate) shell: ShellArgs,
    /// What all capturing commands take.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// The files of `bash`.
#[derive(Debug, Args)]
pub(crate) struct BashFiles {
    /// The bash to capture; by default, all that are installed or run.
    #[arg(long, value_name = "FILE")]
    pub(crate) bash: Vec<PathBuf>,
    /// The libreadline.so that bash uses, if it does not have its own inside. Other programs that use it are
    /// not shown.
    #[arg(long, value_name = "FILE")]
    pub(crate) readlineso: Vec<PathBuf>,
}

/// Flags of `zsh`.
#[derive(Debug, Args)]
pub(crate) struct ZshArgs {
    /// The files.
    #[command(flatten)]
    pub(crate) files: ZshFiles,
    /// Which commands.
    #[command(flatten)]
    pub(crate) shell: ShellArgs,
    /// What all capturing commands take.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// The files of `zsh`.
#[derive(Debug, Args)]
pub(crate) struct ZshFiles {
    /// The zsh to capture; by default, all that are installed or run.
    #[arg(long, value_name = "FILE")]
    pub(crate) zsh: Vec<PathBuf>,
}

/// What all shells take.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// Show only commands with this exit status. (The original shows all but these.)
    #[arg(short, long, value_name = "STATUS", allow_negative_numbers = true)]
    pub(crate) errnumber: Option<i32>,
}

/// Flags of `mysqld`.
#[derive(Debug, Args)]
pub(crate) struct MysqldArgs {
    /// Server program, such as /usr/sbin/mariadbd; by default, all that are installed or run.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) mysqld: Vec<PathBuf>,
    /// The function `dispatch_command` by its symbol, for a server in which it has another name. If that contains
    /// COM_DATA, its parameters are those of MySQL 5.7 and later, else those of MariaDB. Without --mysqld the file
    /// is /usr/sbin/mariadbd.
    #[arg(short, long, value_name = "SYMBOL")]
    pub(crate) funcname: Option<String>,
    /// The same by the offset of its first instruction in the file, decimal or with 0x, for a server without symbols.
    #[arg(long, value_name = "BYTES", value_parser = offset)]
    pub(crate) offset: Option<u64>,
    /// What captures of databases take.
    #[command(flatten)]
    pub(crate) capture: SqlCaptureArgs,
}

/// Flags of `postgres`.
#[derive(Debug, Args)]
pub(crate) struct PostgresArgs {
    /// Server program, such as /usr/lib/postgresql/15/bin/postgres; by default, all that are installed or run.
    #[arg(short = 'm', long, value_name = "FILE")]
    pub(crate) postgres: Vec<PathBuf>,
    /// A function whose first parameter is the text of a statement, by its symbol, such as exec_simple_query: for a
    /// server without the names that are looked for. Without --postgres the file is /usr/bin/postgres.
    #[arg(short, long, value_name = "SYMBOL")]
    pub(crate) funcname: Option<String>,
    /// What captures of databases take.
    #[command(flatten)]
    pub(crate) capture: SqlCaptureArgs,
}

/// What captures of databases take. `-m` is the server, as with the original.
#[derive(Debug, Args)]
pub(crate) struct SqlCaptureArgs {
    /// Capture only processes in this cgroup (a directory of the cgroup2 file system) or below it.
    #[arg(long = "cgroup_path", value_name = "FOLDER")]
    pub(crate) cgroup_path: Option<PathBuf>,
    #[arg(long = "perf-reorder", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) perf_reorder: Option<String>,
    #[arg(long = "perf-reorder-lag-ms", hide = true)]
    pub(crate) perf_reorder_lag_ms: Option<String>,
}

impl From<&SqlCaptureArgs> for CaptureArgs {
    fn from(arguments: &SqlCaptureArgs) -> Self {
        Self {
            model: "text".to_owned(),
            keylogfile: None,
            packets: PacketArgs::default(),
            cgroup_path: arguments.cgroup_path.clone(),
            follow_children: false,
            not_pid: Vec::new(),
            unbuilt: UnbuiltCaptureArgs {
                perf_reorder: arguments.perf_reorder.clone(),
                perf_reorder_lag_ms: arguments.perf_reorder_lag_ms.clone(),
                ..UnbuiltCaptureArgs::default()
            },
            inject: Vec::new(),
            words: Vec::new(),
            command: Vec::new(),
        }
    }
}

/// Flags of `watch`: those of all that it can capture.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Library or executable with the `SSL_*` functions; by default, all that can be found on the host.
    #[arg(long, value_name = "FILE")]
    pub(crate) libssl: Vec<PathBuf>,
    /// The files of bash.
    #[command(flatten)]
    pub(crate) bash: BashFiles,
    /// The files of zsh.
    #[command(flatten)]
    pub(crate) zsh: ZshFiles,
    /// Server program of MariaDB or MySQL.
    #[arg(long, value_name = "FILE")]
    pub(crate) mysqld: Vec<PathBuf>,
    /// Server program of PostgreSQL.
    #[arg(long, value_name = "FILE")]
    pub(crate) postgres: Vec<PathBuf>,
    /// Which commands of shells.
    #[command(flatten)]
    pub(crate) shell: ShellArgs,
    /// What all capturing commands take. The words before `--` name what is captured.
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// What all capturing commands take.
#[derive(Debug, Clone, Args)]
pub(crate) struct CaptureArgs {
    /// What to capture: `text` (the plaintext), `keylog` (also `key`; the secrets of handshakes alone, for Wireshark)
    /// or `pcap` (the packets of interfaces, with the keys that decrypt them, as a pcapng file for Wireshark).
    #[arg(short, long, default_value = "text", value_name = "MODE")]
    pub(crate) model: String,
    /// With -m keylog or pcap: the file that secrets are appended to [default with keylog: ecapture_openssl_key.log, or
    /// that of gotls or gnutls].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) keylogfile: Option<String>,
    /// Flags of `-m pcap`.
    #[command(flatten)]
    pub(crate) packets: PacketArgs,
    /// Capture only processes in this cgroup (a directory of the cgroup2 file system) or below it.
    #[arg(long = "cgroup_path", value_name = "FOLDER")]
    pub(crate) cgroup_path: Option<PathBuf>,
    /// With --pid: also capture the children of these processes, running ones and those started later.
    #[arg(long)]
    pub(crate) follow_children: bool,
    /// Do not capture these processes and their children, given by id or program name. A process that reads
    /// ecapture's output from a pipe is not captured anyway, unless --pid names it.
    #[arg(long, value_name = "PID|NAME", value_delimiter = ',')]
    pub(crate) not_pid: Vec<String>,
    /// Flags of the original that are not implemented yet.
    #[command(flatten)]
    pub(crate) unbuilt: UnbuiltCaptureArgs,
    /// For tests: discovery-hold:FILE inspects files that are found later only after FILE, such as
    /// a FIFO, was read to its end; system-calls does without what only newer kernels have for
    /// learning of sockets and mapped files; clsact attaches to interfaces as before Linux 6.6; tables:N follows so many calls, threads, sessions and
    /// sockets at once.
    #[arg(long, hide = true, value_name = "FAILURE")]
    pub(crate) inject: Vec<String>,
    /// Without -m: print only what is of connections with these addresses and ports, as --filter does. With -m
    /// pcap: capture only packets that this expression of pcap-filter(7) matches, such as
    /// `tcp port 443 and host 192.0.2.1`.
    #[arg(value_name = "FILTER")]
    pub(crate) words: Vec<String>,
    /// Run COMMAND, capture only it and its children, and stop when it ends. If the messages go to standard
    /// output, COMMAND's own standard output goes to standard error; `--eventaddr FILE` leaves it alone.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Flags of `-m pcap`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PacketArgs {
    /// With -m pcap: the interfaces, separated by commas, or `any` for all, those that appear later included; by
    /// default the one of the default route.
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) ifname: Vec<String>,
    /// With -m pcap: the file to write, which is replaced, or `-` for standard output [default: save.pcapng]. The
    /// options of -o may follow, such as `,rotate-size=100M`.
    #[arg(short = 'w', long, value_name = "FILE")]
    pub(crate) pcapfile: Option<String>,
    /// With -m pcap: capture at most this many bytes of each packet [default: 262144].
    #[arg(long, value_name = "BYTES")]
    pub(crate) snaplen: Option<u32>,
}

/// Flags of the original's capturing commands that are refused.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct UnbuiltCaptureArgs {
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
    /// Flags that say what to capture.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The file; of a rotated output all files, the oldest first.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Hash of the last line, which the run that wrote the file logged at its end: without it nobody can tell whether all
    /// lines were rewritten.
    #[arg(long, value_name = "HASH")]
    pub(crate) last: Option<String>,
    /// The files before the first one are not there any more.
    #[arg(long)]
    pub(crate) partial: bool,
}

/// Flags of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A file written by `record`, the original's `events.jsonl` with its `.bin` files beside it, or a capture
    /// of packets (pcapng or pcap).
    ///
    /// Of packets TLS 1.2 and 1.3 are decrypted with the secrets in the capture (Decryption Secrets Blocks)
    /// and those of --keylog; plain HTTP is shown as it is. `->` is what the client sent.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The key log that decrypts a capture of packets, such as a program writes with SSLKEYLOGFILE; may be
    /// repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) keylog: Vec<PathBuf>,
    /// Refused: a recording does not have it.
    #[arg(long = "cgroup_path", hide = true)]
    pub(crate) cgroup_path: Option<PathBuf>,
    /// Test the resilience of the pipeline: make it fail on purpose. May be repeated.
    ///
    /// worker-panic:every=N (the decoder of every Nth event panics), sink-error:after=N (the output
    /// fails after N bytes, and again N bytes after each reopening), slow-sink:MS (every write takes MS
    /// milliseconds), reader-stall:MS (the source waits MS milliseconds before every batch), drop-event:every=N
    /// (every Nth event is lost before it is read), file-clock:MS (the clock that rotates files by age advances MS
    /// milliseconds with each write, and only then). Events lost this way are counted like any other loss. All
    /// decoders then run on one thread, so that every run hits the same events.
    #[arg(long, value_name = "FAILURE")]
    pub(crate) inject: Vec<String>,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// Text. On a terminal the line above each message is made for people; elsewhere it is the
    /// original's.
    Text,
    /// Text as the original prints it, also on a terminal.
    Original,
    /// One JSON object per message and line.
    Jsonl,
    /// One line per request with its response.
    Exchange,
}

/// How HTTP/2 is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Frames {
    /// Every frame.
    All,
    /// One message per stream and direction.
    Messages,
}

/// The policy for events that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnSinkError {
    /// End the run.
    Stop,
    /// Count them as lost and continue.
    Drop,
    /// Keep them up to a limit and try again.
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
