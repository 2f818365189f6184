"""Sends one line with asyncio, which does TLS through memory BIOs, and reads its echo.

Usage: asyncio_client.py PORT. Prints its process id and its local port.
"""

import asyncio
import os
import ssl
import sys


async def main():
    context = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=context)
    writer.write(b"line\n")
    await writer.drain()
    assert await reader.readline() == b"echo line\n"
    print(os.getpid(), writer.get_extra_info("sockname")[1], flush=True)
    writer.close()


asyncio.run(main())
