"""Reads every connection to its end, in one thread each.

Usage: bulk_server.py CERTIFICATE KEY CONNECTIONS. Prints its port, and when all connections have
ended, one line for each: the SHA-256 of what came.
"""

import hashlib
import socket
import ssl
import sys
import threading

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
# A client that closes with unread tickets resets the connection, and the last bytes are gone.
context.num_tickets = 0
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)
digests = []


def drain(raw):
    with context.wrap_socket(raw, server_side=True) as connection:
        digest = hashlib.sha256()
        while data := connection.recv(1 << 17):
            digest.update(data)
        digests.append(digest.hexdigest())


threads = []
for _ in range(int(sys.argv[3])):
    threads.append(threading.Thread(target=drain, args=(listener.accept()[0],)))
    threads[-1].start()
for thread in threads:
    thread.join()
print(*digests, sep="\n", flush=True)
