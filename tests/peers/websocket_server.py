"""A WebSocket server that takes what comes. Usage: websocket_server.py [KEY CERTIFICATE] (for TLS)

It prints one JSON object per line: {"listening": PORT}, {"connected": PATH, "origin": ORIGIN}, {"text": …} or
{"binary": BASE64} for each message, {"pong": true} when a ping was answered, {"closed": CODE}. It reads commands, one
per line: `ping`, and `close CODE`, which it does to the last connection.
"""
import asyncio
import base64
import json
import ssl
import sys

import websockets

last = None


def say(**what):
    print(json.dumps(what), flush=True)


async def serve(connection, _path=None):
    global last
    last = connection
    say(connected=connection.path, origin=connection.request_headers.get("Origin"))
    try:
        async for message in connection:
            if isinstance(message, str):
                say(text=message)
            else:
                say(binary=base64.b64encode(message).decode())
    except websockets.ConnectionClosed:
        pass
    say(closed=connection.close_code)


async def obey():
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = line.decode().split()
        if command[0] == "ping":
            await (await last.ping())
            say(pong=True)
        else:
            await last.close(int(command[1]))


async def main():
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[1])
    async with websockets.serve(serve, "127.0.0.1", 0, ssl=context, ping_interval=None, max_size=100_000) as server:
        say(listening=server.sockets[0].getsockname()[1])
        await obey()


asyncio.run(main())
