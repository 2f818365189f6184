"""Sends statements to a database server over many connections at once, in its own protocol.

    sql_load.py mysql|postgres ADDRESS PORT-OR-SOCKET CONNECTIONS STATEMENTS [prepared]

Texts have 10 bytes to 1 MiB and every byte value that the server accepts. Writes a line for each statement in JSON:
the server's number of the connection, the SHA-256 and the length of the text, whether it fails, and the parameters.
"""

import hashlib
import json
import random
import socket
import struct
import sys
import threading


def connect(address, port):
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
    else:
        connection = socket.create_connection((address, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Reader:
    def __init__(self, connection):
        self.connection = connection
        self.pending = bytearray()

    def take(self, length):
        while len(self.pending) < length:
            received = self.connection.recv(1 << 16)
            if not received:
                raise EOFError("the server has closed the connection")
            self.pending += received
        taken = bytes(self.pending[:length])
        del self.pending[:length]
        return taken


class MySql:
    """https://mariadb.com/kb/en/clientserver-protocol/"""

    # Every byte value, in a comment.
    alphabet = bytes(range(256))

    def __init__(self, address, port):
        self.connection = connect(address, port)
        self.reader = Reader(self.connection)
        greeting = self.packet()
        version = greeting.index(0, 1)
        self.number = struct.unpack_from("<I", greeting, version + 1)[0]
        # CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH; binary; MARIADB_CLIENT_STMT_BULK_OPERATIONS;
        # root without a password.
        self.sequence = 1
        self.send(struct.pack("<IIB19xI", 0x00088200, 1 << 30, 63, 1 << 2) + b"root\0\0mysql_native_password\0")
        self.answer()

    def packet(self):
        whole = b""
        while True:
            head = self.reader.take(4)
            length = int.from_bytes(head[:3], "little")
            whole += self.reader.take(length)
            if length < 0xFFFFFF:
                return whole

    def send(self, payload):
        packets = []
        while True:
            part, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
            packets.append(len(part).to_bytes(3, "little") + bytes([self.sequence & 0xFF]) + part)
            self.sequence += 1
            if len(part) < 0xFFFFFF:
                break
        self.connection.sendall(b"".join(packets))

    def command(self, number, payload):
        self.sequence = 0
        self.send(bytes([number]) + payload)

    def answer(self):
        """Returns true if the server answered with an error. Statements return one row at most."""
        first = self.packet()
        if first[0] == 0xFF:
            return True
        if first[0] != 0:
            ends = 0
            while ends < 2:
                packet = self.packet()
                ends += packet[0] == 0xFE and len(packet) < 9
        return False

    def query(self, text):
        self.command(3, text)
        return self.answer()

    def prepare(self, text):
        """Returns the server's number of the prepared statement."""
        self.command(22, text)
        answer = self.packet()
        if answer[0] == 0xFF:
            raise ValueError(f"the server does not prepare it: {answer!r}")
        statement, columns, parameters = struct.unpack_from("<IHH", answer, 1)
        for count in (parameters, columns):
            if count:
                while self.packet()[0] != 0xFE:
                    pass
        return statement

    def prepared(self, text, values):
        """Prepares and executes it twice."""
        statement = self.prepare(text)
        # The types are sent once.
        for types in [b"\1" + b"\xfd\0" * len(values), b"\0"]:
            data = b"".join(b"\xfd" + len(value).to_bytes(3, "little") + value for value in values)
            self.command(23, struct.pack("<IBI", statement, 0, 1) + bytes((len(values) + 7) // 8) + types + data)
            self.answer()
        self.command(25, struct.pack("<I", statement))
        return 2

    def close(self):
        self.command(1, b"")
        self.connection.close()


class Postgres:
    """https://www.postgresql.org/docs/current/protocol.html"""

    alphabet = bytes(range(1, 256))

    def __init__(self, address, port):
        self.connection = connect(address, port)
        self.reader = Reader(self.connection)
        options = b"user\0postgres\0database\0postgres\0client_encoding\0SQL_ASCII\0\0"
        self.connection.sendall(struct.pack(">II", len(options) + 8, 196608) + options)
        self.until_ready()

    def until_ready(self):
        failed = False
        while True:
            kind, length = struct.unpack(">cI", self.reader.take(5))
            body = self.reader.take(length - 4)
            if kind == b"K":
                self.number = struct.unpack_from(">I", body)[0]
            failed |= kind == b"E"
            if kind == b"Z":
                return failed

    def message(self, kind, body):
        return kind + struct.pack(">I", len(body) + 4) + body

    def query(self, text):
        self.connection.sendall(self.message(b"Q", text + b"\0"))
        return self.until_ready()

    def prepared(self, text, values):
        """Parses once; binds and executes it twice, once with a statement of a name."""
        bound = b"".join(struct.pack(">i", len(value)) + value for value in values)
        bind = b"\0s\0" + struct.pack(">HH", 0, len(values)) + bound + struct.pack(">H", 0)
        sync = self.message(b"S", b"")
        execute = self.message(b"B", bind) + self.message(b"D", b"P\0") + self.message(b"E", b"\0\0\0\0\0") + sync
        self.connection.sendall(self.message(b"P", b"s\0" + text + b"\0\0\0") + sync)
        if self.until_ready():
            return 0
        for _ in range(2):
            self.connection.sendall(execute)
            self.until_ready()
        self.connection.sendall(self.message(b"C", b"Ss\0") + sync)
        self.until_ready()
        return 2

    def close(self):
        self.connection.sendall(self.message(b"X", b""))
        self.connection.close()


def size(index):
    if index % 500 == 7:
        return 1 << 20
    if index % 50 == 3:
        return 1 << 16
    return 10 + index * 7919 % 2500


def text_of(server, index, beginning):
    """A statement of that size, with a comment of bytes."""
    length = size(index)
    head, tail = beginning, b" */"
    if length < len(head) + len(tail) + 4:
        return b"SELECT " + str(10 ** (length - 8) + index % 7).encode()
    noise = random.Random(index).randbytes(length - len(head) - len(tail))
    body = noise.translate(bytes(server.alphabet[byte % len(server.alphabet)] for byte in range(256)))
    # A comment must not end, nor, in PostgreSQL, begin again.
    return head + body.replace(b"*/", b"*-").replace(b"/*", b"/-") + tail


def work(server, address, port, first, count, step, is_prepared, lines):
    connection = server(address, port)
    for index in range(first, count, step):
        values = []
        times = 1
        if is_prepared:
            place = b"?" if server is MySql else b"$1::text"
            text = text_of(server, index, b"SELECT length(" + place + b") /*x")
            if b"length" in text:
                values = [b"value %d" % index]
            failed = False
            times = connection.prepared(text, values)
        elif index % 100 == 99:
            text = b"SELEC %d" % index
            failed = connection.query(text)
        else:
            text = text_of(server, index, b"SELECT 1 /*x")
            failed = connection.query(text)
        line = {
            "connection": connection.number,
            "sha256": hashlib.sha256(text).hexdigest(),
            "bytes": len(text),
            "failed": failed,
            "values": [value.decode() for value in values],
        }
        lines.extend([json.dumps(line)] * times)
    connection.close()


def main():
    name, address, port, connections, count = sys.argv[1:6]
    server = {"mysql": MySql, "postgres": Postgres}[name]
    threads, lines = [], []
    for first in range(int(connections)):
        mine = []
        lines.append(mine)
        arguments = (server, address, port, first, int(count), int(connections), "prepared" in sys.argv, mine)
        threads.append(threading.Thread(target=work, args=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write("".join(line + "\n" for mine in lines for line in mine))


if __name__ == "__main__":
    main()
