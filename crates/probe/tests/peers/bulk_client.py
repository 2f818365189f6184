"""Writes random bytes over several connections, in one thread each, and closes them.

Usage: bulk_client.py PORT CONNECTIONS BYTES WRITE. Each connection carries BYTES bytes; WRITE is the
size of each write, 0 for random sizes from 1 to 131071. Prints one line for each connection: the
SHA-256 of what was written.
"""

import hashlib
import random
import socket
import ssl
import sys
import threading

port, connections, total, write = map(int, sys.argv[1:])
context = ssl._create_unverified_context()
digests = []


def run(seed):
    source = random.Random(seed)
    digest = hashlib.sha256()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as connection:
        left = total
        while left:
            data = source.randbytes(min(left, write or source.randint(1, 131071)))
            connection.sendall(data)
            digest.update(data)
            left -= len(data)
    digests.append(digest.hexdigest())


threads = [threading.Thread(target=run, args=(seed,)) for seed in range(connections)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*digests, sep="\n", flush=True)
