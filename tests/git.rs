//! A whole `git clone` over HTTPS: the captured data is enough to make the clone again.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::coverage::{Exchange, capture, open_site, run};
use crate::support::apache::Processing;
use crate::support::can_capture;
use crate::support::capture::messages;
use crate::support::servers::{Certificate, Server};

const CLIENT: &str = "git-remote-http";
const SERVER: &str = "apache2";

#[test]
fn a_clone_can_be_made_again_from_what_was_captured() {
    let Some(_alone) = can_capture(&["openssl", "git", "apache2"]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let commit = create_repository(folder.path());
    let server = Server::apache(folder.path(), &certificate, Processing::Event);
    let mut client = git(folder.path());
    client.args(["clone", "--quiet", &server.url("/git/repository.git"), "clone"]);
    let mut exchange = Exchange::new((server, SERVER), (client, CLIENT));
    // What it offers, which references there are, and the objects.
    exchange.expected = vec![("", String::new()); 3];
    let mut exchanges = [exchange];
    let lines = capture(&mut exchanges).lines_of(&exchanges[0]);
    assert_eq!(lines.len(), 12, "{lines:#?}");

    let sides = [(CLIENT, "write", "read"), (SERVER, "read", "write")];
    let [seen_by_client, seen_by_server] = sides.map(|(comm, request, response)| {
        let requests = messages(&lines, "http1.request", comm, request);
        let responses = messages(&lines, "http1.response", comm, response);
        let pairs = requests.into_iter().zip(responses);
        pairs
            .map(|(request, response)| (content(request), content(response)))
            .collect::<Vec<_>>()
    });
    assert_eq!(seen_by_client, seen_by_server);
    let paths: Vec<_> = messages(&lines, "http1.request", CLIENT, "write")
        .iter()
        .map(|request| format!("{} {}", request["method"], request["path"]).replace('"', ""))
        .collect();
    let upload = "POST /git/repository.git/git-upload-pack";
    let discover = "GET /git/repository.git/info/refs?service=git-upload-pack";
    assert_eq!(paths, [discover, upload, upload]);

    let again = folder.path().join("again.git");
    run(git(folder.path()).args(["init", "--quiet", "--bare"]).arg(&again));
    let (_, objects) = &seen_by_client[2];
    unpack(&again, &pack(objects));
    let archived = |repository: &Path| {
        let mut command = git(folder.path());
        command.arg("--git-dir").arg(repository);
        run(command.args(["ls-tree", "-r", "--long", &commit]))
    };
    assert_eq!(archived(&again), archived(&folder.path().join("clone/.git")));
}

/// The bytes of a message's body.
fn content(message: &Value) -> Vec<u8> {
    let body = &message["body"];
    assert_eq!(body["complete"], true, "{message}");
    match (&body["text"], &body["base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(encoded)) => from_base64(encoded),
        _ => panic!("no body: {message}"),
    }
}

/// RFC 4648, section 4.
fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text
        .bytes()
        .filter_map(|character| ALPHABET.iter().position(|&each| each == character));
    let values: Vec<_> = values.collect();
    let groups = values.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0u32, |bits, &value| {
            bits << 6 | u32::try_from(value).expect("six bits")
        });
        let bits = bits << (6 * (4 - group.len()));
        bits.to_be_bytes().into_iter().skip(1).take(group.len() - 1)
    });
    groups.collect()
}

/// The pack in the answer to the command `fetch` of Git's protocol version 2: packet lines; those
/// of the section `packfile` begin with the number of their band; the pack is band 1.
fn pack(answer: &[u8]) -> Vec<u8> {
    let mut pack = Vec::new();
    let mut rest = answer;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = std::str::from_utf8(length).expect("digits");
        let length = usize::from_str_radix(length, 16).expect("digits").max(4) - 4;
        let (packet, after) = after.split_at(length);
        if let Some((1, data)) = packet.split_first() {
            pack.extend(data);
        }
        rest = after;
    }
    pack
}

fn unpack(repository: &Path, pack: &[u8]) {
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(repository)
        .args(["unpack-objects", "-q", "--strict"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(pack)
        .expect("it reads the pack");
    assert!(child.wait().expect("it ends").success(), "the pack is whole");
}

/// One commit with files that compress well and files that do not.
fn create_repository(folder: &Path) -> String {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).expect("a new folder");
    std::fs::write(
        tree.join("text"),
        "the same line again and again\n".repeat(10_000),
    )
    .expect("a file");
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(300_000)
    .collect();
    std::fs::write(tree.join("noise"), noise).expect("a file");
    let steps: [&[&str]; 3] = [
        &["-C", "tree", "init", "--quiet", "--initial-branch=main"],
        &["-C", "tree", "add", "."],
        &["-C", "tree", "commit", "--quiet", "--message=first"],
    ];
    for step in steps {
        run(git(folder).args(step));
    }
    run(git(folder).args(["clone", "--quiet", "--bare", "tree", "repository.git"]));
    run(git(folder).args(["-C", "tree", "rev-parse", "HEAD"]))
        .trim()
        .to_owned()
}

/// Git without anything of the user's configuration.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]);
    command.args(["-c", "http.sslVerify=false", "-c", "http.proxy="]);
    command
}
