//! Files whose lines are a chain, and `ecapture verify`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::audit::is_audit;
use crate::support::exchanges::{assert_nothing_lost, recording, replay};
use crate::support::program::{Finished, Running, run};

/// Replays into a chained file, with more options.
fn chained(recording: &str, output: &Path, options: &str) -> Finished {
    let target = format!("jsonl:{},chain{options}", output.display());
    let finished = run(&["replay", recording, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    finished
}

/// The exit code and the words of `verify`.
fn verify(arguments: &[&str], files: &[&Path]) -> (Option<i32>, String) {
    let files = files.iter().map(|file| file.to_str().expect("a plain path"));
    let all: Vec<&str> = ["verify"]
        .into_iter()
        .chain(arguments.iter().copied())
        .chain(files)
        .collect();
    let finished = run(&all);
    let text = String::from_utf8_lossy(&finished.stdout).into_owned() + &finished.stderr;
    (finished.code(), text)
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a readable file");
    text.lines().map(str::to_owned).collect()
}

/// The line as it would be without a chain.
fn without_link(line: &str) -> String {
    let (line, _) = line.rsplit_once(",\"chain\":").expect("a link");
    format!("{line}}}")
}

#[test]
fn a_chained_file_has_the_same_lines_and_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let output = folder.path().join("chained.jsonl");
    let finished = chained(&file, &output, "");
    let lines = lines(&output);
    let (closing, events) = lines.split_last().unwrap();
    let expected = String::from_utf8(replay(&file, &[]).stdout).unwrap();
    let (first, events) = events.split_first().unwrap();
    assert!(is_audit(first.as_bytes()));
    let plain: Vec<String> = events.iter().map(|line| without_link(line)).collect();
    assert!(plain.iter().map(String::as_str).eq(expected.lines()));
    assert_eq!(without_link(closing), r#"{"v":1,"kind":"chain.end"}"#);

    let (code, text) = verify(&[], &[&output]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("no line was changed"), "{text}");
    // The hash that the run logged is the one that `verify` finds.
    let hash = text.rsplit(' ').next().unwrap().trim();
    assert!(finished.stderr.contains(hash), "{}", finished.stderr);
    assert_eq!(verify(&["--last", hash], &[&output]).0, Some(0));
    let other = "0".repeat(64);
    let (code, text) = verify(&["--last", &other], &[&output]);
    assert_eq!(code, Some(1));
    assert!(text.contains("the last line's hash is"), "{text}");
}

#[test]
fn each_kind_of_tampering_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("chained.jsonl");
    chained(&recording(folder.path()), &output, "");
    let original = lines(&output);
    let last = original.len();
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = original.clone();
        change(&mut lines);
        let file = folder.path().join("changed.jsonl");
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        let (code, text) = verify(&[], &[&file]);
        assert_eq!(code, Some(1), "{text}");
        text
    };
    let expect = |text: String, part: &str| assert!(text.contains(part), "{part}: {text}");
    expect(
        changed(&|lines| lines[4] = lines[4].replacen("\"pid\":", "\"pid\":1", 1)),
        "changed.jsonl: line 5 was changed",
    );
    expect(
        changed(&|lines| drop(lines.drain(4..7))),
        "before line 5, lines were removed or moved: numbers 5 to 7",
    );
    expect(changed(&|lines| drop(lines.remove(0))), "line 1 is number 2");
    expect(
        changed(&|lines| lines.insert(4, r#"{"v":1,"kind":"raw"}"#.into())),
        "line 5 is not in the chain",
    );
    expect(
        changed(&|lines| lines.insert(4, lines[2].clone())),
        "line 5 was put in or moved: it is number 3",
    );
    expect(
        changed(&|lines| lines.swap(4, 5)),
        "before line 5, a line was removed or moved: number 5",
    );
    expect(
        changed(&|lines| lines.truncate(last - 3)),
        &format!("the chain is not closed after line {}", last - 3),
    );
    expect(changed(&|lines| lines[0].clear()), "line 2");
}

#[test]
fn a_chain_goes_on_over_rotated_files_and_later_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let output = folder.path().join("chained.jsonl");
    chained(&file, &output, ",rotate-size=50K");
    chained(&file, &output, ",rotate-size=50K");
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("chained-")
        })
        .collect();
    files.sort();
    files.push(output);
    assert!(files.len() > 6, "{files:?}");
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let (code, text) = verify(&[], &all);
    assert_eq!(code, Some(0), "{text}");
    for file in &all {
        assert!(fs::metadata(file).unwrap().len() <= 50 * 1024);
    }
    // A file is missing; the first may be, on request.
    let (code, text) = verify(&[], &[all[0], all[2]]);
    assert_eq!(code, Some(1));
    assert!(text.contains("before line 1, lines were removed"), "{text}");
    assert_eq!(verify(&[], &all[1..]).0, Some(1));
    assert_eq!(verify(&["--partial"], &all[1..]).0, Some(0));
}

#[test]
fn a_killed_run_leaves_an_open_chain_that_the_next_run_goes_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let output = folder.path().join("chained.jsonl");
    let target = format!("jsonl:{},chain", output.display());
    let mut running = Running::start(&[
        "replay",
        "-d",
        &file,
        "-o",
        &target,
        "--inject",
        "reader-stall:300",
    ]);
    running.wait_for("replaying");
    running.wait_for_figures(|line| line.contains("; written ") && !line.contains("; written 0 "));
    running.signal(libc::SIGKILL);
    running.finish();
    let (code, text) = verify(&[], &[&output]);
    assert_eq!(code, Some(1));
    assert!(text.contains("the chain is not closed"), "{text}");
    chained(&file, &output, "");
    let (code, text) = verify(&[], &[&output]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_is_no_file_of_json_lines_has_no_chain() {
    for value in ["jsonl,chain", "text:/tmp/x,chain", "jsonl:tcp://h:1,chain"] {
        let finished = run(&["replay", "x", "-o", value]);
        assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
        assert!(
            finished.stderr.contains("-o jsonl:FILE,chain"),
            "{}",
            finished.stderr
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain.jsonl");
    fs::write(&file, "{\"v\":1}\n").unwrap();
    let (code, text) = verify(&[], &[&file]);
    assert_eq!(code, Some(1));
    assert!(text.contains("no line is in a chain"), "{text}");
    assert_eq!(verify(&["--last", "xyz"], &[&file]).0, Some(2));
}
