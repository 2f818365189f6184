"""The rows of the table, each with what it takes to be `ok`."""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import kernel
import messages
from content import content
from messages import expect_exchange, with_port
from peers import CHECKOUT, CURL, PYTHON, SCRIPTS, Client, curl, gnutls_client, private_openssl, run
from product import ATTACHED, LOSS, expect, wait_until, wait_until_detached
from recording import Recording, payload_of
from same import normalised

MEBIBYTE = 1 << 20
JSON = ["tls", "--format", "jsonl"]
# An identity without any rights.
NOBODY = 65534


def doctor(scene):
    """It says that this host can be captured, and which programs the kernel took."""
    with scene.rows.row("doctor"):
        finished = scene.product.run("doctor", "--format", "jsonl")
        scene.save_text("doctor.jsonl", finished.stdout)
        finished.expect_code(0)
        lines = finished.lines()
        programs = [line for line in lines if line["kind"] == "program"]
        scene.save("programs.json", programs)
        expect(lines[-1].get("can_capture"), "it says that nothing can be captured")
        problems = [f"{line['check']}: {line['problem']}" for line in lines if line["kind"] == "host" and not line["ok"]]
        refused = [f"{line['name']}: {line['reason']}" for line in programs if not line["ok"]]
        expect(not problems + refused, "; ".join(problems + refused))


def demo(scene):
    with scene.rows.row("demo"):
        finished = scene.product.run("demo")
        finished.expect_code(0)
        for part in ["GET /hello.json", "this went through TLS", "password=visible", "Comm:curl"]:
            expect(part in finished.stdout, f"it does not show {part!r}: {finished.last_words()}")
        expect("replay" not in finished.stderr, "it shows a recording")


def commands(scene):
    """Captures of commands, one after the other, none waiting for the end of the last one's detaching.

    What `-- COMMAND` does is captured, of it and its children alone, and its exit code is kept. At the end nothing is
    left in the kernel.
    """
    rows = [
        "tls -- curl",
        "-- COMMAND with children",
        "rounds of attaching and detaching",
        "nothing is left after the last capture",
    ]
    with scene.rows.group(*rows):
        server = scene.peers.python()
        wait_until_detached()
        before = kernel.loaded_programs()
        with scene.rows.row(rows[0]):
            finished = scene.product.run(*JSON, "--fail-on-loss", "--", *CURL, server.url("/hello.json"))
            finished.expect_code(0)
            finished.expect_nothing_lost()
            expect(len(finished.lines()) == 2, f"{len(finished.lines())} lines instead of curl's 2")
            expect_exchange(finished.lines(), "http1", "curl", "client")
        with scene.rows.row(rows[1]):
            script = f"(({' '.join(CURL)} {server.url('/hello.json')}; exit 0); exit 7)"
            finished = scene.product.run(*JSON, "--", "sh", "-c", script)
            finished.expect_code(7)
            expect_exchange(finished.lines(), "http1", "curl", "client")
        with scene.rows.row(rows[2]):
            rounds(scene, server, 98 if scene.is_long else 1)
        with scene.rows.row(rows[3]):
            wait_until_detached()
            wait_until(lambda: kernel.loaded_programs() <= before, "programs are still loaded")


def rounds(scene, server, count):
    for number in range(1, count + 1):
        url = server.url(f"/hello.json?{number}")
        finished = scene.product.run(*JSON, "--fail-on-loss", "--", *CURL, url)
        expect(finished.code == 0, f"round {number}: exit code {finished.code}: {finished.last_words()}")
        expect_paths(finished.lines(), [f"/hello.json?{number}"])


def exchanges(scene):
    """One capture of the whole host, with every kind of program."""
    Exchanges(scene).check()


