"""Serves a folder over TLS, and answers a POST in chunks.

Usage: https_server.py CERTIFICATE KEY FOLDER. Prints its port.
"""

import http.server
import os
import ssl
import sys

from peers import TAKEN


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.read_body()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in TAKEN.splitlines(keepends=True):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line.encode()))
        self.wfile.write(b"0\r\n\r\n")

    def read_body(self):
        if "Content-Length" in self.headers:
            self.rfile.read(int(self.headers["Content-Length"]))
            return
        while size := int(self.rfile.readline(), 16):
            # With the end of the line behind it.
            self.rfile.read(size + 2)
        self.rfile.readline()

    def log_message(self, *_):
        pass


certificate, key, folder = sys.argv[1:]
os.chdir(folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
