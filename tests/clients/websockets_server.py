"""Python's `websockets` as an echo for our client: websockets_server.py plain|deflate; it says where it listens."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed as error:
        print(error, file=sys.stderr)


async def main():
    if len(sys.argv) != 2 or sys.argv[1] not in ("plain", "deflate"):
        sys.exit("usage: websockets_server.py plain|deflate")
    compression = "deflate" if sys.argv[1] == "deflate" else None
    async with serve(echo, "127.0.0.1", 0, max_size=64 << 20, compression=compression) as server:
        print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main())
