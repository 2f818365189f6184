"""Exchanges with a secret in every place of a request, over connections that stay open until standard input ends.

Arguments: the port of a server; its responses have secrets, too, and that for /slow does not end."""

import http.client
import ssl
import subprocess
import sys

port = int(sys.argv[1])
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)


def headers(version):
    return {
        "Authorization": f"Bearer canary-authorization{version}",
        "Cookie": f"a=canary-cookie{version}",
        "X-Own": f"canary-field{version}",
    }


for _ in range(3):
    body = "user=canary-form1&x=1"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/one?token=canary-token1&q=canary-query1", body, headers(1) | form)
    connection.getresponse().read()

options = ["-sk", "--http2", "-o", "/dev/null"]
for name, value in headers(2).items():
    options += ["-H", f"{name}: {value}"]
url = f"https://127.0.0.1:{port}"
posts = [*options, "-d", "user=canary-form2", f"{url}/two?token=canary-token2&q=canary-query2", "--next"]
curl = subprocess.Popen(["curl", *posts, *posts, *options, f"{url}/slow?q=canary-query2"])
sys.stdin.read()
curl.kill()
curl.wait()
