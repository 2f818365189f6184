"""A child sends more than its connection holds, and its parent reads the rest only when it is told to.

Usage: patient_writer.py CERTIFICATE KEY. Prints a line when it is ready, reads one, and prints the child's process id once
that waits in a call. After another line it reads all, and prints one when the child has ended.
"""

import os
import socket
import ssl
import sys

BUFFER = 64 << 10
BYTES = 4 << 20

listener = socket.create_server(("127.0.0.1", 0))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
print("ready", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    context = ssl._create_unverified_context()
    plain = socket.create_connection(listener.getsockname())
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    connection = context.wrap_socket(plain)
    connection.sendall(b"x" * BYTES)
    # To close with session tickets unread would throw away what is still to be sent.
    connection.recv(1)
    os._exit(0)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
connection = context.wrap_socket(listener.accept()[0], server_side=True)
received = len(connection.recv(1024))
while open(f"/proc/{child}/syscall").read().startswith("running"):
    pass
print(child, flush=True)
sys.stdin.readline()
while received < BYTES:
    received += len(connection.recv(1 << 20))
connection.close()
os.waitpid(child, 0)
print("ended", flush=True)
