"""Sends lines over several connections at once, in turn, and checks their echo.

Usage: line_client.py PORT CONNECTIONS LINES. Prints the local port of each connection.
"""

import socket
import ssl
import sys

port, connections, lines = map(int, sys.argv[1:])
context = ssl._create_unverified_context()
sockets = [
    context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    for _ in range(connections)
]
ports = [each.getsockname()[1] for each in sockets]
for number in range(lines):
    for each in sockets:
        line = f"{each.getsockname()[1]} {number}\n".encode()
        each.sendall(line)
        echo = b""
        while not echo.endswith(b"\n"):
            echo += each.recv(100)
        assert echo == b"echo " + line, echo
print(*ports, flush=True)
