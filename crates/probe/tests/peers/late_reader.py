"""Sends a line and reads its echo only when the connection has been closed from both sides.

Usage: late_reader.py PORT. Prints its process id, its local port and the echo.
"""

import os
import socket
import ssl
import sys
import time

TCP_CLOSE = 7

connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
port = connection.getsockname()[1]
# Closing the duplicate's writing half leaves the session able to read.
half = connection.dup()
session = ssl._create_unverified_context().wrap_socket(connection)
session.sendall(b"late\n")
half.shutdown(socket.SHUT_WR)
while half.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_CLOSE:
    time.sleep(0.001)
print(os.getpid(), port, session.recv(100).decode(), flush=True)
