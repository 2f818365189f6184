#!/usr/bin/python3
"""Count what an output delivers: receivers.py tcp PORT | ecaptureq PORT

Reads to the end of the stream, then prints the number of log entries (tcp) or of captured records (ecaptureq) and
their bytes: varint-delimited entries on a TCP connection that it accepts, or binary frames of an eCaptureQ server
that it connects to. Prints "ready" as soon as it accepts or reads.
"""
import socket
import sys


class Stream:
    """Bytes of a socket, some at a time."""

    def __init__(self, connection):
        self.connection, self.held, self.at = connection, b"", 0

    def has(self, count):
        """Whether `count` more bytes can be read, after waiting for them."""
        while len(self.held) - self.at < count:
            more = self.connection.recv(1 << 20)
            if not more:
                return False
            self.held, self.at = self.held[self.at:] + more, 0
        return True

    def take(self, count):
        self.at += count
        return self.held[self.at - count:self.at]


def entries(stream):
    """The entries of a TCP connection: each has its length before it, as a varint."""
    while stream.has(1):
        length = shift = 0
        while True:
            if not stream.has(1):
                raise SystemExit("the stream ends in a length")
            byte = stream.take(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if not stream.has(length):
            raise SystemExit("the stream ends in an entry")
        yield stream.take(length)


def frames(stream):
    """The binary messages of a WebSocket server, which does not mask (RFC 6455 section 5.2)."""
    while stream.has(2):
        first, length = stream.take(2)
        if length >= 126:
            size = 2 if length == 126 else 8
            stream.has(size)
            length = int.from_bytes(stream.take(size), "big")
        if not stream.has(length):
            raise SystemExit("the stream ends in a frame")
        frame = stream.take(length)
        if first & 0x0F == 2:
            yield frame


def connected(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" % port
    )
    stream = Stream(connection)
    while b"\r\n\r\n" not in stream.held and stream.has(len(stream.held) + 1):
        pass
    assert stream.held.startswith(b"HTTP/1.1 101"), stream.held
    stream.at = stream.held.index(b"\r\n\r\n") + 4
    return stream


def main():
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "tcp":
        listener = socket.create_server(("127.0.0.1", port))
        print("ready", flush=True)
        records = entries(Stream(listener.accept()[0]))
    else:
        stream = connected(port)
        print("ready", flush=True)
        # log_type = LOG_TYPE_EVENT: the rest are heartbeats and log lines.
        records = (frame for frame in frames(stream) if frame.startswith(b"\x08\x02"))
    count = size = 0
    for record in records:
        count += 1
        size += len(record)
    print(count, size, flush=True)


main()
