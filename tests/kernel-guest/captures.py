#!/usr/bin/env python3
"""Makes networks, has programs exchange requests over them by TLS, and captures the packets with others' tools; then
with the product. What it leaves in RESULTS is compared by tests/kernel-guest/replayed.py.

Usage: captures.py --results RESULTS --ecapture PROGRAM [--short]

RESULTS has `key.pem` and `certificate.pem`, and gets `expected.json` (the requests that were made), `keys.log` (the clients' own), a file for each capture, and,
last, `ended`.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import networks
from networks import NETWORKS, inside
from peers import PYTHON, Server
from product import Product, Running, expect, wait_until

HERE = Path(__file__).resolve().parent
TCPDUMP = ["tcpdump", "-U", "-Z", "root", "-B", "32768"]
# Sends what its arguments say to the discard port of each address.
SENTINELS = """
import socket, sys
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.socket(family, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (address, 9))
"""
# Bytes of a packet that one of the captures keeps.
SNAP = 400
# Bodies: text, so that each tool prints them as they are.
SIZES = {False: [10, 1000, 20_000, 120_000], True: [10, 20_000]}
# The product's captures in a short run.
OWN_SHORT = ["any", "filter"]


def body(size):
    """What is served as a file of this size."""
    return "".join(f"line {number} of {size}\n" for number in range(size // 10 + 1))[:size]


def main():
    parser = argparse.ArgumentParser()
    for name in ["results", "ecapture"]:
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ecapture-captures-") as folder:
        Scene(arguments, Path(folder)).play()


class Scene:
    def __init__(self, arguments, folder):
        self.results, self.folder = arguments.results, folder
        self.product, self.is_short, self.sizes = Product(arguments.ecapture), arguments.short, SIZES[arguments.short]
        # By what they are in: the captures of others, or one of the product's.
        self.expected = {"": []}
        self.began = time.monotonic()

    def play(self):
        networks.create()
        self.note("the networks are there")
        server = self.serve()
        captures = [Capture(self.folder, name, *command) for name, command in self.tools().items()]
        for capture in captures:
            capture.wait_until_capturing()
        self.note(f"{len(captures)} captures run")
        for network in NETWORKS:
            self.exchange(network)
            self.note(network.name)
        end(captures)
        self.note("the captures have ended")
        self.own_captures()
        server.end()
        (self.results / "expected.json").write_text(json.dumps(self.expected))
        for file in self.folder.glob("*.pcap*"):
            (self.results / file.name).write_bytes(file.read_bytes())
        (self.results / "keys.log").write_bytes((self.folder / "keys.log").read_bytes())
        (self.results / "kernel").write_text(f"{os.uname().release} {os.uname().machine}\n")
        (self.results / "ended").touch()
        self.note("all is written")

    def note(self, what):
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", flush=True)

    def serve(self):
        """nginx, which answers each path with a file whose size is the last word."""
        for size in self.sizes:
            (self.folder / f"{size}.txt").write_text(body(size))
        self.folder.chmod(0o755)
        listens = "".join(f"listen {network.port} ssl http2; listen [::]:{network.port} ssl http2; " for network in NETWORKS)
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind}; " for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        file = self.folder / "nginx.conf"
        file.write_text(
            f"""worker_processes 1;
