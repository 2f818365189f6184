"""Many connections over TLS in one process: `many_readers.py CERTIFICATE KEY NUMBER`.

Each is waited on by a thread in `SSL_read` before the first is written to, and answered. Then all are used once more.
"""

import socket
import ssl
import sys
import threading

CERTIFICATE, KEY, NUMBER = sys.argv[1], sys.argv[2], int(sys.argv[3])
ROUNDS = 2


def serve(connection):
    for _ in range(ROUNDS):
        connection.sendall(connection.recv(100).upper())


def main():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE, KEY)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    clients, threads = [], []
    with socket.create_server(("127.0.0.1", 0), backlog=NUMBER) as listener:
        for _ in range(NUMBER):
            raw = socket.create_connection(listener.getsockname())
            accepted = []
            handshake = threading.Thread(
                target=lambda: accepted.append(server.wrap_socket(listener.accept()[0], server_side=True))
            )
            handshake.start()
            clients.append(client.wrap_socket(raw))
            handshake.join()
            threads.append(threading.Thread(target=serve, args=accepted))
            threads[-1].start()
    for _ in range(ROUNDS):
        for number, connection in enumerate(clients):
            connection.sendall(b"number %d" % number)
            assert connection.recv(100) == b"NUMBER %d" % number
    for thread in threads:
        thread.join()


main()
