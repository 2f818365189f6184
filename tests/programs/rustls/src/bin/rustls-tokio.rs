//! HTTPS without blocking, on several threads: tokio-rustls as the server, reqwest as the client.
//!
//! `rustls-tokio serve CERTIFICATE KEY` prints its port; `rustls-tokio get PORT PATH…` prints the bodies.

use rustls_programs::{response, server_configuration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::main(worker_threads = 4)]
async fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("get") => get().await,
        _ => serve().await,
    }
}

async fn get() {
    let mut arguments = std::env::args().skip(2);
    let port = arguments.next().expect("a port");
    let builder = reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true);
    let client = builder.build().expect("a client");
    for path in arguments {
        let response = client
            .get(format!("https://127.0.0.1:{port}{path}"))
            .send()
            .await
            .expect("a response");
        print!("{}", response.text().await.expect("a body"));
    }
}

async fn serve() {
    let acceptor = TlsAcceptor::from(server_configuration());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address").port());
    loop {
        let (stream, _) = listener.accept().await.expect("a client");
        tokio::spawn(answer(acceptor.clone(), stream));
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut received = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut received).await {
        while let Some(response) = response(&mut received) {
            if stream.write_all(&response).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}
