# Run by `ecapture demo` under capture: a local HTTPS server and a few requests to it.
# $1: an empty folder, removed afterwards.
set -eu
cd "$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
    -keyout key.pem -out certificate.pem 2>openssl.log || { cat openssl.log >&2; exit 1; }
printf '{"message":"this went through TLS"}\n' >hello.json
mkfifo port

if python3 -c 'import http.server, ssl' 2>/dev/null; then
    python3 - >port 2>server.log <<'PYTHON' &
import http.server, ssl
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("certificate.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
PYTHON
    server=$!
    read -r port <port
    curl -sk -o /dev/null "https://127.0.0.1:$port/hello.json"
    curl -sk -o /dev/null -d 'user=demo&password=visible' "https://127.0.0.1:$port/login"
else
    openssl s_server -accept 127.0.0.1:0 -cert certificate.pem -key key.pem -WWW >port 2>server.log &
    server=$!
    # It prints "ACCEPT 127.0.0.1:PORT" once it listens.
    while read -r word address; do [ "$word" = ACCEPT ] && break; done <port
    curl -sk -o /dev/null "https://127.0.0.1:${address##*:}/hello.json"
fi
kill "$server"