class Exchanges:
    ROWS = [
        "nginx, HTTP/1.1",
        "nginx, 200 requests on a connection",
        "nginx, HTTP/2",
        "python (SSL_read_ex, SSL_write_ex)",
        "GnuTLS (gnutls-cli, gnutls-serv, wget)",
        "NSS (tstclnt)",
        "Go (crypto/tls)",
        "rustls, threads",
        "rustls, tokio",
        "a library first mapped during the capture",
        "connection opened before the capture: marked",
        "the same lines as on other kernels",
    ]

    def __init__(self, scene):
        self.scene, self.row = scene, scene.rows.row
        self.peers, self.product = scene.peers, scene.product

    def check(self):
        with self.scene.rows.group(*self.ROWS):
            self.start_servers()
            old = Client(self.python.port)
            old.tell("open")
            old.tell("get /hello.json?1")
            running = self.product.capture(*JSON)
            problems = self.run_clients(running, old)
            finished = running.interrupt()
            self.scene.save_text("exchanges.log", finished.stderr)
            self.lines = finished.lines()
            self.check_all(problems)

    def start_servers(self):
        self.nginx = self.peers.nginx()
        self.python = self.peers.python()
        self.gnutls = self.peers.gnutls()
        self.programs = {}
        for name in ["go-exchange", "rustls-blocking", "rustls-tokio"]:
            if (self.peers.prepared / name).exists():
                self.programs[name] = self.peers.exchanging(self.peers.prepared / name)

    def run_clients(self, running, old):
        """Runs each client once. Gives what went wrong, by the name of what it is about."""
        loads = {
            "nginx": self.ask_nginx,
            "python": lambda: curl(self.python.url("/hello.json")),
            "gnutls": lambda: gnutls_client(self.gnutls.port, "a line through GnuTLS\n"),
            "nss": self.ask_with_nss,
            "late library": lambda: self.ask_with_late_library(running),
            "old": lambda: (old.tell("get /hello.json?2"), old.end()),
        }
        for name in ["go-exchange", "rustls-blocking", "rustls-tokio"]:
            loads[name] = lambda name=name: self.ask_program(name)
        problems = {}
        for name, load in loads.items():
            try:
                load()
            except Exception as problem:
                problems[name] = problem
        return problems

    def ask_nginx(self):
        curl("--http1.1", self.nginx.url("/hello.json"))
        curl("--http1.1", self.nginx.url("/page.txt?[1-200]"))
        curl("--http2", "--compressed", self.nginx.url("/page.txt"), "-o", "/dev/null", self.nginx.url("/hello.json"))
        run("wget", "-qO/dev/null", "--no-check-certificate", "--no-proxy", self.nginx.url("/hello.json"))

    def ask_with_nss(self):
        request = self.scene.folder / "request"
        request.write_text("GET /hello.json HTTP/1.0\r\n\r\n")
        # -o accepts any certificate, -D needs no database of them, -A sends a file.
        run("tstclnt", "-h", "127.0.0.1", "-p", self.python.port, "-o", "-D", "-A", request)

    def ask_program(self, name):
        expect(name in self.programs, f"{self.peers.prepared / name} was not built")
        run(self.peers.prepared / name, "get", self.programs[name].port, "/hello.json")

    def ask_with_late_library(self, running):
        """The first request of a program that waits for nobody is a race; the second one is not."""
        environment = {**os.environ, **private_openssl(self.scene.folder / "late")}
        curl(self.python.url("/hello.json?late1"), env=environment)
        running.wait_for(ATTACHED)
        curl(self.python.url("/hello.json?late2"), env=environment)

    def check_all(self, problems):
        def fine(name):
            if name in problems:
                raise problems[name]

        nginx = with_port(self.lines, self.nginx.port)
        python = with_port(self.lines, self.python.port)
        with self.row("nginx, HTTP/1.1"):
            fine("nginx")
            expect_exchange(nginx, "http1", "curl", "client")
            # Asked by curl and by wget.
            expect_exchange(nginx, "http1", "nginx", "server", count=2)
        with self.row("nginx, 200 requests on a connection"):
            fine("nginx")
            for comm, side in [("curl", "client"), ("nginx", "server")]:
                expect_exchange(nginx, "http1", comm, side, "/page.txt", "page\n" * 1000, 200)
        with self.row("nginx, HTTP/2"):
            fine("nginx")
            for comm, side in [("curl", "client"), ("nginx", "server")]:
                expect_exchange(nginx, "http2", comm, side)
                expect_exchange(nginx, "http2", comm, side, "/page.txt", "page\n" * 1000)
        with self.row("python (SSL_read_ex, SSL_write_ex)"):
            fine("python")
            plain = [line for line in python if "?" not in line.get("path", "")]
            expect(messages.of(plain, "http1.request", "python3", "read"), "no request that python received")
            expect(messages.of(plain, "http1.response", "python3", "write"), "no response that python sent")
        with self.row("GnuTLS (gnutls-cli, gnutls-serv, wget)"):
            fine("gnutls")
            self.check_gnutls(nginx)
        with self.row("NSS (tstclnt)"):
            fine("nss")
            expect_exchange(python, "http1", "tstclnt", "client")
        with self.row("Go (crypto/tls)"):
            fine("go-exchange")
            self.check_program("go-exchange", "go-exchange")
        with self.row("rustls, threads"):
            fine("rustls-blocking")
            self.check_program("rustls-blocking", "rustls-blocking", addresses="heuristic")
        with self.row("rustls, tokio"):
            fine("rustls-tokio")
            self.check_program("rustls-tokio", "tokio-rt-worker", addresses="heuristic")
        with self.row("a library first mapped during the capture"):
            fine("late library")
            paths = [line["path"] for line in messages.of(python, "http1.request", "curl", "write")]
            expect("/hello.json?late2" in paths, f"not among {paths}")
        with self.row("connection opened before the capture: marked"):
            fine("old")
            self.check_old(python)
        with self.row("the same lines as on other kernels"):
            self.save_lines()

    def check_gnutls(self, nginx):
        expect_exchange(nginx, "http1", "wget", "client")
        echo = with_port(self.lines, self.gnutls.port)
        for comm in ["gnutls-cli", "gnutls-serv"]:
            for direction in ["write", "read"]:
                text = messages.text_of(echo, comm, direction)
                expect(text == "a line through GnuTLS\n", f"{comm} {direction}: {text!r}")

    def check_program(self, name, comm, addresses="exact"):
        lines = with_port(self.lines, self.programs[name].port)
        for side in ["client", "server"]:
            expect_exchange(lines, "http1", comm, side, addresses=addresses)

    def check_old(self, python):
        requests = messages.of(python, "http1.request", "python3", "write")
        marks = {request["path"]: request.get("joined_late") for request in requests}
        expect(marks == {"/hello.json?2": "open_before_capture"}, f"marks are {marks}")

    def save_lines(self):
        servers = {str(self.nginx.port): "nginx", str(self.gnutls.port): "gnutls-serv"}
        if "go-exchange" in self.programs:
            servers[str(self.programs["go-exchange"].port)] = "go"
        self.scene.save_text("same", normalised(self.lines, servers))


