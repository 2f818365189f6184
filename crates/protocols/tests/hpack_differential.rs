//! Header compression against h2's decoder and against nghttp2's coder.
//!
//! `ECAPTURE_DIFFERENTIAL` sets how many blocks each comparison makes (default 3000).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/random.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod random;

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};
use ecapture_protocols::Limits;
use ecapture_protocols::http2::hpack::Decoder;
use ecapture_protocols::message::Field;
use random::Random;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn count() -> usize {
    let wanted = std::env::var("ECAPTURE_DIFFERENTIAL");
    wanted.map_or(3000, |wanted| wanted.parse().unwrap())
}

fn ours(decoder: &mut Decoder, block: &[u8]) -> Fields {
    let mut fields = Vec::new();
    decoder
        .decode(&Bytes::copy_from_slice(block), &mut fields)
        .unwrap();
    let known = |part: &Option<Bytes>| part.as_ref().unwrap().to_vec();
    fields
        .iter()
        .map(|Field { name, value, .. }| (known(name), known(value)))
        .collect()
}

/// h2's own decoder. It is private; its type is inferred from a public function that takes one.
fn h2_decoder() -> impl FnMut(&[u8]) -> Fields {
    use h2::frame::{Error, Headers};
    fn taken_by<D: Default>(_: fn(&mut Headers, &mut BytesMut, usize, &mut D) -> Result<(), Error>) -> D {
        D::default()
    }
    let mut decoder = taken_by(Headers::load_hpack);
    move |block| {
        let mut fields = Vec::new();
        let mut block = BytesMut::from(block);
        let result = decoder.decode(&mut Cursor::new(&mut block), |header| {
            fields.push((header.name().as_slice().to_vec(), header.value_slice().to_vec()));
            ControlFlow::Continue(())
        });
        assert!(result.is_ok(), "h2 refuses a block");
        fields
    }
}

/// Makes valid blocks of one connection in every representation, with a table as the RFC defines
/// it.
struct Encoder {
    random: Random,
    table: Vec<(Vec<u8>, Vec<u8>)>,
    capacity: usize,
}

impl Encoder {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            table: Vec::new(),
            capacity: 4096,
        }
    }

    fn block(&mut self) -> (Vec<u8>, Fields) {
        let mut block = Vec::new();
        if self.random.chance(30) {
            self.capacity = [0, 64, 300, 1000, 4096][self.random.below(5)];
            self.evict();
            integer(&mut block, 5, 0x20, self.capacity);
        }
        let fields = (0..=self.random.below(12))
            .map(|_| self.field(&mut block))
            .collect();
        (block, fields)
    }

    fn field(&mut self, block: &mut Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        if !self.table.is_empty() && self.random.chance(2) {
            let age = self.random.below(self.table.len());
            integer(block, 7, 0x80, 62 + age);
            return self.table[self.table.len() - 1 - age].clone();
        }
        if self.random.chance(6) {
            integer(block, 7, 0x80, 2);
            return (b":method".to_vec(), b"GET".to_vec());
        }
        let (prefix_bits, pattern) = [(6, 0x40), (6, 0x40), (4, 0x00), (4, 0x10)][self.random.below(4)];
        let name = self.name(block, prefix_bits, pattern);
        let length = self.random.length(300);
        let value: Vec<u8> = (0..length)
            .map(|_| b'!' + u8::try_from(self.random.below(94)).unwrap())
            .collect();
        literal(block, &value);
        if pattern == 0x40 {
            self.table.push((name.clone(), value.clone()));
            self.evict();
        }
        (name, value)
    }

    fn name(&mut self, block: &mut Vec<u8>, prefix_bits: u32, pattern: u8) -> Vec<u8> {
        let named: Vec<usize> = (0..self.table.len())
            .filter(|&at| !self.table[at].0.starts_with(b":"))
            .collect();
        match self.random.below(3) {
            0 if !named.is_empty() => {
                let at = named[self.random.below(named.len())];
                integer(block, prefix_bits, pattern, 62 + self.table.len() - 1 - at);
                self.table[at].0.clone()
            }
            1 => {
                integer(block, prefix_bits, pattern, 32);
                b"cookie".to_vec()
            }
            _ => {
                integer(block, prefix_bits, pattern, 0);
                let name = format!("x-{}", self.random.below(200)).into_bytes();
                literal(block, &name);
                name
            }
        }
    }

    fn evict(&mut self) {
        let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > self.capacity {
            self.table.remove(0);
        }
    }
}

