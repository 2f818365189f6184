"""An HTTPS server that answers /gzip, /deflate,zstd and the like with a body in these content codings.

Prints its port. `?chunked` sends the body in chunks of 50 bytes, `?cut` only the first half of it.
Usage: codings.py CERTIFICATE KEY   (needs brotli and zstandard from PyPI)
"""
import gzip
import http.server
import ssl
import sys
import zlib

import brotli
import zstandard

BODY = "".join(f"line {number}: déjà vu\n" for number in range(30)).encode()


def raw_deflate(body):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


CODINGS = {
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw-deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        names, _, how = self.path.strip("/").partition("?")
        body = BODY
        for name in names.split(","):
            body = CODINGS[name](body)
        if how == "cut":
            body = body[: len(body) // 2]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Encoding", names.replace("raw-", "").replace(",", ", "))
        if how == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 50):
                part = body[start : start + 50]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
