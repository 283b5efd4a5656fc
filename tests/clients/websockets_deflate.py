"""The Python client `websockets` against a testbed with --deflate, in every combination of parameters that it can be
told to ask for: websockets_deflate.py http://HOST:PORT none|takeover"""

import asyncio
import itertools
import os
import sys
import urllib.parse

from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

# What one check may take, so that a server that falls silent is a failure and not a hang.
LIMIT_SECONDS = 120
# Connections at once; each has contexts of its own.
AT_ONCE = 16

TEXT = "Grüße, 世界 🦀, and all the others who read this. "


class Counting(ClientConnection):
    """Knows how many bytes came over the wire."""

    arrived = 0

    def data_received(self, data):
        self.arrived += len(data)
        super().data_received(data)


def expect(seen, expected, what):
    if seen != expected:
        raise AssertionError(f"{what}: expected {expected!r}, seen {seen!r}")


def answer(takeover, server_no, client_no, server_bits, client_bits):
    """What RFC 7692 §7.1 and our settings make of an offer."""
    parts = ["permessage-deflate"]
    if server_no or not takeover:
        parts.append("server_no_context_takeover")
    if client_no or not takeover:
        parts.append("client_no_context_takeover")
    if server_bits is not None:
        parts.append(f"server_max_window_bits={server_bits}")
    # True is no limit, and so is what the largest window has.
    if client_bits not in (None, True, 15):
        parts.append(f"client_max_window_bits={client_bits}")
    return "; ".join(parts)


async def echo(socket, message):
    """How many bytes of the wire the echo took."""
    before = socket.arrived
    await socket.send(message)
    if await socket.recv() != message:
        raise AssertionError(f"the echo of {len(message)} differs")
    return socket.arrived - before


async def combination(base, takeover, server_no, client_no, server_bits, client_bits):
    what = (server_no, client_no, server_bits, client_bits)
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_no,
        client_no_context_takeover=client_no,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    options = {"compression": None, "extensions": [factory], "create_connection": Counting}
    async with connect(base + "/echo", max_size=None, proxy=None, **options) as socket:
        agreed = socket.response.headers.get("Sec-WebSocket-Extensions")
        expect(agreed, answer(takeover, *what), what)
        # Below the threshold, past a frame's length of 16 bits, and at the sizes between.
        for size in [0, 1, 100, 1000, 5000, 100_000]:
            for message in [(TEXT * (size // 50 + 1))[:size], bytes(size)]:
                length = len(message.encode() if isinstance(message, str) else message)
                taken = await echo(socket, message)
                if size >= 1000 and taken > length * 0.6:
                    raise AssertionError(f"{what}: {length} bytes took {taken}: not compressed")
        # Only who remembers makes what was random little; it is short enough for the smallest window.
        random = os.urandom(200)
        first, second = await echo(socket, random), await echo(socket, random)
        remembers = takeover and not server_no
        expect(first >= 200, True, f"{what}: random bytes took {first}")
        expect(second < 50, remembers, f"{what}: the same again took {second} behind {first}")


async def window(base, takeover, server_bits):
    """All that can be asked for beside one size of the server's window."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(*rest):
        async with room:
            await combination(base, takeover, *rest)

    flags = [False, True]
    sizes = [None, True, *range(9, 16)]
    every = itertools.product(flags, flags, [server_bits], sizes)
    await asyncio.gather(*(one(*rest) for rest in every))


async def main():
    base = "ws://" + urllib.parse.urlsplit(sys.argv[1]).netloc
    takeover = sys.argv[2] == "takeover"
    windows = [None, *range(8, 16)]
    passed = 0
    for server_bits in windows:
        try:
            await asyncio.wait_for(window(base, takeover, server_bits), LIMIT_SECONDS)
            passed += 1
        except Exception as error:
            print(f"FAILED websockets: server_max_window_bits={server_bits}: {type(error).__name__}: {error}")
    print(f"{passed} passed, {len(windows) - passed} failed")
    return passed != len(windows)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in ("none", "takeover"):
        sys.exit("usage: websockets_deflate.py http://HOST:PORT none|takeover")
    sys.exit(asyncio.run(main()))
