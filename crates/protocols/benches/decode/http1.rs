//! Requests with nine fields and a small body, one per event.

use ecapture_protocols::stream_decoder;

use super::{Bencher, Bytes, MESSAGES, Output, STRUCTURED, black_box, measure, options, run};

fn requests() -> Vec<Bytes> {
    let request = |index| {
        let request = format!(
            "POST /api/v1/items/{index}?expand=all HTTP/1.1\r\nHost: shop.example.com\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
             Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.5\r\n\
             Accept-Encoding: gzip, deflate, br, zstd\r\nContent-Type: application/json\r\n\
             Cookie: session=5f2a77c1d0e94b0c8f0e6a1b; theme=dark\r\nConnection: keep-alive\r\n\
             Content-Length: 20\r\n\r\n{{\"count\":1,\"id\":123}}"
        );
        Bytes::from(request)
    };
    (0..MESSAGES).map(request).collect()
}

#[divan::bench]
fn ours(bencher: Bencher<'_, '_>) {
    let mut output = Output::default();
    measure(bencher, &requests(), |events| {
        run(&mut *stream_decoder(options(STRUCTURED)), events, &mut output);
    });
}

#[divan::bench]
fn bare_httparse(bencher: Bencher<'_, '_>) {
    measure(bencher, &requests(), |events| {
        for event in events {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut fields);
            let head = request.parse(event).unwrap().unwrap();
            let is_length = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case("content-length");
            let length = request.headers.iter().find(is_length).unwrap();
            let length: usize = std::str::from_utf8(length.value).unwrap().parse().unwrap();
            assert_eq!(head + length, event.len());
            black_box(&request);
        }
    });
}
