"""Connects to a NATS server, which speaks first and then goes on over TLS, and pings it.

Usage: nats_client.py PORT. Prints the answer and the local port.
"""

import socket
import ssl
import sys

raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while raw.recv(1) != b"\n":
    pass
connection = ssl._create_unverified_context().wrap_socket(raw)
connection.sendall(b'CONNECT {"verbose":false,"tls_required":true}\r\nPING\r\n')
answer = b""
while not answer.endswith(b"\n"):
    answer += connection.recv(100)
print(answer.decode().strip(), connection.getsockname()[1])
