"""Does what it is told on standard input, line by line, and answers "done": `open`, or `get PATH`.

Usage: told_client.py PORT. Loads TLS only when it is told something.
"""

import sys

connection = None
print("done", flush=True)
for line in sys.stdin:
    word, _, path = line.strip().partition(" ")
    import http.client
    import ssl

    if word == "open":
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=context)
        connection.connect()
    if word == "get":
        connection.request("GET", path)
        connection.getresponse().read()
    print("done", flush=True)
