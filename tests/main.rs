//! Tests of the product as a whole, in one binary. What belongs where:
//!
//! - `refused`: kernel programs that the kernel does not take.
//! - `pauses`: silences in recordings, after which decoders go on.
//! - `protobuf`: log entries, read by another library.
//! - `policy`: rules about the workspace itself, such as who may depend on whom.
//! - `cli`: the command line as a process, without privileges.
//! - `replay`: recordings through the real actors and decoders, in process and as a command.
//! - `doctor`: what it says about real programs, as root and as a plain user.
//! - `ecaptureq`: the eCaptureQ server and its clients.
//! - `field`: recordings made after reports from the field, each with its right answer.
//! - `options`: flags as people first try them, and what is printed where.
//! - `other_protocols`: servers of protocols that are not decoded, byte for byte.
//! - `outputs`: outputs that fail, and what is in them afterwards.
//! - `several_outputs`: several of one run.
//! - `resilience`: failures on purpose, collectors that go away, readers that stall, processes that are killed.
//! - `short_connections`: a thousand and more a second, each with the right addresses.
//! - `capture`: real capture of real programs; needs root and says so where it cannot run.
//! - `endings`: how captures end, and what they refuse.
//! - `coverage`: one exchange with each kind of program that TLS is captured of, exact on both sides.
//! - `listen`: the HTTP server of a run.
//! - `libraries`: one exchange with each version of OpenSSL and each of its relatives.
//! - `amqp`: a server with Erlang's TLS, and its client, byte for byte.
//! - `mail`: SMTP and IMAP servers, byte for byte.
//! - `sendfile`: files that the kernel sends.
//! - `git`: a whole `git clone`.
//! - `rustls`: the same for programs with rustls, and what is said of one that cannot be captured.
//! - `discovery`: programs and libraries that come after the capture began, and cgroups.
//! - `strangers`: unprivileged users who want to get into a capture, or to take it down.
//! - `shutdown`: logs, files and pipes that take nothing, and signals all the same.
//! - `wrapped`: commands behind others, such as timeout, sh and sudo.
//! - `tables`: more at once than the kernel's tables have room for.
//! - `facts`: which processes use TLS, among the events.
//! - `uncaptured`: programs whose TLS cannot be captured.
//! - `targets`: collectors and servers that outputs and logs go to.
//! - `rotation`: files that are rotated, or opened again on SIGHUP.
//! - `late`: connections and programs that the capture meets too late.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod amqp;
mod capture;
mod cli;
mod coverage;
mod discovery;
mod doctor;
mod documents;
mod ecaptureq;
mod endings;
mod facts;
mod field;
mod git;
mod late;
mod libraries;
mod listen;
mod mail;
mod options;
mod other_protocols;
mod outputs;
mod pauses;
mod policy;
mod protobuf;
mod refused;
mod replay;
mod resilience;
mod rotation;
mod rustls;
mod sendfile;
mod several_outputs;
mod short_connections;
mod shutdown;
mod strangers;
mod support;
mod tables;
mod targets;
mod uncaptured;
mod wrapped;
