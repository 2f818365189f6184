"""An HTTPS server that answers with server-sent events over time, one every 200 ms.

Prints its port, then the monotonic time at which each event was sent and at which the stream ended.
/close ends the body by closing the connection, any other path is chunked.
Usage: events.py CERTIFICATE KEY
"""
import http.server
import ssl
import sys
import time

EVENTS = [
    b": a comment\nretry: 1500\n\n",
    b"data: first\n\n",
    b"event: tick\nid: 2\ndata: two\ndata: lines\n\n",
    b'event: json\r\ndata: {"n":3}\r\n\r\n',
    "data: déjà vu\n\n".encode(),
]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        chunked = self.path != "/close"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header(*("Transfer-Encoding", "chunked") if chunked else ("Connection", "close"))
        self.end_headers()
        for event in EVENTS:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
            print("sent", time.clock_gettime_ns(time.CLOCK_MONOTONIC), event, flush=True)
            time.sleep(0.2)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        print("ended", time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
