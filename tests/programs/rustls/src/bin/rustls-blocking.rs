//! HTTPS with threads: rustls itself as the server, ureq as the client.
//!
//! `rustls-blocking serve CERTIFICATE KEY` prints its port; `rustls-blocking get PORT PATH…` prints the bodies.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustls::{ServerConnection, StreamOwned};
use rustls_programs::{response, server_configuration};
use ureq::tls::TlsConfig;

/// In bytes.
const PART: usize = 997;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("get") => get(),
        _ => serve(),
    }
}

fn get() {
    let mut arguments = std::env::args().skip(2);
    let port = arguments.next().expect("a port");
    let tls = TlsConfig::builder().disable_verification(true).build();
    let configuration = ureq::Agent::config_builder().proxy(None).tls_config(tls).build();
    let agent = ureq::Agent::new_with_config(configuration);
    for path in arguments {
        let mut response = agent
            .get(format!("https://127.0.0.1:{port}{path}"))
            .call()
            .expect("a response");
        print!("{}", response.body_mut().read_to_string().expect("a body"));
    }
}

fn serve() {
    let configuration = server_configuration();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("an address").port());
    for stream in listener.incoming() {
        let connection = ServerConnection::new(configuration.clone()).expect("a connection");
        let stream = StreamOwned::new(connection, stream.expect("a client"));
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..length]);
        while let Some(response) = response(&mut received) {
            if write_in_parts(&mut stream, &response).is_err() {
                return;
            }
        }
    }
}

/// With few calls that write many parts each; no part ends where a record does.
fn write_in_parts(stream: &mut StreamOwned<ServerConnection, TcpStream>, bytes: &[u8]) -> io::Result<()> {
    let mut parts: Vec<IoSlice<'_>> = bytes.chunks(PART).map(IoSlice::new).collect();
    let mut left = parts.as_mut_slice();
    while !left.is_empty() {
        let written = stream.conn.writer().write_vectored(left)?;
        stream.flush()?;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}
