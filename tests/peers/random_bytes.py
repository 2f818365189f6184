"""Random bytes over TLS, both ways: `random_bytes.py CERTIFICATE KEY PORT`.

Two connections at the same time, in one process. Each side sends blocks of random sizes and then says that
it has no more; the other side reads to that end. Prints what went each way as a JSON object of lengths and
digests by the port that the client had.
"""

import contextlib
import hashlib
import json
import random
import select
import socket
import ssl
import sys
import threading

CERTIFICATE, KEY, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
SEED = 20240229


def blocks(seed):
    choice = random.Random(seed)
    sizes = [1, 2, 3, 9, 10, 16384, 16385] + [choice.randrange(1, 3000) for _ in range(40)]
    choice.shuffle(sizes)
    return [choice.randbytes(size) for size in sizes]


def digest(sent):
    whole = b"".join(sent)
    return [len(whole), hashlib.sha256(whole).hexdigest()]


def talk(connection, seed):
    """Writes and reads whatever goes. One thread does both: two at once in one TLS connection are a race in Python."""
    sent = blocks(seed)
    connection.setblocking(False)
    unsent = list(sent)
    left = sum(map(len, blocks(seed ^ 1)))
    while unsent or left:
        select.select([connection] if left else [], [connection] if unsent else [], [])
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if unsent:
                # Whole, or it is tried again with the same bytes.
                assert connection.send(unsent[0]) == len(unsent[0])
                unsent.pop(0)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while left:
                part = connection.recv(min(left, 4096))
                assert part, "the connection has ended early"
                left -= len(part)
    connection.setblocking(True)
    return digest(sent)


def serve(listener, context, seed, told):
    raw, (_, port) = listener.accept()
    with context.wrap_socket(raw, server_side=True) as connection:
        told.setdefault(str(port), {})["read"] = talk(connection, seed)


def main():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE, KEY)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    told = {}
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        for seed in (SEED, SEED + 2):
            side = threading.Thread(target=serve, args=(listener, server, seed, told))
            side.start()
            with client.wrap_socket(socket.create_connection(("127.0.0.1", PORT))) as connection:
                port = str(connection.getsockname()[1])
                sent = talk(connection, seed ^ 1)
                side.join()
            told[port]["write"] = sent
    print(json.dumps(told))


main()
