"""A child sends more than its parent reads, and is killed in the middle of that call.

Usage: killed_writer.py CERTIFICATE KEY. Prints a line when it is ready, reads one, then prints the child's process id.
"""

import os
import signal
import socket
import ssl
import sys

listener = socket.create_server(("127.0.0.1", 0))
print("ready", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    context = ssl._create_unverified_context()
    connection = context.wrap_socket(socket.create_connection(listener.getsockname()))
    connection.sendall(b"x" * (256 << 20))
    os._exit(1)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
connection = context.wrap_socket(listener.accept()[0], server_side=True)
connection.recv(1 << 20)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(child, flush=True)
