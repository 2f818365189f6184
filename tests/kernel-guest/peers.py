"""Programs that speak TLS to each other on this machine: servers, each ended with `end`, and clients."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from product import Failure, expect, wait_until

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
# What the probe's own tests run.
SCRIPTS = CHECKOUT / "crates/probe/tests/peers"
PYTHON = "/usr/bin/python3"
HELLO = '{"hello":"world"}\n'
# The body of the response to every POST.
TAKEN = "taken, canary\n" * 10
# What is served has this age everywhere, as it is in the responses.
MODIFIED = 1_700_000_000


def required(program):
    """The path of an installed program."""
    path = shutil.which(str(program))
    expect(path, f"{program} is not installed")
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def site(folder):
    """Writes what is served into a folder."""
    for name, text in [("hello.json", HELLO), ("page.txt", "page\n" * 1000)]:
        file = folder / name
        file.write_text(text)
        os.utime(file, (MODIFIED, MODIFIED))
    folder.chmod(0o755)


class Server:
    """A server process and the port it listens on."""

    def __init__(self, child, port):
        self.child, self.port = child, port

    @property
    def pid(self):
        return self.child.pid

    def url(self, path):
        return f"https://127.0.0.1:{self.port}{path}"

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()

    @classmethod
    def announcing(cls, *command):
        """A program whose first line of output is its port."""
        child = start(command, stdout=subprocess.PIPE)
        line = child.stdout.readline().strip()
        expect(line.isdigit(), f"{command[0]} printed no port")
        return cls(child, int(line))

    @classmethod
    def listening(cls, port, *command):
        """A program that was told to listen on `port`."""
        child = start(command)

        def accepts():
            expect(child.poll() is None, f"{command[0]} ended with {child.returncode}")
            with socket.socket() as attempt:
                return attempt.connect_ex(("127.0.0.1", port)) == 0

        wait_until(accepts, f"{command[0]} does not listen")
        return cls(child, port)


def start(command, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    return subprocess.Popen([required(command[0]), *map(str, command[1:])], **options)


def run(*command, **options):
    """Runs a client to its end; it must succeed."""
    done = subprocess.run(
        [required(command[0]), *map(str, command[1:])],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    words = done.stderr.decode(errors="replace").strip()[-200:]
    expect(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {words}")
    return done.stdout.decode(errors="replace")


def curl(*arguments, **options):
    return run(*CURL, *arguments, **options)


CURL = ("curl", "-sk", "--noproxy", "*", "-o", "/dev/null")


class Peers:
    """Starts servers of one site with one certificate."""

    def __init__(self, folder, prepared):
        """`prepared` holds what was made before: the key, the certificate and compiled programs."""
        self.folder, self.prepared = folder, Path(prepared)
        self.keys = [self.prepared / "certificate.pem", self.prepared / "key.pem"]
        self.servers = []
        site(folder)

    def end(self):
        while self.servers:
            self.servers.pop().end()

    def _keep(self, server):
        self.servers.append(server)
        return server

    def python(self):
        """Python's own server, which uses SSL_read_ex and SSL_write_ex."""
        return self._keep(Server.announcing(PYTHON, HERE / "https_server.py", *self.keys, self.folder))

    def nginx(self):
        port = free_port()
        file = self.folder / f"nginx-{port}.conf"
        certificate, key = self.keys
        answer = TAKEN.replace("\n", "\\n")
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind}; "
            for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        file.write_text(
            f"""worker_processes 1;
pid {self.folder}/nginx-{port}.pid;
user root;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {temporary}
  types {{ text/plain txt; application/json json; }}
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    root {self.folder};
    client_body_buffer_size 1m;
    # `return` answers before it has read the request's body; a proxy in front of it reads that first.
    location /posted/ {{ proxy_pass http://unix:{self.folder}/answer-{port}:; }}
    gzip on; gzip_min_length 1000; gzip_types text/plain;
  }}
  server {{ listen unix:{self.folder}/answer-{port}; default_type text/plain; return 200 "{answer}"; }}
}}
"""
        )
        return self._keep(Server.listening(port, "nginx", "-c", file, "-e", "stderr", "-g", "daemon off;"))

    def gnutls(self):
        """gnutls-serv, which sends back each line."""
        port = free_port()
        certificate, key = self.keys
        options = ["--quiet", "--echo", "--port", port, "--x509certfile", certificate, "--x509keyfile", key]
        return self._keep(Server.listening(port, "gnutls-serv", *options))

    def exchanging(self, program):
        """A program that is started with `serve CERTIFICATE KEY`."""
        return self._keep(Server.announcing(program, "serve", *self.keys))

    def script(self, name, *arguments):
        """A server among the scripts of the probe's tests; its first line is its port."""
        return self._keep(Server.announcing(PYTHON, SCRIPTS / name, *self.keys, *arguments))


def gnutls_client(port, text):
    """Sends a line with gnutls-cli and reads it back."""
    command = [required("gnutls-cli"), "--insecure", "--logfile", "/dev/null", "--port", str(port), "127.0.0.1"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child.stdin.write(text.encode())
    child.stdin.flush()
    answer = child.stdout.readline().decode()
    child.stdin.close()
    child.wait()
    expect(answer == text, f"gnutls-cli got {answer!r}")


class Client:
    """A Python that does what it is told, line by line: `open`, or `get PATH`."""

    def __init__(self, port, environment=None):
        self.child = subprocess.Popen(
            [PYTHON, str(SCRIPTS / "told_client.py"), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self._wait()

    @property
    def pid(self):
        return self.child.pid

    def tell(self, what):
        self.child.stdin.write(f"{what}\n".encode())
        self.child.stdin.flush()
        self._wait()

    def _wait(self):
        line = self.child.stdout.readline()
        if line != b"done\n":
            raise Failure(f"the client answered {line!r}")

    def end(self):
        self.child.stdin.close()
        self.child.wait()


def private_openssl(folder):
    """A folder with copies of OpenSSL's libraries: files that nobody has mapped yet."""
    folder.mkdir()
    libraries = subprocess.run(
        ["ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True, env={"PATH": "/sbin:/usr/sbin:/usr/bin"}
    ).stdout
    for name in ["libssl.so.3", "libcrypto.so.3"]:
        paths = [line.split(" => ")[1] for line in libraries.splitlines() if line.strip().startswith(f"{name} ")]
        expect(paths, f"{name} is not installed")
        shutil.copy(paths[0], folder / name)
    return {"LD_LIBRARY_PATH": str(folder)}


