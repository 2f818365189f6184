//! The fuzz corpus, and seeded mutations of it, through the properties that fuzzing checks.
//!
//! `ECAPTURE_MUTATIONS` sets how many mutations of each corpus file are tried (default 10).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of the fuzz targets")]
mod properties;
#[path = "support/random.rs"]
#[expect(dead_code, reason = "each test uses some of it")]
mod random;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use properties::{TARGETS, Target};
use random::Random;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn mutations() -> u64 {
    std::env::var("ECAPTURE_MUTATIONS").map_or(10, |count| count.parse().unwrap())
}

/// Runs one input. If it fails, prints how to repeat it.
fn run(target: Target, input: &[u8], name: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(outcome.is_ok(), "{name}: {}", input.escape_ascii());
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(6) {
        let at = random.below(input.len().max(1)).min(input.len());
        let length = random.below(input.len() - at + 1).min(random.below(64));
        match random.below(7) {
            0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => {
                input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' '][random.below(8)];
            }
            3 => drop(input.drain(at..at + length)),
            4 => {
                let copied = input[at..at + length].to_vec();
                input.splice(at..at, copied);
            }
            5 => input.truncate(at),
            _ => {
                let from = random.below(other.len().max(1)).min(other.len());
                let length = (other.len() - from).min(64);
                input.splice(at..at, other[from..from + length].iter().copied());
            }
        }
    }
}

fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty());
    for (index, (path, input)) in corpus.iter().enumerate() {
        run(target, input, &path.display().to_string());
        for seed in 0..mutations() {
            let mut random = Random::new(seed * 1000 + index as u64);
            let mut mutated = input.clone();
            let other = &corpus[random.below(corpus.len())].1;
            mutate(&mut random, &mut mutated, other);
            run(
                target,
                &mutated,
                &format!("{} mutated by seed {seed}", path.display()),
            );
        }
    }
}

#[test]
fn content_coding() {
    replay("content_coding");
}

#[test]
fn detection() {
    replay("detection");
}

#[test]
fn hpack() {
    replay("hpack");
}

#[test]
fn http1() {
    replay("http1");
}

#[test]
fn http2() {
    replay("http2");
}

#[test]
fn json_lines() {
    replay("json_lines");
}

#[test]
fn packets() {
    replay("packets");
}

#[test]
fn recording() {
    replay("recording");
}

#[test]
fn sse() {
    replay("sse");
}

#[test]
fn websocket() {
    replay("websocket");
}

#[test]
fn the_corpus_stays_small_and_complete() {
    let sizes = TARGETS.map(|(name, _)| corpus(name).iter().map(|(_, input)| input.len()).sum::<usize>());
    assert!(sizes.iter().all(|&size| size > 0), "every target has seeds");
    assert!(sizes.iter().sum::<usize>() < 500_000, "{sizes:?}");
}