def filters(scene):
    """Calls that pass both filters are captured, and nothing else."""
    rows = ["uid filter", "cgroup filter"]
    with scene.rows.group(*rows):
        server = scene.peers.python()
        with cgroup() as group:
            running = scene.product.capture(*JSON, "--uid", NOBODY, "--cgroup_path", group)
            for name, user, place in [
                ("nobody", NOBODY, group),
                ("root", 0, group),
                ("below", NOBODY, group / "below"),
                ("outside", NOBODY, None),
            ]:
                enter = f"echo 0 >{place}/cgroup.procs; " if place else ""
                command = f"setpriv --reuid={user} {' '.join(CURL)} '{server.url('/hello.json')}?{name}'"
                run("sh", "-c", f"{enter}exec {command}")
            lines = running.interrupt().lines()
        seen = {line["path"].split("?")[1] for line in messages.of(lines, "http1.request", "curl", "write")}
        with scene.rows.row(rows[0]):
            expect("nobody" in seen and "root" not in seen, f"seen were {sorted(seen)}")
        with scene.rows.row(rows[1]):
            expect({"nobody", "below"} <= seen and "outside" not in seen, f"seen were {sorted(seen)}")
            expect(len(lines) == 4, f"{len(lines)} lines instead of 4")


@contextlib.contextmanager
def cgroup():
    """A group with another one, `below`, in it."""
    with open("/proc/self/mounts") as mounts:
        found = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    expect(found, "cgroup2 is not mounted")
    group = Path(found[0]) / f"ecapture-kernels-{os.getpid()}"
    below = group / "below"
    below.mkdir(parents=True)
    try:
        yield group
    finally:
        below.rmdir()
        group.rmdir()


