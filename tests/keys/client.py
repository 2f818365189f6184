"""Requests a page of 127.0.0.1:PORT twice, each time on a connection of its own, the second time with the session of
the first. The key log is the file that SSLKEYLOGFILE names.
Usage: client.py PORT 1.2|1.3 CIPHERS [CERT KEY]"""

import socket
import ssl
import sys

port, version, ciphers, *pair = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if version == "1.2":
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
if pair:
    context.load_cert_chain(*pair)
session = None
for _ in range(2):
    with socket.create_connection(("127.0.0.1", int(port))) as plain:
        with context.wrap_socket(plain, session=session, server_hostname="localhost") as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while answer := connection.recv(65536):
                print(answer.decode(errors="replace"))
            session = connection.session
