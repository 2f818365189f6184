"""Calls a method of a gRPC server at 127.0.0.1:PORT twice, each time on a connection of its own.
Usage: client_grpc.py PORT AUTHORITY [CERT KEY]"""

import sys

import grpc

port, authority, *pair = sys.argv[1:]
read = lambda file: open(file, "rb").read()
certificate, key = [read(file) for file in pair] or [None, None]
credentials = grpc.ssl_channel_credentials(read(authority), key, certificate)
for _ in range(2):
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        print(channel.unary_unary("/test.Service/Echo")(b"hello", timeout=10))
