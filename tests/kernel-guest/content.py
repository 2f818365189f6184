"""What `--privacy metadata` shows, all messages with the sizes of their bodies, and that it lets no content through."""

import json
import re

import kernel
import messages
from messages import with_port
from peers import CURL, HELLO, TAKEN, run
from product import expect

ROWS = [
    "--privacy metadata: every message with its sizes",
    "--privacy metadata: no content in the outputs",
    "--privacy metadata: no content leaves the kernel",
]
# A word that each body of text has, and one of `HELLO`.
CANARY, GREETED = "canary", "world"
# Sizes of the bodies that are sent, and of the file that is served.
POSTED, UPLOADED, SERVED = 3_000, 100_000, 5_000
PROGRAMS = ["go-exchange", "rustls-blocking", "rustls-tokio"]
WARNING = re.compile(r"--privacy metadata: (.*)")


def content(scene):
    with scene.rows.group(*ROWS):
        Content(scene).check()


class Content:
    def __init__(self, scene):
        self.scene, self.peers, self.folder = scene, scene.peers, scene.folder
        self.outputs = {kind: self.folder / f"metadata.{kind}" for kind in ["jsonl", "text"]}
        # The arguments of `expect_messages` for each connection of curl.
        self.expected = []

    def check(self):
        self.write_bodies()
        self.start_servers()
        running = self.capture()
        self.run_clients()
        ring = kernel.rings_of(running.child.pid)
        finished = running.interrupt()
        self.scene.save_text("content.log", finished.stderr)
        written = {kind: file.read_text() for kind, file in self.outputs.items()}
        self.scene.save_text("content.jsonl", written["jsonl"])
        lines = [json.loads(line) for line in written["jsonl"].splitlines()]
        with self.scene.rows.row(ROWS[0]):
            self.check_messages(finished, lines)
        with self.scene.rows.row(ROWS[1]):
            for kind, text in written.items():
                for word in [CANARY, GREETED]:
                    expect(word not in text, f"{word!r} is in the output of {kind}")
        with self.scene.rows.row(ROWS[2]):
            check_left_out(finished, lines, ring)

    def write_bodies(self):
        for name, size in [("posted", POSTED), ("uploaded", UPLOADED), ("served.txt", SERVED)]:
            (self.folder / name).write_text((f"{CANARY} body\n" * size)[:size])

    def start_servers(self):
        self.nginx, self.python = self.peers.nginx(), self.peers.python()
        self.programs = {name: self.peers.exchanging(self.peers.prepared / name) for name in PROGRAMS}

    def capture(self):
        flags = [word for kind, file in self.outputs.items() for word in ("-o", f"{kind}:{file}")]
        # --whole, because a body that takes long would be shown in parts without it.
        running = self.scene.product.capture("tls", "--privacy", "metadata", "--whole", *flags)
        self.scene.save("content-programs.json", kernel.verified_instructions(running.child.pid))
        return running

    def run_clients(self):
        self.exchange("http1", self.python, "python3")
        self.exchange("http1", self.nginx, "nginx")
        self.exchange("http2", self.nginx, "nginx")
        for name, server in self.programs.items():
            run(self.peers.prepared / name, "get", server.port, "/hello.json")

    def exchange(self, version, server, comm):
        """One connection with bodies of known and of unknown length in both directions, and messages without one."""
        known = ["--data-binary", f"@{self.folder}/posted"]
        unknown = ["--data-binary", f"@{self.folder}/uploaded", "-H", "Transfer-Encoding: chunked"]
        # curl's options, then what is expected: method, path, and the sizes of the bodies of request and response.
        requests = [
            (known, "POST", "/posted/1", POSTED, len(TAKEN)),
            (["--head"], "HEAD", "/served.txt", 0, 0),
            ([], "GET", "/served.txt", 0, SERVED),
            (unknown, "POST", "/posted/2", UPLOADED, len(TAKEN)),
            ([], "GET", "/absent", 0, None),
        ]
        flag = {"http1": "--http1.1", "http2": "--http2"}[version]
        # No 100 (Continue) is asked for, and bodies are text instead of forms.
        common = [*CURL[1:], flag, "-H", "Expect:", "-H", "Content-Type: text/plain"]
        words = []
        for options, _, path, *_ in requests:
            words += ["--next", *common, *options, server.url(path)]
        run(CURL[0], *words[1:])
        self.expected.append((version, server.port, comm, [wanted for _, *wanted in requests]))

    def check_messages(self, finished, lines):
        finished.expect_code(0)
        finished.expect_nothing_lost()
        refused = [line for line in finished.stderr.splitlines() if "refused" in line]
        expect(not refused, " | ".join(refused)[:400])
        for connection in self.expected:
            expect_messages(lines, *connection)
        for name, server in self.programs.items():
            expect_hello(with_port(lines, server.port), name)


def expect_messages(lines, version, port, comm, expected):
    """curl and the server each have these requests and their responses, in this order."""
    lines = with_port(lines, port)
    for who, asks, answers in [("curl", "write", "read"), (comm, "read", "write")]:
        requests = messages.of(lines, f"{version}.request", who, asks)
        seen = [(request["method"], request["path"], size_of(request)) for request in requests]
        wanted = [(method, path, size) for method, path, size, _ in expected]
        expect(seen == wanted, f"{version} requests of {who} are {seen} instead of {wanted}")
        ports = {request["src"] for request in requests}
        expect(len(ports) == 1, f"{version} requests of {who} are on {len(ports)} connections")
        responses = messages.of(lines, f"{version}.response", who, answers)
        # The page that goes with a 404 is of another size on each server.
        seen = [(found["status"], size_of(found) if found["status"] == 200 else None) for found in responses]
        wanted = [(404 if size is None else 200, size) for *_, size in expected]
        expect(seen == wanted, f"{version} responses of {who} are {seen} instead of {wanted}")


def expect_hello(lines, name):
    """Client and server each have the request for /hello.json and its response."""
    requests = [line for line in lines if line["kind"] == "http1.request"]
    responses = [line for line in lines if line["kind"] == "http1.response"]
    seen = [(line["method"], line["path"], size_of(line)) for line in requests]
    seen += [(line["status"], size_of(line)) for line in responses]
    wanted = [("GET", "/hello.json", 0)] * 2 + [(200, len(HELLO))] * 2
    expect(seen == wanted, f"{name} exchanged {seen} instead of {wanted}")


def size_of(message):
    """The size of its body, which must be complete and show nothing."""
    body = message["body"]
    expect(body["complete"] and not body.get("text") and "base64" not in body, f"a body is {body}")
    return body["wire_len"]


def check_left_out(finished, lines, ring):
    """The kernel left out as many bytes as bodies have, and the ring has heads, but no content."""
    _, left_out = messages.lost(finished, "kernel content")
    found = WARNING.search(finished.stderr)
    warning = found[1] if found else None
    expect(left_out > 0, f"nothing was left out: {warning or finished.last_words()}")
    expect(not warning, f"it warns: {warning}")
    sizes = sum(line["body"]["wire_len"] for line in lines if "body" in line)
    expect(left_out == sizes, f"{left_out} bytes were left out, and bodies have {sizes}")
    expect(b"GET /served.txt HTTP/1.1" in ring, "no head is in the ring")
    for word in [CANARY, GREETED]:
        expect(word.encode() not in ring, f"{word!r} is in the ring")
