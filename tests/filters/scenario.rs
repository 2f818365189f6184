//! Connections whose messages differ in everything that a filter can name.

use std::net::IpAddr;
use std::path::Path;

use crate::support::ends::{End, Events, client};

fn end(port: u16, client_host: &str, server_host: &str) -> End {
    let host = |text: &str| -> IpAddr { text.parse().expect("an address") };
    End {
        hosts: [host(client_host), host(server_host)],
        ..client(port)
    }
}

/// Writes the recording into `folder`.
pub(super) fn recording(folder: &Path) -> String {
    let mut events = Events::default();
    of_ipv4(&mut events);
    of_ipv6(&mut events);
    events.save(folder)
}

fn of_ipv4(events: &mut Events) {
    let api = end(5000, "10.1.0.5", "192.0.2.10");
    let list = "GET /hello.json?x=1&y=2 HTTP/1.1\r\nHost: api.example.org\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\
                X-Id: one\r\nX-Id: two\r\nCookie: session=7\r\n\r\n";
    let listed = "HTTP/1.1 200 OK\r\nServer: nginx/1.22\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\
                  \r\n{\"hello\":\"world\"}";
    let create = "POST /upload HTTP/1.1\r\nHost: api.example.org\r\nUser-Agent: Python/3\r\n\
                  Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\nname=value";
    let created = "HTTP/1.1 201 Created\r\nServer: nginx/1.22\r\nLocation: /upload/7\r\nSet-Cookie: a=1\r\n\
                   Set-Cookie: b=2\r\nContent-Length: 0\r\n\r\n";
    let look = "HEAD /hello.json HTTP/1.1\r\nHost: api.example.org\r\nUser-Agent: curl/8.0\r\n\r\n";
    let looked = "HTTP/1.1 200 OK\r\nServer: nginx/1.22\r\nContent-Length: 17\r\n\r\n";
    let remove = "DELETE /upload/7 HTTP/1.1\r\nHost: API.example.org\r\nAuthorization: Basic dTpw\r\n\r\n";
    let removed = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone";
    events
        .write(api, 1000, list)
        .read(api, 1020, listed)
        .write(api, 1100, create)
        .read(api, 1150, created)
        .write(api, 1200, look)
        .read(api, 1201, looked)
        .write(api, 1300, remove)
        .read(api, 1310, removed);
    let old = end(5001, "10.2.0.7", "192.0.2.11");
    events
        .write(
            old,
            2000,
            "GET /old HTTP/1.0\r\nReferer: http://a.example/\r\n\r\n",
        )
        .read(
            old,
            2500,
            "HTTP/1.0 301 Moved Permanently\r\nLocation: https://b.example/\r\nContent-Length: 0\r\n\r\n",
        );
}

fn of_ipv6(events: &mut Events) {
    let shop = end(5002, "2001:db8::5", "2001:db8::10");
    let busy = "HTTP/1.1 503 Service Unavailable\r\nServer: Apache\r\nTransfer-Encoding: chunked\r\n\r\n\
                4\r\nlate\r\n2\r\nr\n\r\n0\r\n\r\n";
    events
        .write(
            shop,
            3000,
            "GET / HTTP/1.1\r\nHost: shop.example\r\nAccept-Encoding: gzip\r\n\r\n",
        )
        .read(shop, 3400, busy)
        .write(
            shop,
            3500,
            "PUT /Upper/Case?q HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 6\r\n\r\nab",
        )
        .write(shop, 3510, "cdef")
        .read(
            shop,
            3520,
            "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 15\r\n\r\n",
        )
        .read(shop, 3530, "<p>a\u{e9}\u{1f600}</p>\n")
        .write(
            shop,
            3600,
            "OPTIONS * HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 10.1.0.5\r\n\r\n",
        )
        .read(shop, 3601, "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n");
}
