//! Header compression: the examples of RFC 7541 appendix C, and cases that only a bystander meets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use ecapture_protocols::Limits;
use ecapture_protocols::http2::hpack::{BlockError, Decoder};
use ecapture_protocols::message::Field;

fn unhex(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn decode(decoder: &mut Decoder, hex: &str) -> Result<Vec<String>, BlockError> {
    let mut fields = Vec::new();
    decoder.decode(&unhex(hex), &mut fields)?;
    Ok(fields.iter().map(shown).collect())
}

fn shown(field: &Field) -> String {
    let text = |part: &Option<Bytes>| {
        part.as_ref()
            .map_or("?".into(), |part| String::from_utf8(part.to_vec()).unwrap())
    };
    let mark = if field.sensitive { " (sensitive)" } else { "" };
    format!("{}: {}{mark}", text(&field.name), text(&field.value))
}

/// Blocks of one connection: hex, fields, table size after it.
fn check(table: usize, blocks: &[(&str, &[&str], usize)]) {
    let limits = Limits {
        hpack_table_bytes: table,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(&limits, true);
    for (hex, fields, size) in blocks {
        assert_eq!(decode(&mut decoder, hex).unwrap(), *fields);
        assert_eq!(decoder.table_bytes(), *size, "table after {fields:?}");
    }
}

#[test]
fn c2_representations() {
    check(
        4096,
        &[(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &["custom-key: custom-header"],
            55,
        )],
    );
    check(
        4096,
        &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0)],
    );
    check(
        4096,
        &[(
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            &["password: secret (sensitive)"],
            0,
        )],
    );
    check(4096, &[("82", &[":method: GET"], 0)]);
}

const REQUESTS: [&[&str]; 3] = [
    &[
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
    ],
    &[
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
        "cache-control: no-cache",
    ],
    &[
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ],
];

#[test]
fn c3_requests() {
    check(
        4096,
        &[
            (
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                REQUESTS[0],
                57,
            ),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1], 110),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                REQUESTS[2],
                164,
            ),
        ],
    );
}

#[test]
fn c4_requests_with_huffman() {
    check(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0], 57),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1], 110),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                REQUESTS[2],
                164,
            ),
        ],
    );
}

const RESPONSES: [&[&str]; 3] = [
    &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
];

#[test]
fn c5_responses_with_eviction() {
    check(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
                 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                RESPONSES[0],
                222,
            ),
            ("4803 3330 37c1 c0bf", RESPONSES[1], 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 \
                 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 \
                 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                RESPONSES[2],
                215,
            ),
        ],
    );
}

#[test]
fn c6_responses_with_huffman_and_eviction() {
    check(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                RESPONSES[0],
                222,
            ),
            ("4883 640e ffc1 c0bf", RESPONSES[1], 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
                 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
                 4ee5 b106 3d50 07",
                RESPONSES[2],
                215,
            ),
        ],
    );
}

#[test]
fn references_to_entries_that_were_never_seen_are_unknown() {
    let mut decoder = Decoder::new(&Limits::default(), false);
    // Entry 63, an insertion under the name of entry 62, entry 62 again, entry 64.
    let fields = decode(&mut decoder, "bf 7e 01 61 be c0").unwrap();
    assert_eq!(fields, ["?: ?", "?: a", "?: a", "?: ?"]);
    // Entries inserted afterwards are known, whatever else the sender's table holds.
    assert_eq!(
        decode(&mut decoder, "40 01 78 01 79 be bf").unwrap(),
        ["x: y", "x: y", "?: a"]
    );
}

#[test]
fn after_forgetting_old_entries_are_unknown_and_new_ones_correct() {
    let mut decoder = Decoder::new(&Limits::default(), true);
    assert_eq!(decode(&mut decoder, "40 01 78 01 79").unwrap(), ["x: y"]);
    decoder.forget();
    assert_eq!(
        decode(&mut decoder, "be 40 01 7a 01 7a be bf").unwrap(),
        ["?: ?", "z: z", "z: z", "?: ?"]
    );
}

#[test]
fn a_bad_huffman_string_affects_no_other_field() {
    let mut decoder = Decoder::new(&Limits::default(), true);
    let mut fields = Vec::new();
    // x: (bad padding), inserted; then the entry, then GET.
    let result = decoder.decode(&unhex("40 01 78 81 00 be 82"), &mut fields);
    assert_eq!(result, Err(BlockError::Huffman));
    assert_eq!(
        fields.iter().map(shown).collect::<Vec<_>>(),
        ["x: ?", "x: ?", ":method: GET"]
    );
}

#[test]
fn damaged_blocks_keep_what_came_before_and_drop_the_table() {
    for damaged in [
        "82 40 01 78 01 79 80",
        "82 40 01 78 01 79 40 05 61",
        "82 40 01 78 01 79 ff ff ff ff ff ff",
    ] {
        let mut decoder = Decoder::new(&Limits::default(), true);
        let mut fields = Vec::new();
        assert_eq!(
            decoder.decode(&unhex(damaged), &mut fields),
            Err(BlockError::Damaged)
        );
        assert_eq!(
            fields.iter().map(shown).collect::<Vec<_>>(),
            [":method: GET", "x: y"]
        );
        assert_eq!(decoder.table_bytes(), 0);
    }
}

#[test]
fn a_blown_up_list_is_cut_and_the_table_kept() {
    let limits = Limits {
        hpack_list_bytes: 100,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(&limits, true);
    let mut fields = Vec::new();
    let result = decoder.decode(
        &unhex(&format!("40 01 78 01 79 {}", "be".repeat(1000))),
        &mut fields,
    );
    assert_eq!((result, fields.len()), (Err(BlockError::ListLimit), 2));
    assert_eq!(decode(&mut decoder, "be").unwrap(), ["x: y"]);
}

#[test]
fn size_updates_are_honoured_up_to_the_limit() {
    let mut decoder = Decoder::new(&Limits::default(), false);
    assert_eq!(decode(&mut decoder, "40 01 78 01 79").unwrap(), ["x: y"]);
    assert_eq!(
        decode(&mut decoder, "20 be").unwrap(),
        ["?: ?"],
        "size 0 empties the table"
    );
    // 1 MiB is announced; the limit of 64 KiB applies, and references within it are correct.
    assert_eq!(
        decode(&mut decoder, "3f e1 ff 3f 40 01 78 01 7a be").unwrap(),
        ["x: z", "x: z"]
    );
}

/// RFC 7541 §2.3.3, §4.2: faults that are errors only if nothing is missing.
#[test]
fn a_complete_connection_cannot_have_unknown_indices_or_late_size_updates() {
    for (block, error) in [("c6", BlockError::Index), ("82 20", BlockError::SizeUpdate)] {
        for start_seen in [true, false] {
            let mut fields = Vec::new();
            let result = Decoder::new(&Limits::default(), start_seen).decode(&unhex(block), &mut fields);
            let is_marked = start_seen || error == BlockError::SizeUpdate;
            assert_eq!(result.err(), is_marked.then_some(error), "{block}");
            assert_eq!(fields.len(), 1);
        }
    }
}
