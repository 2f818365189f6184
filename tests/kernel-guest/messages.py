"""What the JSON Lines of a capture say: of whom, between which ports, and with which losses."""

import re

from product import expect
from peers import HELLO


def with_port(lines, port):
    end = f":{port}"
    return [line for line in lines if any(line.get(side, "").endswith(end) for side in ("src", "dst"))]


def of(lines, kind, comm, direction):
    """Messages of `kind` that `comm` sent ("write") or received ("read")."""
    key = (kind, comm, direction)
    return [line for line in lines if (line["kind"], line["comm"], line["direction"]) == key]


def expect_exchange(lines, version, comm, side, path="/hello.json", body=HELLO, count=1, addresses="exact"):
    """`comm`, a "client" or "server", has exchanged `count` requests for `path` and their responses, all whole."""
    directions = ("write", "read") if side == "client" else ("read", "write")
    requests = of(lines, f"{version}.request", comm, directions[0])
    requests = [request for request in requests if request.get("path", "").split("?")[0] == path]
    responses = of(lines, f"{version}.response", comm, directions[1])
    ports = {request.get("src") for request in requests}
    responses = [response for response in responses if response.get("dst") in ports]
    what = f"of {comm} as a {side}, {version} {path}"
    expect(len(requests) == count, f"{len(requests)} requests instead of {count} {what}")
    expect(len(responses) >= count, f"{len(responses)} responses instead of {count} {what}")
    whole = [response for response in responses if response["body"].get("text") == body]
    expect(len(whole) == count, f"{len(whole)} right bodies instead of {count} {what}")
    for message in requests + responses:
        found = message.get("addr_source", "unknown")
        expect(found == addresses, f"addresses are {found} instead of {addresses} {what}")
        late = message.get("joined_late")
        expect(late is None, f"marked {late} {what}")


def text_of(lines, comm, direction):
    """The bytes of raw messages, which are text."""
    return "".join(line["data"].get("text", "") for line in of(lines, "raw", comm, direction))


def lost(finished, name):
    """Events and bytes of the loss with this name."""
    found = re.search(rf" {name}: (\d+) events, (\d+) bytes", finished.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)
