#!/usr/bin/env python3
"""Compares what `ecapture replay` prints of captures with what tshark decrypts of them and with the requests that were
made, and writes the table.

Usage: replayed.py --results RESULTS --ecapture PROGRAM [--write FILE]

RESULTS is what tests/kernel-guest/captures.py has left. Exits with 1 when something is wrong, or is missing and not
marked.
"""

import argparse
import collections
import functools
import json
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

from networks import NETWORKS, SPAN

# Files whose captures lack packets, or parts of them.
CUT, THINNED = "snap.pcap", "thinned.pcapng"
# Of so many packets one is removed.
THINNED_BY = 60
LOSS = 3

# An exchange as all sides see it. `whole` is false when the program that shows it says that something is missing.
Exchange = collections.namedtuple("Exchange", "method host path sent status received whole")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--ecapture", required=True)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    judge = Judge(arguments.results, arguments.ecapture)
    text = "\n".join([*judge.captures(), *judge.own_captures()]) + "\n"
    print(text)
    if arguments.write:
        arguments.write.write_text(text)
    print(*judge.problems, sep="\n")
    sys.exit(1 if judge.problems else 0)


class Judge:
    def __init__(self, results, program):
        self.results, self.program, self.problems = results, program, []
        self.keys = results / "keys.log"
        self.made = {
            where: [(port, Exchange(method, host, path, sent, 200, received, True)) for port, host, method, path, sent, received in rows]
            for where, rows in json.loads((results / "expected.json").read_text()).items()
        }

    def of_network(self, network, where=""):
        return {made.path: made for port, made in self.made[where] if port == network.port}

    def captures(self):
        """The table of captures by others' tools."""
        thin(self.results / "several.pcapng", self.results / THINNED)
        columns = {
            "tcpdump, its interface": lambda network: f"tcpdump-{network.interface}.pcap",
            "tcpdump, the interface below": lambda network: f"tcpdump-{network.lower}.pcap",
            "tcpdump, any (SLL2)": lambda _: "any-sll2.pcap",
            "tcpdump, any (SLL)": lambda _: "any-sll.pcap",
            "tcpdump, any, at the server": lambda _: "server.pcap",
            "dumpcap, 12 interfaces": lambda _: "several.pcapng",
            "dumpcap, any": lambda _: "dumpcap-any.pcapng",
            "tcpdump, 400 bytes of each": lambda _: CUT,
            "dumpcap, one in 60 removed": lambda _: THINNED,
        }
        total = len(self.of_network(NETWORKS[0]))
        yield "# Captures that others' tools made\n"
        yield f"Written by `tests/captures table`, with Linux {(self.results / 'kernel').read_text().strip()}. curl and nginx made"
        yield f"{total} requests on each network, over TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2; {self.tools()}"
        yield "captured them, and curl wrote the key log. A cell says how many of them `ecapture replay` shows as a whole, with"
        yield "the method, host, path, status and both bodies that were sent; tshark decrypts the same of the same file, unless"
        yield "the cell says otherwise. Where packets are missing, `replay` shows the rest, and says that something is missing unless all requests are shown.\n"
        yield "| network | " + " | ".join(columns) + " |"
        yield "|---|" + "---|" * len(columns)
        for network in NETWORKS:
            cells = []
            for column in columns.values():
                name = column(network)
                is_known = network.lower == network.interface and column is columns["tcpdump, the interface below"]
                cells.append("-" if is_known else self.cell(name, network))
            yield f"| {network.name} | " + " | ".join(cells) + " |"

        yield "\nIPv6 has no row with fragments: its routers cut nothing, and Linux's TCP keeps to the MTU of the way.\n"

    def tools(self):
        versions = [subprocess.run([tool, "--version"], capture_output=True, text=True) for tool in ["tcpdump", "tshark"]]
        tcpdump, tshark = [re.search(r"\d+\.\d+\.\d+", run.stdout + run.stderr)[0] for run in versions]
        return f"tcpdump {tcpdump} and dumpcap {tshark}"

    def cell(self, name, network):
        file, what = self.results / name, f"{network.name}, {name}"
        lacks = name in (CUT, THINNED) or name == f"tcpdump-{SPAN}.pcap"
        if lacks:
            file = self.part(file, network)
        made = self.of_network(network)
        shown, code, words = self.replay(file, "--keylog", self.keys)
        shown = shown.get(network.port, {})
        theirs = {path: seen for path, seen in self.tshark(file).get(network.port, {}).items() if seen == made.get(path)}
        whole = {path: seen for path, seen in shown.items() if seen.whole}
        for path, seen in shown.items():
            self.check(seen, made.get(path), what)
        text = str(len(whole))
        if len(theirs) != len(whole):
            text += f" (tshark: {len(theirs)})"
        if lacks:
            is_marked = code == LOSS and ("not decrypted" in words or "not in the capture" in words)
            # Interfaces in turns: the only copy of a request may come long after its answer, which is then marked.
            is_marked |= set(made) == set(shown)
            self.expect(len(whole) == len(made) or is_marked, f"{what}: nothing says that requests are missing: {words}")
            return text
        missed = sorted(set(theirs) - set(whole))
        self.expect(not missed, f"{what}: tshark has {missed[:3]}, too")
        self.expect(whole == made, f"{what}: {len(whole)} of {len(made)} requests: {words}")
        self.expect(code == 0 or not made, f"{what}: exit code {code}: {words}")
        return text

    def check(self, seen, made, what):
        """What is shown is what was sent; what is marked as incomplete may lack some of it."""
        if made is None:
            return self.expect(not seen.whole, f"{what}: nobody made {seen.method} {seen.path}")
        if seen.whole:
            return self.expect(seen == made, f"{what}: {difference(seen, made)}")
        self.expect(seen.method == made.method, f"{what}: {seen.method} {seen.path}")
        for part, whole in [(seen.sent, made.sent), (seen.received, made.received)]:
            rest = iter(whole)
            self.expect(all(letter in rest for letter in part or ""), f"{what}: {seen.path}: its parts were not sent")

    def expect(self, holds, problem):
        if not holds:
            self.problems.append(problem)

    def part(self, file, network):
        """The packets of one network in a file, by address: fragments have no ports."""
        field = "ipv6.addr" if ":" in network.server else "ip.addr"
        part = self.results / f"part-{network.port}-{file.name}.pcapng"
        run("tshark", "-r", file, "-Y", f"{field} == {network.server}", "-w", part)
        return part

    @functools.cache
    def replay(self, file, *flags):
        """The exchanges by port and path, the exit code, and what it said."""
        command = [self.program, "replay", file, *flags, "--format", "jsonl", "--whole", "--fail-on-loss"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        found = collections.defaultdict(dict)
        exchanges = collections.defaultdict(dict)
        for line in map(json.loads, done.stdout.splitlines()):
            if line["kind"].endswith((".request", ".response")):
                path = line.get("path") or ""
                self.expect("/1.3-" not in path or line["tls_version"] == "TLS1_3_VERSION", f"{file.name}: {path} by {line['tls_version']}")
                self.expect("/1.2-" not in path or line["tls_version"] == "TLS1_2_VERSION", f"{file.name}: {path} by {line['tls_version']}")
                exchanges[line["connection"], line.get("exchange")][line["kind"].split(".")[1]] = line
        for lines in exchanges.values():
            add(found, lines.get("request"), lines.get("response"))
        return found, done.returncode, " | ".join(words_of(done.stderr))

    @functools.cache
    def tshark(self, file, with_keys=True):
        """The exchanges by port and path."""
        options = ["-o", "tcp.reassemble_out_of_order:TRUE"]
        options += ["-o", f"tls.keylog_file:{self.keys}"] if with_keys else []
        pdml = run("tshark", "-r", file, *options, "-Y", "http || http2", "-T", "pdml", "-J", "http http2 tcp")
        return Decrypted(xml.fromstring(pdml)).exchanges()

    def own_captures(self):
        yield "The product's own captures on the same networks, with keys that it took from curl and nginx: the same ranges of"
        yield "each TCP stream as tcpdump captured at the same time, in fewer packets where the kernel cuts them into segments after we"
        yield "have seen them; tshark and `replay` decrypt all requests with the keys in the file.\n"
        yield "| `ecapture tls -m pcap` | packets | requests |"
        yield "|---|---|---|"
        rows = {
            "vlan": "-i c-tagged.5",
            "parent": "-i c-tagged",
            "any": "-i any",
            "filter": "-i c-tagged 'vlan 5 and tcp port 8403'",
            "filter6": "-i c-plain 'ip6 and tcp port 8402'",
        }
        for name, flags in rows.items():
            if name in self.made:
                yield f"| `{flags}` | {self.own_packets(name)} | {self.own_requests(name)} |"

    def own_packets(self, name):
        """How many there are. What leaves by an interface is captured before the kernel cuts it into segments, and by
        tcpdump behind it: so what counts is which bytes are there."""
        ours, theirs = (Streams(self.results / f"own-{name}{end}") for end in [".pcapng", "-theirs.pcap"])
        self.expect(ours.streams and ours.streams == theirs.streams, f"own {name}: {ours.streams} and not {theirs.streams}"[:600])
        return f"{ours.packets} (tcpdump: {theirs.packets})"

    def own_requests(self, name):
        file = self.results / f"own-{name}.pcapng"
        ours, code, words = self.replay(file)
        theirs = self.tshark(file, with_keys=False)
        self.expect(code == 0, f"own {name}: exit code {code}: {words}")
        count = 0
        # What a filter leaves out is not there.
        for network in NETWORKS if not name.startswith("filter") else [NETWORKS[2 if name == "filter" else 1]]:
            made = self.of_network(network, name)
            count += len(made)
            for program, seen in [("replay", ours), ("tshark", theirs)]:
                seen = seen.get(network.port, {})
                self.expect(seen == made, f"own {name}: {program} shows {len(seen)} of {len(made)} requests: {words}")
        return count


def words_of(stderr):
    return [line.split("Z ", 1)[-1].strip() for line in stderr.splitlines()]


def difference(seen, made):
    fields = [field for field in Exchange._fields if getattr(seen, field) != getattr(made, field)]
    shown = [f"{field} {str(getattr(seen, field))[:60]!r} for {str(getattr(made, field))[:60]!r}" for field in fields]
    return f"{made.path}: {'; '.join(shown)}"


def add(found, request, response):
    """Adds an exchange of `replay`, by the port of the server."""
    line = request or response
    server = line["dst"] if request else line["src"]
    method, path = (request or response.get("request") or {}).get("method"), (request or response.get("request") or {}).get("path")
    if not path:
        return
    bodies = [part["body"] for part in (request, response) if part]
    whole = bool(request and response) and response["pairing"] == "certain" and all(body["complete"] for body in bodies)
    if response and response["pairing"] != "certain":
        response = None
    # Fields whose names and values were in packets that are missing.
    whole &= not any([None, None] in part["headers"] for part in (request, response) if part)
    sent, received = (part["body"].get("text") if part else None for part in (request, response))
    host = request and (request.get("authority") or dict(map(tuple, request["headers"])).get("Host"))
    status = response and response.get("status")
    found[int(server.rsplit(":", 1)[1])][path] = Exchange(method, host, path, sent, status, received, whole)


class Decrypted:
    """What tshark's dissection of a file says, packet by packet."""

    def __init__(self, dissection):
        self.requests = {}
        # By stream of TCP: requests of HTTP/1.1 that were not answered yet.
        self.waiting = collections.defaultdict(collections.deque)
        self.names = {}
        for packet in dissection.iter("packet"):
            tcp = packet.find("proto[@name='tcp']")
            stream, ports = show(tcp, "tcp.stream"), [int(show(tcp, f"tcp.{end}port")) for end in ("src", "dst")]
            for http in packet.iter("proto"):
                if http.get("name") == "http":
                    self.http1(stream, ports, http)
                elif http.get("name") == "http2":
                    for frame in http.iter("field"):
                        if frame.get("name") == "http2.stream":
                            self.http2(stream, ports, frame)

    def http1(self, stream, ports, http):
        body = (value(http, "http.file_data") or b"").decode()
        if method := show(http, "http.request.method"):
            path = show(http, "http.request.uri")
            key = (stream, path)
            self.requests[key] = [ports[1], method, show(http, "http.host"), path, body, None, None]
            self.waiting[stream].append(key)
        elif (status := show(http, "http.response.code")) and self.waiting[stream]:
            self.requests[self.waiting[stream].popleft()][5:] = [int(status), body]

    def http2(self, stream, ports, frame):
        key = (stream, show(frame, "http2.streamid"), "2")
        is_sent = ports[1] in {network.port for network in NETWORKS}
        row = self.requests.setdefault(key, [None, None, None, None, "", None, ""])
        kind = show(frame, "http2.type")
        if kind == "0":
            data = next((value(field, None) for field in frame.iter("field") if field.get("name") == "http2.data.data"), b"")
            # With the last frame of a body it shows the body.
            whole = len(data) > int(show(frame, "http2.length"))
            place = 4 if is_sent else 6
            row[place] = ("" if whole else row[place]) + data.decode()
        elif kind == "1" and is_sent:
            headers = [show(frame, f"http2.headers.{name}") for name in ("method", "authority", "path")]
            row[:4] = [ports[1], *headers]
        elif kind == "1" and (status := show(frame, "http2.headers.status")):
            row[5] = int(status)

    def exchanges(self):
        found = collections.defaultdict(dict)
        for port, method, host, path, sent, status, received in self.requests.values():
            if path:
                found[port][path] = Exchange(method, host, path, sent, status, received, True)
        return found


def show(element, name):
    field = next((field for field in element.iter("field") if field.get("name") == name), None)
    return None if field is None else field.get("show")


def value(element, name):
    """The bytes of a field."""
    field = element if name is None else next((field for field in element.iter("field") if field.get("name") == name), None)
    return None if field is None else bytes.fromhex(field.get("value") or "")


class Streams:
    """The bytes in the TCP packets of a capture: of each direction its ranges of sequence numbers and the flags."""

    def __init__(self, file):
        fields = ["ip.src", "ipv6.src", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.len", "tcp.flags.syn", "tcp.flags.fin"]
        words = [word for field in fields for word in ("-e", field)]
        self.packets, ranges = 0, collections.defaultdict(list)
        for line in run("tshark", "-r", file, "-Y", "tcp", "-T", "fields", *words).splitlines():
            *ends, begin, length, syn, fin = line.split("\t")
            self.packets += 1
            # Both flags take a number.
            ranges[tuple(ends)].append((int(begin), int(begin) + int(length) + int(syn) + int(fin)))
        self.streams = {ends: merged(of_ends) for ends, of_ends in ranges.items()}


def merged(ranges):
    whole = []
    for begin, end in sorted(set(ranges)):
        if whole and begin <= whole[-1][1]:
            whole[-1][1] = max(whole[-1][1], end)
        else:
            whole.append([begin, end])
    return whole


def thin(file, thinned):
    """Removes packets, always the same numbers of them."""
    count = len(run("tshark", "-r", file, "-T", "fields", "-e", "frame.number").splitlines())
    removed = sorted(random.Random(1).sample(range(1, count + 1), count // THINNED_BY))
    # It takes a bounded number of numbers at once.
    run("editcap", file, thinned, *removed)


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
