"""Requests a page of 127.0.0.1:PORT twice, each time on a connection of its own.
Usage: client_curl_cffi.py PORT AUTHORITY [CERT KEY]"""

import sys

from curl_cffi import requests

port, authority, *pair = sys.argv[1:]
for _ in range(2):
    answer = requests.get(f"https://127.0.0.1:{port}/", verify=authority, cert=tuple(pair) or None)
    print(answer.text)
