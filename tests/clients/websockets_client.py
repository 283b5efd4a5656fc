"""The Python client `websockets` against a testbed: websockets_client.py http://HOST:PORT"""

import asyncio
import os
import sys
import urllib.parse

import websockets
from websockets.asyncio.client import connect

MIB = 1 << 20
# What one check may take, so that a server that falls silent is a failure and not a hang.
LIMIT_SECONDS = 60

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def expect(seen, expected, what):
    if seen != expected:
        short = lambda value: repr(value) if len(repr(value)) < 200 else repr(value)[:200] + "…"
        raise AssertionError(f"{what}: expected {short(expected)}, seen {short(seen)}")


def open_socket(base, path, **options):
    return connect(base + path, max_size=None, proxy=None, **options)


async def echoes(socket, message, what):
    await socket.send(message)
    expect(await socket.recv(), message, what)


@check
async def text_and_binary(base):
    async with open_socket(base, "/echo") as socket:
        for message in ["x", "Grüße, 世界 🦀", "", b"", b"\x00\xff\x80", "a" * 125, "a" * 126, b"b" * 65535, b"b" * 65536]:
            await echoes(socket, message, f"a message of {len(message)}")


@check
async def sixteen_mebibytes(base):
    async with open_socket(base, "/echo") as socket:
        await echoes(socket, os.urandom(16 * MIB), "binary")
        await echoes(socket, "é" * (8 * MIB), "text")


@check
async def fragments(base):
    async with open_socket(base, "/echo") as socket:
        await socket.send(["Grü", "", "ße", ""])
        expect(await socket.recv(), "Grüße", "text in four frames")
        await socket.send([b"\x00", b"", b"\xff"])
        expect(await socket.recv(), b"\x00\xff", "binary in three frames")
        await socket.send(["", ""])
        expect(await socket.recv(), "", "an empty message in two frames")
        part = os.urandom(64 * 1024)
        await socket.send([part] * 256)
        expect(await socket.recv(), part * 256, "16 MiB in 256 frames")


@check
async def ping_between_fragments(base):
    async with open_socket(base, "/echo") as socket:

        async def parts():
            yield "be"
            pong = await socket.ping(b"now")
            # Answered before the message is whole.
            await asyncio.wait_for(pong, 10)
            yield "hind"

        await socket.send(parts())
        expect(await socket.recv(), "behind", "a message with a ping inside")


@check
async def many_in_flight(base):
    async with open_socket(base, "/echo") as socket:

        async def send_all():
            for number in range(2000):
                await socket.send(str(number))

        sender = asyncio.create_task(send_all())
        for number in range(2000):
            expect(await socket.recv(), str(number), "in order")
        await sender


async def closes_with(base, path, code, act):
    """Expects the server to close with a code when `act` was done to the socket."""
    # Not `async with`, which closes once more behind the end, where websockets 17.4 trips over a transport that
    # closed while it was sending (AttributeError); the close frame is known all the same.
    socket = await open_socket(base, path)
    try:
        await act(socket)
        while True:
            await socket.recv()
    except (websockets.ConnectionClosed, AttributeError):
        received = socket.protocol.close_rcvd
        expect(received and received.code, code, "the server's close code")


@check
async def close_is_answered(base):
    for code, reason in [(1000, ""), (1000, "done"), (1001, "leaving"), (3000, "x" * 123), (4999, "Grüße")]:
        socket = await open_socket(base, "/echo")
        await echoes(socket, "x", "an echo")
        await socket.close(code, reason)
        expect(socket.close_code, code, "the code that came back")


@check
async def server_closes_when_done(base):
    async with open_socket(base, "/flood?n=100&size=1000") as socket:
        sizes = [len(message) async for message in socket]
        expect(sizes, [1000] * 100, "the flood")
        expect(socket.close_code, 1000, "the server's close code")


@check
async def server_closes_what_is_wrong(base):
    await closes_with(base, "/echo", 1007, lambda socket: socket.send(b"caf\xe9", text=True))
    await closes_with(base, "/echo", 1009, lambda socket: socket.send(bytes(16 * MIB + 1)))
    await closes_with(base, "/panic", 1011, lambda socket: socket.send("now"))


@check
async def subprotocols(base):
    for offered, chosen in [(["chat.v1"], "chat.v1"), (["chat.v1", "chat.v2"], "chat.v2"), (["other"], None), (None, None)]:
        async with open_socket(base, "/protocols", subprotocols=offered) as socket:
            expect(socket.subprotocol, chosen, f"chosen of {offered}")
            expect(await socket.recv(), chosen or "none", f"the handler's view of {offered}")


@check
async def credentials(base):
    try:
        await open_socket(base, "/private/echo")
        raise AssertionError("upgraded without a credential")
    except websockets.InvalidStatus as refused:
        expect(refused.response.status_code, 401, "without a credential")
    async with open_socket(base, "/private/echo", additional_headers={"Authorization": "Bearer secret"}) as socket:
        await echoes(socket, "let in", "with the credential")


@check
async def one_topic_many_sockets(base):
    path = "/topics/python.client/ws"
    sockets = [await open_socket(base, path) for _ in range(10)]
    for number in range(20):
        await sockets[number % len(sockets)].send(f"m{number}")
    heard = [[await socket.recv() for _ in range(20)] for socket in sockets]
    expect(sorted(heard[0]), sorted(f"m{number}" for number in range(20)), "each message once")
    for other in heard[1:]:
        expect(other, heard[0], "the same order at every socket")
    for socket in sockets:
        await socket.close()


async def main():
    base = "ws://" + urllib.parse.urlsplit(sys.argv[1]).netloc
    passed = 0
    for function in CHECKS:
        try:
            await asyncio.wait_for(function(base), LIMIT_SECONDS)
            passed += 1
        except Exception as error:
            print(f"FAILED websockets: {function.__name__}: {type(error).__name__}: {error}")
    print(f"{passed} passed, {len(CHECKS) - passed} failed")
    return passed != len(CHECKS)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: websockets_client.py http://HOST:PORT")
    sys.exit(asyncio.run(main()))
