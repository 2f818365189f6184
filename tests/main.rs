//! Tests of the product as a whole, in one binary. What belongs where:
//!
//! - `refused`: kernel programs that the kernel does not take.
//! - `pauses`: silences in recordings, after which decoders continue.
//! - `protobuf`: log entries, read by another library.
//! - `policy`: rules about the workspace itself, such as who may depend on whom.
//! - `cli`: the command line as a process, without privileges.
//! - `replay`: recordings through the real actors and decoders, in process and as a command.
//! - `doctor`: what it says about real programs, as root and as a plain user.
//! - `ecaptureq`: the eCaptureQ server and its clients.
//! - `exchanges`: pairs of requests and responses at the edges, and both ends of one exchange.
//! - `field`: recordings made after reports from the field, each with its right answer.
//! - `har`: HAR documents, read by a validator and by mitmproxy.
//! - `filters`: what `--filter` selects, and the exchange format.
//! - `options`: flags as people first try them, and what is printed where.
//! - `other_protocols`: servers of protocols that are not decoded, byte for byte.
//! - `otlp`: spans and metrics, for collectors of OTLP.
//! - `outputs`: outputs that fail, and what is in them afterwards.
//! - `several_outputs`: several of one run.
//! - `resilience`: failures on purpose, collectors that go away, readers that stall, processes that are killed.
//! - `short_connections`: a thousand and more a second, each with the right addresses.
//! - `capture`: real capture of real programs; needs root and says so where it cannot run.
//! - `endings`: how captures end, and what they refuse.
//! - `coverage`: one exchange with each kind of program that TLS is captured of, exact on both sides.
//! - `listen`: the HTTP server of a run.
//! - `keylog`: key logs beside those of the programs themselves.
//! - `libraries`: one exchange with each version of OpenSSL and each of its relatives.
//! - `amqp`: a server with Erlang's TLS, and its client, byte for byte.
//! - `mail`: SMTP and IMAP servers, byte for byte.
//! - `sendfile`: files that the kernel sends.
//! - `databases`: the statements of MariaDB's and PostgreSQL's servers.
//! - `git`: a whole `git clone`.
//! - `rustls`: the same for programs with rustls, and the report of one that cannot be captured.
//! - `discovery`: programs and libraries that come after the capture began, and cgroups.
//! - `stat`: figures of exchanges.
//! - `strangers`: unprivileged users who want to get into a capture, or to take it down.
//! - `shutdown`: logs, files and pipes that take nothing, and signals all the same.
//! - `wrapped`: commands behind others, such as timeout, sh and sudo.
//! - `tables`: more at once than the kernel's tables have room for.
//! - `facts`: which processes use TLS, among the events.
//! - `uncaptured`: programs whose TLS cannot be captured.
//! - `targets`: collectors and servers that outputs and logs go to.
//! - `rotation`: files that are rotated, or opened again on SIGHUP.
//! - `chain`: files whose lines are a chain, and what `verify` finds in them.
//! - `shells`: commands that are typed into bash and zsh.
//! - `packets`: packets of interfaces, read by tshark.
//! - `combined`: one run with several outputs that say the same.
//! - `content`: recordings without what the kernel leaves out at `--privacy metadata`.
//! - `captures`: captures of packets, decrypted, beside tshark.
//! - `plaintext_packets`: plaintext as packets, read by tshark.
//! - `audit`: what every file begins with.
//! - `privacy`: secrets in every place that masking and each level of privacy cover.
//! - `memory`: what of captured secrets is in the memory of a capture.
//! - `late`: connections and programs that the capture meets too late.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod amqp;
mod audit;
mod capture;
mod captures;
mod chain;
mod cli;
mod combined;
mod content;
mod coverage;
mod databases;
mod discovery;
mod doctor;
mod documents;
mod ecaptureq;
mod endings;
mod exchanges;
mod facts;
mod field;
mod filters;
mod git;
mod har;
mod keylog;
mod late;
mod libraries;
mod listen;
mod mail;
mod memory;
mod options;
mod other_protocols;
mod otlp;
mod outputs;
mod packets;
mod pauses;
mod plaintext_packets;
mod policy;
mod privacy;
mod protobuf;
mod refused;
mod replay;
mod resilience;
mod rotation;
mod rustls;
mod sendfile;
mod several_outputs;
mod shells;
mod short_connections;
mod shutdown;
mod stat;
mod strangers;
mod support;
mod tables;
mod targets;
mod uncaptured;
mod wrapped;