fn integer(block: &mut Vec<u8>, prefix_bits: u32, pattern: u8, value: usize) {
    let most = (1 << prefix_bits) - 1;
    if value < most {
        block.push(pattern | u8::try_from(value).unwrap());
        return;
    }
    block.push(pattern | u8::try_from(most).unwrap());
    let mut rest = value - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

fn literal(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 7, 0, text.len());
    block.extend_from_slice(text);
}

#[test]
fn random_blocks_as_h2_reads_them() {
    let mut fields = 0;
    for seed in 0..count().div_ceil(500) {
        let mut encoder = Encoder::new(seed as u64);
        let mut decoder = Decoder::new(&Limits::default(), true);
        let mut h2 = h2_decoder();
        for number in 0..500 {
            let (block, expected) = encoder.block();
            fields += expected.len();
            assert_eq!(
                ours(&mut decoder, &block),
                expected,
                "seed {seed}, block {number}"
            );
            assert_eq!(h2(&block), expected, "h2, seed {seed}, block {number}");
        }
    }
    println!(
        "{} blocks, {fields} fields as h2 reads them",
        count().div_ceil(500) * 500
    );
}

fn nghttp2(arguments: &[&str], input: String) -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/nghttp2_hpack.py");
    let mut child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    // On a separate thread; otherwise both sides wait for each other once the pipes are full.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success());
    written.unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

fn parse(line: &str) -> (Vec<u8>, Fields) {
    let mut parts = line.split('\t');
    let block = unhex(parts.next().unwrap());
    let field = |part: &str| {
        let (name, value) = part.split_once('=').unwrap();
        (unhex(name), unhex(value))
    };
    (block, parts.map(field).collect())
}

fn check_blocks(lines: &str) -> usize {
    let mut decoder = Decoder::new(&Limits::default(), true);
    let mut blocks = 0;
    for line in lines.lines() {
        let (block, expected) = parse(line);
        assert_eq!(ours(&mut decoder, &block), expected, "block {blocks}");
        blocks += 1;
    }
    blocks
}

#[test]
fn recorded_nghttp2_blocks_are_read() {
    assert_eq!(check_blocks(include_str!("support/nghttp2_blocks.txt")), 60);
}

#[test]
fn nghttp2_blocks_are_read() {
    let mut blocks = 0;
    for seed in 0..count().div_ceil(5000) {
        let arguments = ["deflate", &seed.to_string(), &count().min(5000).to_string()];
        let Some(lines) = nghttp2(&arguments, String::new()) else {
            println!("python3 or libnghttp2.so.14 is missing: only the recorded blocks are tested");
            return;
        };
        blocks += check_blocks(&lines);
    }
    println!("{blocks} blocks as nghttp2 made them");
    assert!(blocks >= count());
}

#[test]
fn nghttp2_reads_random_blocks_alike() {
    let mut blocks = 0;
    for seed in 0..count().div_ceil(5000) {
        let mut encoder = Encoder::new(1000 + seed as u64);
        let mut input = String::new();
        for _ in 0..count().min(5000) {
            let (block, _) = encoder.block();
            for byte in block {
                write!(input, "{byte:02x}").unwrap();
            }
            input.push('\n');
        }
        let Some(lines) = nghttp2(&["inflate"], input) else {
            println!("python3 or libnghttp2.so.14 is missing: nothing is tested");
            return;
        };
        assert!(!lines.contains('!'), "nghttp2 refuses a block");
        blocks += check_blocks(&lines);
    }
    println!("{blocks} random blocks as nghttp2 reads them");
    assert!(blocks >= count());
}
