"""Random bytes over TLS, both ways: `random_bytes.py CERTIFICATE KEY PORT`.

Two connections at the same time, in one process. Each side sends blocks of random sizes and then says that
it has no more; the other side reads to that end. Prints what went each way as a JSON object of lengths and
digests by the port that the client had.
"""

import hashlib
import json
import random
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
    sent = blocks(seed)

    def write():
        for block in sent:
            connection.sendall(block)

    writer = threading.Thread(target=write)
    writer.start()
    left = sum(map(len, blocks(seed ^ 1)))
    while left:
        left -= len(connection.recv(min(left, 4096)))
    writer.join()
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
