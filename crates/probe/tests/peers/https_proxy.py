"""A proxy that is itself reached over TLS and tunnels CONNECT.

Usage: https_proxy.py CERTIFICATE KEY. Prints its port.
"""

import select
import socket
import ssl
import sys
import threading

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)


def tunnel(raw):
    client = context.wrap_socket(raw, server_side=True)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    host, port = head.split()[1].decode().rsplit(":", 1)
    server = socket.create_connection((host, int(port)))
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    while True:
        ready = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source, sink in ((client, server), (server, client)):
            if source in ready:
                data = source.recv(1 << 16)
                if not data:
                    return
                sink.sendall(data)


while True:
    threading.Thread(target=tunnel, args=(listener.accept()[0],), daemon=True).start()