pid {self.folder}/nginx.pid;
user root;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {temporary}
  server {{
    {listens}
    ssl_certificate {self.results}/certificate.pem;
    ssl_certificate_key {self.results}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ALL;
    default_type text/plain;
    client_body_buffer_size 1m;
    # A proxy reads a request to its end before it answers.
    location ~ /posted/ {{ proxy_pass http://unix:{self.folder}/answer:; }}
    location ~ /([0-9]+)$ {{ alias {self.folder}/$1.txt; }}
  }}
  server {{ listen unix:{self.folder}/answer; return 200 "taken\\n"; }}
}}
"""
        )
        command = inside("server", "nginx", "-c", file, "-e", "stderr", "-g", "daemon off;")
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        listens = ["ss", "-Hltn", f"sport = :{NETWORKS[-1].port}"]

        def is_listening():
            expect(child.poll() is None, f"nginx ended with {child.returncode}")
            return subprocess.check_output(inside("server", *listens))

        wait_until(is_listening, "nginx does not listen")
        return Server(child, NETWORKS[-1].port)

    def tools(self):
        """Each capture's file and command; its file is the last argument."""
        tcpdump = TCPDUMP
        every = sorted({name for network in NETWORKS for name in (network.interface, network.lower)})
        interfaces = [word for name in every for word in ("-i", name)]
        tools = {
            "any-sll2.pcap": ["client", *tcpdump, "-i", "any", "-y", "LINUX_SLL2", "-w"],
            "any-sll.pcap": ["client", *tcpdump, "-i", "any", "-y", "LINUX_SLL", "-w"],
            "snap.pcap": ["client", *tcpdump, "-i", "any", "-s", SNAP, "-w"],
            "server.pcap": ["server", *tcpdump, "-i", "any", "--nano", "-w"],
            "several.pcapng": ["client", "dumpcap", "-q", "-B", "32", *interfaces, "-w"],
            "dumpcap-any.pcapng": ["client", "dumpcap", "-q", "-B", "32", "-i", "any", "-w"],
        }
        for name in every:
            tools[f"tcpdump-{name}.pcap"] = ["client", *tcpdump, "--nano", "-i", name, "-w"]
        return tools

    def exchange(self, network):
        """HTTP/1.1 and HTTP/2 over TLS 1.2 and 1.3, with one connection for several requests."""
        posted = self.sizes[-1]
        environment = {**os.environ, "SSLKEYLOGFILE": str(self.folder / "keys.log")}
        for version in ["1.2", "1.3"]:
            for number, flags in enumerate([["--http1.1"], ["--http2"]]):
                root = f"/{network.folder}/{version}-{number}"
                gets = [f"{root}/got/{size}" for size in self.sizes]
                posts = [f"{root}/posted/{posted}", f"{root}/posted/again/{posted}"]
                if version == "1.2":
                    flags = [*flags, "--tls-max", "1.2"]
                    # Encrypted blocks with a MAC of their own.
                    flags += ["--ciphers", "ECDHE-ECDSA-AES256-SHA384"] if number == 0 else []
                self.curl("", network, environment, flags, gets, posts)

    def curl(self, where, network, environment, flags, gets, posts):
        common = ["-sk", "--noproxy", "*", "--max-time", "200", "-w", "%{http_code}\n", *flags]
        words = list(common)
        for path in gets:
            words += ["-o", "/dev/null", f"https://{network.authority}{path}"]
        upload = f"@{self.folder}/{self.sizes[-1]}.txt"
        words += ["--next", *common, "-H", "Expect:", "--data-binary", upload]
        for path in posts:
            words += ["-o", "/dev/null", f"https://{network.authority}{path}"]
        done = subprocess.run(inside("client", "curl", *words), env=environment, stdout=subprocess.PIPE, text=True)
        answers = done.stdout.split()
        expect(
            done.returncode == 0 and answers == ["200"] * (len(gets) + len(posts)),
            f"curl {flags} over {network.name} ended with {done.returncode}: {answers}",
        )

        exchanges = [("GET", path, "", body(int(path.rsplit("/", 1)[1]))) for path in gets]
        exchanges += [("POST", path, body(self.sizes[-1]), "taken\n") for path in posts]
        self.expected.setdefault(where, []).extend((network.port, network.authority, *exchange) for exchange in exchanges)

    def own_captures(self):
        """The product captures packets and keys of VLANs, and tcpdump the same packets beside it."""
        vlan, vlan_6, plain_6 = NETWORKS[2], NETWORKS[3], NETWORKS[1]
        for name, interface, expression, asked in [
            ("vlan", "c-tagged.5", "", [vlan, vlan_6]),
            ("parent", "c-tagged", "", [vlan, vlan_6]),
            ("any", "any", "", [vlan, vlan_6, plain_6]),
            ("filter", "c-tagged", f"vlan 5 and tcp port {vlan.port}", [vlan, vlan_6]),
            ("filter6", "c-plain", f"ip6 and tcp port {plain_6.port}", [plain_6]),
        ]:
            if self.is_short and name not in OWN_SHORT:
                continue
            words = [expression] if expression else []
            theirs = [*TCPDUMP, "--nano", "-i", interface, *[f"({word}) or udp port 9" for word in words], "-w"]
            theirs = Capture(self.folder, f"own-{name}-theirs.pcap", "client", *theirs)
            file = self.folder / f"own-{name}.pcapng"
            ours = ["tls", "-m", "pcap", "-i", interface, "-w", file, *words]
            ours = Running(inside("client", self.product.path, *ours), {})
            theirs.wait_until_capturing()
            ours.wait_for("capturing")
            for network in asked:
                flags = ["--http1.1"] if network is vlan else ["--http2", "--tls-max", "1.2"]
                root = f"/{network.folder}/own-{name}"
                gets = [f"{root}/got/{size}" for size in self.sizes]
                self.curl(name, network, dict(os.environ), flags, gets, [f"{root}/posted/"])
            end([theirs])
            finished = ours.interrupt()
            finished.expect_code(0)
            (self.results / f"own-{name}.log").write_text(finished.stderr)
            self.note(f"own capture: {name}")


class Capture:
    """A capture by another program."""

    def __init__(self, folder, name, namespace, *command):
        self.file = folder / name
        command = inside(namespace, *command, self.file)
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait_until_capturing(self):
        for line in self.child.stderr:
            if "istening on" in line or "File: " in line:
                return
        expect(False, f"{self.file.name}: it ended with {self.child.wait()}")

    def has(self, sentinel):
        with open(self.file, "rb") as file:
            file.seek(max(0, self.file.stat().st_size - 100_000))
            return sentinel.encode() in file.read()

    def end(self):
        """It must have missed nothing."""
        self.child.send_signal(signal.SIGINT)
        words = " ".join(self.child.stderr.read().split())
        self.child.wait()
        print(f"    {self.file.name}: {words}", flush=True)
        dropped = re.findall(r"(\d+) packets dropped|received/dropped on interface \S+: \d+/(\d+)", words)
        expect(dropped, f"{self.file.name}: it does not say how much it has missed: {words}")
        expect(not any(int("".join(number)) for number in dropped), f"{self.file.name}: {words}")


def end(captures):
    """Ends captures when all that was sent is in their files. The last packets on a link that delays them may come
    behind the first sentinel, and a link may lose any."""
    for round in range(2):
        sentinel = f"the last packet, {round}"

        def all_have_it():
            servers = [network.server for network in NETWORKS]
            subprocess.run(inside("client", PYTHON, "-c", SENTINELS, sentinel, *servers), check=True)
            return all(capture.has(sentinel) for capture in captures)

        wait_until(all_have_it, f"{sentinel!r} is not in all files")
    for capture in captures:
        capture.end()


if __name__ == "__main__":
    main()
