"""PyPI's `h2` against the testbed over axum: h2_client.py http://HOST:PORT, or https://HOST:PORT

WebSocket over HTTP/2 (RFC 8441): sockets are streams of one connection. The frames of RFC 6455 are made here, since
`h2` knows streams alone. A certificate is not looked at: the testbed's own is nobody's.
"""

import os
import select
import socket
import ssl
import struct
import sys
import time
import urllib.parse

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

MIB = 1 << 20
SOCKETS = 100
# What the server may send on a stream before it is read, and on the connection.
STREAM_WINDOW = MIB
CONNECTION_WINDOW = 64 * MIB
# A server that falls silent is a failure and not a hang.
LIMIT_SECONDS = 100


def expect(seen, expected, what):
    if seen != expected:
        short = lambda value: repr(value) if len(repr(value)) < 200 else repr(value)[:200] + "…"
        raise AssertionError(f"{what}: expected {short(expected)}, seen {short(seen)}")


def masked(payload, key):
    """XOR with the repeated key, as one large number: in C, and not byte by byte."""
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    xored = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return xored.to_bytes(len(payload), "big")


def frame(opcode, payload):
    """One frame of a client: FIN, and masked."""
    head = bytearray([0x80 | opcode])
    if len(payload) < 126:
        head.append(0x80 | len(payload))
    elif len(payload) < 1 << 16:
        head += struct.pack("!BH", 0x80 | 126, len(payload))
    else:
        head += struct.pack("!BQ", 0x80 | 127, len(payload))
    key = os.urandom(4)
    return bytes(head) + key + masked(payload, key)


class Stream:
    """A socket as a stream: what waits to be sent, what came."""

    def __init__(self, number):
        self.number = number
        self.headers = None
        self.waiting = b""
        self.sent = 0
        self.received = bytearray()
        self.messages = []
        self.close_payload = None
        self.ends_when_sent = False
        self.ended = False
        self.reset = None

    def send(self, opcode, payload):
        self.waiting = self.waiting[self.sent :] + frame(opcode, payload)
        self.sent = 0

    def receive(self, data):
        self.received += data
        while True:
            if len(self.received) < 2:
                return
            first, length = self.received[0], self.received[1]
            begin = 2
            if length == 126:
                begin = 4
            elif length == 127:
                begin = 10
            if len(self.received) < begin:
                return
            if begin > 2:
                length = int.from_bytes(self.received[2:begin], "big")
            if length >= 1 << 40 or len(self.received) < begin + length:
                return
            payload = bytes(self.received[begin : begin + length])
            del self.received[: begin + length]
            if first == 0x88:
                self.close_payload = payload
            elif first == 0x89:
                self.send(0xA, payload)
            elif first in (0x81, 0x82):
                expect(self.close_payload, None, f"{self.number}: nothing behind the close frame")
                self.messages.append((first & 0xF, payload))
            else:
                raise AssertionError(f"{self.number}: a frame that begins with {first:#x}")


