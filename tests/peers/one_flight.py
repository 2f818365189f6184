"""A TLS client that sends its first request with the end of its handshake, in one segment.

one_flight.py PORT CONNECTIONS: opens the connections one after the other and asks once on each, then once more on each
while all are open.
"""

import socket
import ssl
import sys


class Connection:
    def __init__(self, port):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.received, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.received, self.to_send)
        self.until_done(self.tls.do_handshake)

    def until_done(self, step):
        """Repeats the step with what the server sends. What the last one wants to send stays."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.send()
                self.received.write(self.socket.recv(1 << 16))

    def send(self):
        self.socket.sendall(self.to_send.read())

    def ask(self, path):
        self.tls.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        self.send()
        response = b""
        while not response.endswith(b"}\n"):
            response += self.until_done(lambda: self.tls.read(1 << 16))


port, count = map(int, sys.argv[1:])
connections = []
for number in range(count):
    connections.append(Connection(port))
    connections[-1].ask(f"/hello.json?{number}")
for number, connection in enumerate(connections):
    connection.ask(f"/hello.json?{number}")
