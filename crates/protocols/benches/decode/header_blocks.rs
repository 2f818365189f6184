//! HPACK alone.

use std::io::Cursor;
use std::ops::ControlFlow;

use bytes::BytesMut;
use ecapture_protocols::Limits;
use ecapture_protocols::http2::hpack;

use super::{Bencher, Bytes, MESSAGES, black_box, measure};

/// Requests of one connection, nine fields each: most are in the table after the first.
pub(crate) fn blocks() -> Vec<Bytes> {
    let block = |index: usize| {
        let mut block = vec![0x82, 0x87];
        literal(&mut block, 0x04, &format!("/api/v1/items/{index}"));
        let fields = [
            (0x41, "shop.example.com"),
            (
                0x7a,
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            ),
            (0x53, "application/json, text/plain, */*"),
            (0x50, "gzip, deflate, br, zstd"),
            (0x60, "session=5f2a77c1d0e94b0c8f0e6a1b; theme=dark"),
        ];
        for (place, (name, value)) in fields.into_iter().enumerate() {
            if index == 0 {
                literal(&mut block, name, value);
            } else {
                block.push(0x80 | u8::try_from(62 + fields.len() - 1 - place).unwrap());
            }
        }
        // Never indexed, with a new name.
        block.push(0x10);
        string(&mut block, "x-request-id");
        string(&mut block, &format!("{index:016x}"));
        Bytes::from(block)
    };
    (0..MESSAGES).map(block).collect()
}

fn literal(block: &mut Vec<u8>, name: u8, value: &str) {
    block.push(name);
    string(block, value);
}

fn string(block: &mut Vec<u8>, value: &str) {
    block.push(u8::try_from(value.len()).unwrap());
    block.extend_from_slice(value.as_bytes());
}

#[divan::bench]
fn ours(bencher: Bencher<'_, '_>) {
    let mut fields = Vec::new();
    measure(bencher, &blocks(), |blocks| {
        let mut decoder = hpack::Decoder::new(&Limits::default(), true);
        for block in blocks {
            fields.clear();
            decoder.decode(block, &mut fields).unwrap();
            assert_eq!(fields.len(), 9);
            black_box(&fields);
        }
    });
}

/// Its decoder is private: the type is inferred from a public function that takes one. It eats
/// its input, so copying a block is part of using it.
#[divan::bench]
fn bare_h2(bencher: Bencher<'_, '_>) {
    use h2::frame::{Error, Headers};
    fn taken_by<D: Default>(_: fn(&mut Headers, &mut BytesMut, usize, &mut D) -> Result<(), Error>) -> D {
        D::default()
    }
    measure(bencher, &blocks(), |blocks| {
        let mut decoder = taken_by(Headers::load_hpack);
        for block in blocks {
            let mut fields = 0;
            let result = decoder.decode(&mut Cursor::new(&mut BytesMut::from(&block[..])), |field| {
                black_box(&field);
                fields += 1;
                ControlFlow::Continue(())
            });
            assert!(result.is_ok() && fields == 9);
        }
    });
}