def expect_paths(lines, paths):
    """curl's requests for these paths, their responses, and nothing else."""
    seen = [line["path"] for line in messages.of(lines, "http1.request", "curl", "write")]
    expect(seen == paths, f"seen were {seen} instead of {paths}")
    expect(len(lines) == 2 * len(paths), f"{len(lines)} lines instead of {2 * len(paths)}")


def late(scene):
    """A connection of one process, opened during the capture, before the probes were in its library."""
    rows = ["pid filter", "connection opened before its probes: marked"]
    with scene.rows.group(*rows):
        server = scene.peers.python()
        openssl = private_openssl(scene.folder / "held")
        hold = scene.folder / "hold"
        os.mkfifo(hold)
        client = Client(server.port, openssl)
        running = scene.product.capture(
            *JSON, "--fail-on-loss", "--pid", client.pid, "--inject", f"discovery-hold:{hold}"
        )
        client.tell("open")
        client.tell("get /hello.json?1")
        release(hold)
        running.wait_for(ATTACHED)
        for what in ["get /hello.json?2", "open", "get /hello.json?3"]:
            client.tell(what)
        curl(server.url("/hello.json?curl"))
        client.end()
        finished = running.interrupt()
        lines = finished.lines()
        with scene.rows.row(rows[0]):
            pids = {line["pid"] for line in lines}
            expect(pids == {client.pid}, f"the lines are of {pids} instead of {client.pid} alone")
        with scene.rows.row(rows[1]):
            requests = messages.of(lines, "http1.request", "python3", "write")
            marks = {request["path"]: request.get("joined_late") for request in requests}
            expected = {"/hello.json?2": "before_probes", "/hello.json?3": None}
            expect(marks == expected, f"marks are {marks}")
            finished.expect_code(LOSS)


def release(hold):
    """Waits until the capture has found something and waits at the FIFO; from here on nothing is held up."""

    def opened():
        try:
            return os.open(hold, os.O_WRONLY | os.O_NONBLOCK) + 1
        except OSError:
            return 0

    descriptor = wait_until(opened, "the capture found nothing new") - 1
    hold.unlink()
    os.close(descriptor)