class Connection:
    """One connection of HTTP/2."""

    def __init__(self, url):
        self.url = urllib.parse.urlsplit(url)
        plain = socket.create_connection((self.url.hostname, self.url.port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.url.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2", "http/1.1"])
            self.socket = context.wrap_socket(plain, server_hostname="localhost")
            expect(self.socket.selected_alpn_protocol(), "h2", "what ALPN chose")
        else:
            self.socket = plain
        self.socket.setblocking(False)
        # What `h2` checks of headers is HTTP's, of before RFC 8441 in part.
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_inbound_headers=True)
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW})
        self.http.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self.out = bytearray()
        self.streams = {}
        self.settled = False
        self.ended = False
        self.closing = False
        self.deadline = time.monotonic() + LIMIT_SECONDS
        self.run(lambda: self.settled, "the server's settings")

    def close(self):
        self.http.close_connection()
        # What still comes is of no interest, to `h2` a fault.
        self.closing = True
        self.run(lambda: self.ended, "the connection's end")
        self.socket.close()

    def request(self, headers, end_stream=False):
        stream = Stream(self.http.get_next_available_stream_id())
        self.streams[stream.number] = stream
        self.http.send_headers(stream.number, headers, end_stream=end_stream)
        return stream

    def connect(self, path, protocol="websocket"):
        return self.request(
            [
                (":method", "CONNECT"),
                (":protocol", protocol),
                (":scheme", self.url.scheme),
                (":authority", self.url.netloc),
                (":path", path),
                ("sec-websocket-version", "13"),
            ]
        )

    def get(self, path):
        head = [(":method", "GET"), (":scheme", self.url.scheme), (":authority", self.url.netloc), (":path", path)]
        return self.request(head, end_stream=True)

    def run(self, done, what):
        """Reads and writes until it is done."""
        while not done():
            if time.monotonic() > self.deadline:
                raise AssertionError(f"{what}: not within {LIMIT_SECONDS} s")
            if self.ended:
                raise AssertionError(f"{what}: the connection ended before")
            self.pump()
            self.turn()

    def pump(self):
        """Gives `h2` what the windows have room for; in turn, so that all of the streams move."""
        # Not more than the socket takes: or all of it would be encoded at once.
        for stream in self.streams.values():
            while stream.sent < len(stream.waiting) and len(self.out) < MIB:
                room = min(
                    self.http.local_flow_control_window(stream.number),
                    self.http.max_outbound_frame_size,
                    len(stream.waiting) - stream.sent,
                )
                if room <= 0:
                    break
                self.http.send_data(stream.number, stream.waiting[stream.sent : stream.sent + room])
                stream.sent += room
                self.out += self.http.data_to_send()
            if stream.sent == len(stream.waiting) and stream.ends_when_sent:
                stream.ends_when_sent = False
                self.http.end_stream(stream.number)
        self.out += self.http.data_to_send()

    def turn(self):
        # TLS may hold what was received already, of which the descriptor knows nothing.
        pending = self.url.scheme == "https" and self.socket.pending() > 0
        writers = [self.socket] if self.out else []
        select.select([self.socket], writers, [], 0 if pending else 1)
        try:
            while self.out:
                del self.out[: self.socket.send(self.out[: 256 * 1024])]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        try:
            data = self.socket.recv(256 * 1024)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            self.ended = True
            return
        if self.closing:
            return
        for event in self.http.receive_data(data):
            self.on(event)

    def on(self, event):
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled = True
        elif isinstance(event, h2.events.ConnectionTerminated):
            expect(event.error_code, h2.errors.ErrorCodes.NO_ERROR, "GOAWAY")
        elif isinstance(event, h2.events.ResponseReceived):
            self.streams[event.stream_id].headers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            # A socket's frames; of other bodies nothing is looked at.
            stream = self.streams[event.stream_id]
            if stream.headers[":status"] == "200" and "content-length" not in stream.headers:
                stream.receive(event.data)
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.streams[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.streams[event.stream_id].reset = event.error_code


def all_of(streams, condition):
    return lambda: all(condition(stream) for stream in streams)


def opened(connection, count, path="/echo"):
    streams = [connection.connect(path) for _ in range(count)]
    connection.run(all_of(streams, lambda stream: stream.headers is not None), "the answers")
    for stream in streams:
        expect(stream.headers[":status"], "200", f"{stream.number}: the status")
    return streams


def closed(connection, streams, code=1000):
    """Ends sockets in order: close frames both ways, END_STREAM both ways, and no reset."""
    payload = struct.pack("!H", code)
    for stream in streams:
        stream.send(0x8, payload)
    connection.run(all_of(streams, lambda stream: stream.ended or stream.reset is not None), "the streams' ends")
    for stream in streams:
        expect(stream.close_payload, payload, f"{stream.number}: the close frame")
        expect(stream.reset, None, f"{stream.number}: no reset")
        stream.ends_when_sent = True
    connection.run(all_of(streams, lambda stream: not stream.ends_when_sent), "our ends")


def settings(url):
    connection = Connection(url)
    codes = h2.settings.SettingCodes
    expect(connection.http.remote_settings.get(codes.ENABLE_CONNECT_PROTOCOL), 1, "SETTINGS_ENABLE_CONNECT_PROTOCOL")
    connection.close()


def echo(connection, streams, opcode, payloads):
    for stream, payload in zip(streams, payloads):
        stream.messages.clear()
        stream.send(opcode, payload)
    connection.run(all_of(streams, lambda stream: stream.messages or stream.ended or stream.reset), "the echoes")
    for stream, payload in zip(streams, payloads):
        expect(stream.reset, None, f"{stream.number}: no reset")
        expect(len(stream.messages), 1, f"{stream.number}: messages")
        back, echoed = stream.messages[0]
        expect(back, opcode, f"{stream.number}: the opcode")
        if echoed != payload:
            raise AssertionError(f"{stream.number}: what came back differs")


def small_messages(url):
    connection = Connection(url)
    streams = opened(connection, 3)
    for payload in [b"", b"x", "Grüße, 世界 🦀".encode(), b"a" * 125, b"b" * 126, b"c" * 65535, b"d" * 65536]:
        echo(connection, streams, 0x1, [payload] * 3)
        echo(connection, streams, 0x2, [payload] * 3)
    closed(connection, streams, 4001)
    connection.close()


def a_hundred_sockets(url):
    connection = Connection(url)
    streams = opened(connection, SOCKETS)
    for size in [20, MIB]:
        # Each its own, so that no stream can have got another's.
        payloads = [os.urandom(size) for _ in streams]
        echo(connection, streams, 0x2, payloads)
    closed(connection, streams)
    health = connection.get("/healthz")
    connection.run(lambda: health.ended, "an ordinary request")
    expect(health.headers[":status"], "200", "an ordinary request")
    connection.close()


def server_ends_first(url):
    connection = Connection(url)
    [stream] = opened(connection, 1, "/flood?n=10&size=100000")
    connection.run(lambda: stream.close_payload is not None, "the server's close frame")
    expect([len(payload) for _, payload in stream.messages], [100000] * 10, "the flood")
    expect(stream.close_payload, struct.pack("!H", 1000), "the server's close frame")
    expect(stream.ended, False, "the stream before the answer")
    closed(connection, [stream])
    connection.close()


def no_handshake(url):
    connection = Connection(url)
    for path, protocol, status in [("/echo", "connect-udp", "501"), ("/stats", "websocket", "405")]:
        stream = connection.connect(path, protocol)
        connection.run(lambda: stream.headers is not None, "the answer")
        expect(stream.headers[":status"], status, f"{protocol} at {path}")
    connection.close()


CHECKS = [settings, small_messages, a_hundred_sockets, server_ends_first, no_handshake]


def main():
    passed = 0
    for function in CHECKS:
        try:
            function(sys.argv[1])
            passed += 1
        except Exception as error:
            print(f"FAILED h2 {sys.argv[1]}: {function.__name__}: {type(error).__name__}: {error}")
    print(f"{passed} passed, {len(CHECKS) - passed} failed")
    return passed != len(CHECKS)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: h2_client.py http://HOST:PORT, or https://HOST:PORT")
    sys.exit(main())
