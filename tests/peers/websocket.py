"""A WebSocket client and an echo server over TLS in one process: text, binary, fragments, ping, close.

Usage: websocket.py CERTIFICATE KEY deflate|plain   (needs websockets from PyPI)
"""
import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    while True:
        try:
            message = await socket.recv()
        except ConnectionClosed:
            return
        if isinstance(message, str) and message.startswith("fragments"):
            await socket.send(iter([message[:10], message[10:]]))
        else:
            await socket.send(message)


async def exchange(port, compression):
    trust = ssl._create_unverified_context()
    url = f"wss://127.0.0.1:{port}/echo"
    async with connect(url, ssl=trust, compression=compression, ping_interval=None) as socket:
        await socket.send("déjà vu")
        print(await socket.recv())
        await socket.send("the same words again, the same words again")
        print(await socket.recv())
        await socket.send(bytes(range(200)))
        print(await socket.recv())
        await socket.send(iter(["fragments ", "of one ", "message"]))
        print(await socket.recv())
        await (await socket.ping(b"are you there"))
        await socket.send("x" * 3000)
        print(len(await socket.recv()))
        await socket.close(4001, "done here")


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    async with serve(echo, "127.0.0.1", 0, ssl=context, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        await exchange(port, "deflate" if sys.argv[3] == "deflate" else None)


asyncio.run(main())