def bulk(scene):
    """Every byte of many, and of calls that are large, in one recording."""
    rows = ["16 threads, SHA-256 of every byte", "a call above 1 MiB", "closes of sockets and sessions"]
    with scene.rows.group(*rows):
        file = scene.folder / "bulk.jsonl"
        running = scene.product.capture("record", file, "--mapsize", 8192)
        many = Transfer(scene, 16, 3_000_000 if scene.is_long else 150_000)
        large = Transfer(scene, 1, 3 * MEBIBYTE // 2, 3 * MEBIBYTE // 2)
        finished = running.interrupt()
        recording = Recording(file)
        with scene.rows.row(rows[0]):
            many.expect_in(recording)
        with scene.rows.row(rows[1]):
            finished.expect_nothing_lost()
            large.expect_in(recording)
        with scene.rows.row(rows[2]):
            data = [event for event in recording.data if event["pid"] in many.pids]
            sockets = {event["sock"] for event in data}
            closed = {event["sock"] for event in recording.closes if event["close"] == "socket"}
            expect(sockets <= closed, f"{len(sockets - closed)} of {len(sockets)} sockets are not closed")
            sessions = {(event["pid"], event["session"]) for event in data}
            closed = {(event["pid"], event["session"]) for event in recording.closes if event["close"] == "session"}
            expect(sessions <= closed, f"{len(sessions - closed)} of {len(sessions)} sessions are not closed")


class Transfer:
    """What many connections of a client sent to a server, in calls of `write` bytes, or of many sizes when it is 0."""

    def __init__(self, scene, connections, size, write=0):
        server = scene.peers.script("bulk_server.py", connections)
        script = SCRIPTS / "bulk_client.py"
        command = [PYTHON, script, server.port, connections, size, write]
        client = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        self.sent = sorted(client.communicate()[0].split())
        received = sorted(server.child.stdout.read().decode().split())
        expect(client.returncode == 0 and self.sent == received, "client and server differ")
        expect(len(self.sent) == connections, f"{len(self.sent)} connections instead of {connections}")
        self.pids = [client.pid, server.pid]

    def expect_in(self, recording):
        """What the client wrote and the server read is what was captured of both."""
        for name, pid, direction in zip(["client", "server"], self.pids, ["write", "read"]):
            digests = recording.digests(pid, direction)
            expect(digests == self.sent, f"what the {name} had is not what was captured")


def full_ring(scene):
    """A ring that is too small loses exactly what it says."""
    with scene.rows.row("a full ring is counted, byte by byte"):
        total = MEBIBYTE
        server = scene.peers.script("bulk_server.py", 1)
        file = scene.folder / "full.jsonl"
        running = scene.product.capture("record", file, "--mapsize", 1, "--pid", server.pid)
        # Nobody reads the ring until all has been sent.
        running.child.send_signal(signal.SIGSTOP)
        run(PYTHON, SCRIPTS / "bulk_client.py", server.port, 1, total, 10_000)
        server.child.wait()
        running.child.send_signal(signal.SIGCONT)
        finished = running.interrupt()
        events, size = messages.lost(finished, "ring_full")
        expect(events > 0 and size > 0, f"nothing was lost: {finished.last_words()}")
        data = Recording(file).of(server.pid, "read")
        received = sum(len(payload_of(event)) for event in data)
        expect(received + size == total, f"{received} received and {size} lost of {total} bytes")


def refused(scene):
    """With a program that the kernel refuses, the rest is captured and `doctor` names the one."""
    rows = ["a refused program costs only what needs it", "when all programs are refused the run fails"]
    with scene.rows.group(*rows):
        server = scene.peers.python()
        with scene.rows.row(rows[0]):
            environment = scene.spoiled("gnutls_send")
            finished = scene.product.run(*JSON, "--", *CURL, server.url("/hello.json"), environment=environment)
            finished.expect_code(0)
            expect_exchange(finished.lines(), "http1", "curl", "client")
            expect("gnutls_send" in finished.stderr, "the log does not name it")
            diagnosis = scene.product.run("doctor", "--format", "jsonl", environment=environment)
            lines = [line for line in diagnosis.lines() if line["kind"] == "program" and not line["ok"]]
            names = [line["name"] for line in lines]
            expect("gnutls_send" in names, f"doctor names {names}")
            expect(all(line["reason"] for line in lines), "doctor gives no reason")
            diagnosis.expect_code(0)
        with scene.rows.row(rows[1]):
            environment = scene.spoiled("all")
            finished = scene.product.run(*JSON, "--", "true", environment=environment)
            finished.expect_code(1)
            diagnosis = scene.product.run("doctor", "--format", "jsonl", environment=environment)
            diagnosis.expect_code(1)
            expect(not diagnosis.lines()[-1]["can_capture"], "doctor says that this host can be captured")


def shells(scene):
    """What is typed into a shell is shown, with its exit status where the kernel has cookies."""
    for name, options in [("bash", ["--norc", "--noprofile", "-i"]), ("zsh", ["-f", "-i"])]:
        rows = [f"ecapture {name}", f"ecapture {name}: exit statuses"]
        with scene.rows.group(*rows):
            running = scene.product.capture(name, "-o", "jsonl")
            pid = type_into(name, *options, "echo one; false", "cd /usr/lib", "(exit 7)")
            finished = running.interrupt()
            commands = [line for line in finished.lines() if line["kind"] == "shell.command" and line["pid"] == pid]
            texts = [command["command"]["text"] for command in commands]
            with scene.rows.row(rows[0]):
                expect(texts == ["echo one; false", "cd /usr/lib", "(exit 7)"], f"shown were {texts}: {finished.last_words()}")
                finished.expect_code(0)
            with scene.rows.row(rows[1]):
                statuses = [command.get("exit_status") for command in commands]
                expect(statuses == [1, 0, 7], f"they are {statuses}")


def type_into(*words):
    """Types the lines among `words`, which follow the last option, into a shell. Gives its number."""
    last = max(index for index, word in enumerate(words) if word.startswith("-"))
    steps = [["", "READY> "], *([line + "\n", "READY> "] for line in words[last + 1 :])]
    driver = subprocess.run(
        [PYTHON, CHECKOUT / "tests/peers/shell.py", *words[: last + 1]],
        input="".join(json.dumps(step) + "\n" for step in steps),
        stdout=subprocess.PIPE,
        text=True,
    )
    expect(driver.returncode == 0, "the shell could not be typed into")
    return int(driver.stdout.split()[0])


def module_sets(scene):
    """The kernel takes the programs of each kind of capture, and of all together, and runs to a regular end."""
    packets = scene.folder / "packets.pcapng"
    # Packets with a filter expression: the programs that run it are the larger ones.
    sets = {
        "the programs of mysqld": ["mysqld"],
        "the programs of postgres": ["postgres"],
        "the programs of key logs": ["tls", "-m", "keylog", "-k", scene.folder / "keys"],
        "the programs of packets": ["tls", "-m", "pcap", "-i", "lo", "-w", packets, "tcp port 1"],
        "watch tls bash zsh": ["watch", "tls", "bash", "zsh"],
        "watch tls bash zsh mysqld postgres": ["watch", "tls", "bash", "zsh", "mysqld", "postgres"],
    }
    with scene.rows.group(*sets):
        for row, arguments in sets.items():
            with scene.rows.row(row):
                finished = scene.product.capture(*arguments).interrupt()
                finished.expect_code(0)
                refused = [line for line in finished.stderr.splitlines() if "refused" in line]
                expect(not refused, " | ".join(refused)[:400])


GROUPS = {
    "doctor": doctor,
    "demo": demo,
    "commands": commands,
    "exchanges": exchanges,
    "filters": filters,
    "late": late,
    "bulk": bulk,
    "full-ring": full_ring,
    "shells": shells,
    "module-sets": module_sets,
    "content": content,
    "refused": refused,
}


class Scene:
    """What a group of checks works with: the product, a folder, servers, and where results go."""

    def __init__(self, product, rows, peers, results, is_long):
        self.product, self.rows, self.peers = product, rows, peers
        self.folder, self.results, self.is_long = peers.folder, Path(results), is_long

    def save(self, name, value):
        self.save_text(name, json.dumps(value))

    def save_text(self, name, text):
        (self.results / name).write_text(text)

    def spoiled(self, programs):
        """The environment that makes it use a kernel object in which these programs are invalid."""
        file = self.peers.prepared / f"spoiled-{programs}.o"
        expect(file.exists(), f"{file} was not made")
        return {"ECAPTURE_BPF_OBJECT": str(file)}
