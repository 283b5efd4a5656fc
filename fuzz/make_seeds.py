#!/usr/bin/env python3
"""Writes fuzz/seeds: what the fuzzer begins with, from the tables of cases, the RFCs'
examples, and what conformance suites send. Run it again when a target reads its
input in another way. Seeds of another name, which findings are, stay as they are."""

import json
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parent / "core/tests/cases"
SEEDS = HERE / "seeds"
CUTS = b"\x12\x34\x56\x78"


def seed(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def frame(opcode, payload=b"", fin=True, rsv=0, key=b"\0\0\0\0", masked=True, form=None):
    length = len(payload)
    form = form if form is not None else 0 if length < 126 else 2 if length < 65536 else 8
    second = {0: length, 2: 126, 8: 127}[form]
    out = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | second])
    out += length.to_bytes(form, "big") if form else b""
    if masked:
        out += key
        payload = bytes(b ^ key[i % 4] for i, b in enumerate(payload))
    return out + payload


def close(code, reason=b""):
    return struct.pack(">H", code) + reason


def deflated(*messages, level=9, bits=15, takeover=False, flush=zlib.Z_SYNC_FLUSH):
    """Payloads of compressed messages, without their tails."""
    out, compressor = [], None
    for message in messages:
        if compressor is None or not takeover:
            compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
        data = compressor.compress(message) + compressor.flush(flush)
        out.append(data[:-4] if flush == zlib.Z_SYNC_FLUSH else data)
    return out


# flags, message's limit, frame's limit, fragments: the largest of each.
SERVER = bytes([0, 0, 0, 0])
CLIENT = bytes([1, 0, 0, 0])
# server's and client's direction, threshold, level.
AGREED = bytes([0x07, 0x07, 0, 5])
TAKEOVER = bytes([0x87, 0x87, 0, 5])
DEFLATE = bytes([2, 0, 0, 0])
DEFLATE_CLIENT = bytes([3, 0, 0, 0])
SMALL_DEFLATE = bytes([2, 5, 0, 4])

HELLO_STATIC = bytes.fromhex("f248cdc9c90700")
HELLO_SHARED = bytes.fromhex("f200110000")
HELLO_STORED = bytes.fromhex("000500faff48656c6c6f00")
HELLO_FINAL = bytes.fromhex("f348cdc9c9070000")
HELLO_TWO = bytes.fromhex("f248050000" "00ffffcac9c90700")
UTF8 = "κόσμε €\U00010348 ".encode()

STREAMS = {
    # RFC 6455 §5.7
    "hello": frame(1, b"Hello", key=bytes.fromhex("37fa213d")),
    "hello-fragmented": frame(1, b"Hel", fin=False) + frame(0, b"lo"),
    "ping": frame(9, b"Hello", key=bytes.fromhex("37fa213d")),
    "binary-256": frame(2, bytes(range(256))),
    "binary-64k": frame(2, bytes(range(256)) * 256)[:6000],
    # Autobahn's groups 1 to 7
    "empty": frame(1) + frame(2),
    "lengths": b"".join(frame(2, b"*" * n) for n in (125, 126, 127, 128)),
    "ping-125": frame(9, b"\xfe" * 125),
    "ping-126": frame(9, b"\xfe" * 126),
    "pongs": frame(10) + frame(10, b"unsolicited") + frame(9, b"x"),
    "ten-pings": b"".join(frame(9, b"payload-%d" % n) for n in range(10)),
    "rsv": frame(1, b"Hello") + frame(1, b"Hello", rsv=4) + frame(9),
    "rsv2": frame(2, b"Hello", rsv=2),
    "reserved-opcodes": frame(1, b"Hello") + frame(3),
    "reserved-control": frame(11),
    "ping-fragmented": frame(9, fin=False) + frame(0),
    "ping-inside": frame(1, b"f1", fin=False) + frame(9, b"p") + frame(0, b"f2"),
    "unexpected-continuation": frame(0, b"no", fin=False) + frame(1, b"Hello"),
    "expected-continuation": frame(1, b"f1", fin=False) + frame(1, b"f2"),
    "five-fragments": frame(2, b"1", fin=False)
    + b"".join(frame(0, b"%d" % n, fin=False) for n in (2, 3, 4))
    + frame(0, b"5"),
    "empty-fragments": frame(1, fin=False) + frame(0, fin=False) + frame(0),
    "utf8": frame(1, UTF8),
    "utf8-by-character": frame(1, UTF8[:3], fin=False)
    + b"".join(frame(0, UTF8[i : i + 1], fin=False) for i in range(3, len(UTF8)))
    + frame(0),
    "utf8-surrogate": frame(1, b"\xce\xba\xed\xa0\x80edited"),
    "utf8-too-high": frame(1, b"\xce\xba\xf4\x90", fin=False),
    "utf8-cut": frame(1, b"\xce\xba\xe1\xbd"),
    "utf8-overlong": frame(1, b"\xc0\xaf"),
    "close": frame(8, close(1000, b"bye")) + frame(1, b"behind"),
    "close-empty": frame(8),
    "close-one": frame(8, b"\x03"),
    "close-long": frame(8, close(1000, b"*" * 123)),
    "close-utf8": frame(8, close(1000, b"\xce\xba\xed\xa0\x80")),
    "unmasked": frame(1, b"Hello", masked=False),
    "not-minimal": frame(2, b"Hello", form=2),
    "not-minimal-64": frame(2, b"Hello", form=8),
    "length-63": b"\x82\xff\x80" + bytes(11),
    "promise": b"\x82\xff\0\0\0\0\x7f\xff\xff\xff" + bytes(8),
    "half-header": frame(1, b"Hello") + b"\x81\xfe\x01",
}
for code in (999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535):
    STREAMS[f"close-{code}"] = frame(8, close(code))


def bare(stream):
    """The same frames as a server sends them."""
    out, rest = b"", stream
    while len(rest) > 1:
        short = rest[1] & 0x7F
        form = {126: 2, 127: 8}.get(short, 0)
        length = int.from_bytes(rest[2 : 2 + form], "big") if form else short
        head, rest = rest[: 2 + form], rest[2 + form :]
        masked = head[1] & 0x80
        key, rest = (rest[:4], rest[4:]) if masked else (bytes(4), rest)
        if len(key) < 4:
            return out + bytes([head[0], head[1] & 0x7F]) + head[2:]
        payload, rest = rest[:length], rest[length:]
        out += bytes([head[0], head[1] & 0x7F]) + head[2:]
        out += bytes(b ^ key[i % 4] for i, b in enumerate(payload))
    return out + rest


def connections():
    for name, stream in STREAMS.items():
        seed("connection", name, SERVER + CUTS + stream)
        seed("connection", f"client-{name}", CLIENT + CUTS + bare(stream))
    for name, payload in {
        "static": HELLO_STATIC,
        "stored": HELLO_STORED,
        "final": HELLO_FINAL,
        "two-blocks": HELLO_TWO,
    }.items():
        seed("connection", f"deflate-{name}", DEFLATE + AGREED + CUTS + frame(1, payload, rsv=4))
    shared = frame(1, HELLO_STATIC, rsv=4) + frame(1, HELLO_SHARED, rsv=4)
    seed("connection", "deflate-shared", DEFLATE + TAKEOVER + CUTS + shared)
    seed("connection", "deflate-shared-client", DEFLATE_CLIENT + TAKEOVER + CUTS + bare(shared))
    parts = frame(1, HELLO_STATIC[:3], fin=False, rsv=4) + frame(9) + frame(0, HELLO_STATIC[3:])
    seed("connection", "deflate-fragmented", DEFLATE + AGREED + CUTS + parts)
    # What just passes, and what just does not.
    for index, limit in ((1, 1), (2, 5), (3, 125), (4, 126), (5, 1000)):
        for more in (0, 1):
            text = b"x" * (limit + more)
            parts = frame(2, text[:1], fin=False) + frame(0, text[1:])
            deflate = frame(1, deflated(text)[0], rsv=4)
            name = f"limit-{limit}-{more}"
            seed("connection", name, bytes([0, index, 0, 0]) + CUTS + frame(1, text))
            seed("connection", f"{name}-parts", bytes([0, index, 0, 0]) + CUTS + parts)
            seed("connection", f"{name}-deflate", bytes([2, index, 0, 0]) + AGREED + CUTS + deflate)
    for index, limit in ((1, 1), (2, 5), (3, 125)):
        both = frame(2, b"x" * limit) + frame(2, b"x" * (limit + 1))
        seed("connection", f"frame-limit-{limit}", bytes([0, 0, index, 0]) + CUTS + both)
    fragments = frame(2, b"1", fin=False) + frame(0, b"2", fin=False)
    for more in (b"", frame(0, b"3", fin=False)):
        data = bytes([0, 0, 0, 3]) + CUTS + fragments + more + frame(0, b"4")
        seed("connection", f"fragments-{len(more)}", data)
    limits = bytes([0, 2, 0, 2]) + CUTS + STREAMS["five-fragments"] + STREAMS["lengths"]
    seed("connection", "limits", limits)
    for name in ("hello", "ping-inside", "lengths", "utf8", "close"):
        seed("driver", name, SERVER + CUTS + bytes([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]) + STREAMS[name])
        seed("driver", f"ahead-{name}", SERVER + CUTS
             + bytes([5, 1, 0, 0, 0, 0, 9, 0, 3, 1, 2, 2, 0, 5, 0]) + b"hello" + b"\x04\x03\xe8"
             + bytes([min(len(STREAMS[name]), 255)]) + STREAMS[name])
    everything = b"".join(STREAMS[n] for n in ("hello", "ping-inside", "lengths", "ten-pings", "close"))
    for flags in (0, 1, 2, 4, 7):
        for ends in range(3):
            head = bytes([flags, ends, ends, ends, 0, 40 * ends, 1, flags])
            steps = bytes([2, 1, 2, 0])
            seed("driver", f"all-{flags}-{ends}", SERVER + CUTS + head + steps + b"\0" + everything)
    seed("driver", "halves", SERVER + CUTS + bytes([1, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0]) + everything)
    seed("driver", "sleeps", SERVER + CUTS + bytes([3, 0, 2, 0, 0, 0, 0, 0, 3, 3, 200, 0, 2, 4, 0, 9]) + b"x" * 9 + b"\0\0" + everything)
    # More than is encoded ahead, to a peer that takes it slowly.
    sends = [b"\2" + struct.pack(">HB", 60000, 3) + bytes([97 + n]) * 3 for n in range(5)]
    steps = [*sends[:3], b"\3\0\x05", sends[3], sends[4], b"\6"]
    for name, takes in {"": 0, "cut-": 50000}.items():
        for flags in (9, 13):
            head = bytes([flags, 2, 2, 0]) + struct.pack(">HHB", takes, 5000, 7)
            pings = b"".join(frame(9, b"%d" % n) for n in range(300))
            seed("driver", f"large-{name}{flags}", SERVER + CUTS + head + b"".join(steps) + b"\0" + pings)
    seed("driver", "deflate", DEFLATE + TAKEOVER + CUTS + bytes([0] * 8 + [1, 0, 0]) + shared)


def inflations():
    def messages(*payloads, flags=0x01):
        return b"".join(bytes([flags]) + struct.pack(">H", len(p)) + p for p in payloads)

    words = b"the quick brown fox jumps over the lazy dog. " * 20
    sets = {
        "static": [HELLO_STATIC],
        "shared": [HELLO_STATIC, HELLO_SHARED],
        "stored": [HELLO_STORED],
        "final": [HELLO_FINAL, HELLO_STATIC],
        "two-blocks": [HELLO_TWO],
        "empty": [b"\0", b""],
        "final-only": [HELLO_FINAL[:7]],
        "dynamic": deflated(words),
        "takeover": deflated(words, words[::-1], b"dog", takeover=True),
        "levels": deflated(words, level=1) + deflated(words, level=0),
        "small-window": deflated(words, bits=9),
        "bomb": deflated(bytes(1 << 19)),
        "finished": deflated(words, words, flush=zlib.Z_FINISH),
        "text-cut": deflated(UTF8[:2]),
        "too-far": [bytes.fromhex("4b00800000")],
        "bad-block": [b"\x07\xff\x00"],
        "cut": [HELLO_STATIC[:4], HELLO_STATIC],
    }
    for name, payloads in sets.items():
        for kind, head in {"": DEFLATE + AGREED, "takeover-": DEFLATE + TAKEOVER,
                           "client-": DEFLATE_CLIENT + TAKEOVER, "small-": SMALL_DEFLATE + AGREED}.items():
            flags = 0x31 if kind == "small-" else 0x01
            seed("inflate", kind + name, head + CUTS + messages(*payloads, flags=flags))


def deflations():
    def message(payload, repeat=0, length=None, flags=1):
        return bytes([flags]) + struct.pack(">HB", length or len(payload), repeat) + payload

    words = b"the quick brown fox jumps over the lazy dog. " * 8
    for bits in range(8, 16):
        for takeover in (0, 0x80):
            direction = takeover | bits - 8
            head = bytes([bits & 1, direction, direction, bits % 3, bits % 9, 7, 0x87, 0, 5]) + CUTS
            body = message(words, flags=5) + message(b"Hello") + message(words, flags=0x85)
            body += message(b"abcdefghijklm", 13, 36000) + message(words, flags=0) + message(words, flags=2)
            seed("deflate", f"window-{bits}-{takeover >> 7}", head + body)
    seed("deflate", "empty", bytes([0, 7, 7, 0, 0, 7, 7, 0, 0]) + CUTS + message(b"") + message(b"x"))


def events():
    for number, case in enumerate(json.loads((CASES / "sse_parse.json").read_text())):
        text = case.get("input")
        if text is not None:
            seed("sse_parse", f"case-{number:03}", bytes(1) + CUTS + text.encode("utf-8", "surrogatepass"))
    seed("sse_parse", "not-utf-8", bytes(1) + CUTS + b"data: \xff\xe2\x82\n\ndata: \xe2\x82\xac\xf0\n\n")
    seed("sse_parse", "bounded", bytes([4]) + CUTS + b"id: 7\ndata: " + b"x" * 120 + b"\n\n")

    def event(*fields):
        return bytes([len(fields) - 1]) + b"".join(bytes([k, len(v)]) + v for k, v in fields)

    plain = event((2, b"7-a"), (3, b"tick"), (0, b"one\r\ntwo\rthree\n\nfour"), (5, b"note\nid: 9"))
    seed("sse_round_trip", "fields", CUTS + plain + event((0, b"")) + event((5, b"")))
    seed("sse_round_trip", "spaces", CUTS + event((0, b" a"), (1, b": b"), (2, b" 9 "), (3, b" n")))
    seed("sse_round_trip", "refused", CUTS + event((2, b"a\0"), (2, b"a\n"), (3, b"b\r"), (0, b"x")))
    seed("sse_round_trip", "bom", CUTS + event((5, b"\xef\xbb\xbf")) + event((0, b"\xef\xbb\xbf\xe2\x80\xa8")))


def handshakes():
    versions = {"HTTP/1.1": 0, "HTTP/2": 1, "HTTP/3": 2, "HTTP/1.0": 3, "HTTP/0.9": 4}
    for number, case in enumerate(json.loads((CASES / "ws_handshake.json").read_text())):
        lines = [f"{name}:{value}" for name, value in case["headers"]]
        text = "\n".join([case["method"], *lines]).encode("latin-1", "replace")
        seed("handshake", f"case-{number:03}", bytes([versions[case["version"]], number % 3]) + text)
        values = [v for name, v in case["headers"] if name.lower() == "sec-websocket-extensions"]
        if values:
            text = "\n".join(values).encode("latin-1", "replace")
            seed("extensions", f"case-{number:03}", b"\x87" + text)
    connect = "CONNECT server.example:443 websocket\nsec-websocket-version:13\norigin:https://server.example"
    seed("handshake", "rfc-8441", bytes([1, 0]) + connect.encode())
    seed("handshake", "two-hosts", bytes([1, 1]) + connect.encode() + b"\nhost:server.example\nx-forwarded-host:a, b")
    seed("handshake", "literal", bytes([0, 0]) + b"GET\nhost:[::1]:80\nupgrade:WebSocket\nconnection:a, Upgrade\n"
         b"sec-websocket-key:AQIDBAUGBwgJCgsMDQ4PEC==\nsec-websocket-version:13\norigin:http://[0::1]\n"
         b"sec-websocket-protocol:chat.v2, chat.v1\ncontent-length:000")
    # RFC 7692 §5.1, §7.1
    offers = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate; client_max_window_bits",
        'permessage-deflate; server_max_window_bits="10"; client_max_window_bits="1\\2"',
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=08, permessage-deflate; unknown=1, permessage-deflate",
        'permessage-foo; use_x="a, b; c", permessage-deflate; server_max_window_bits=8',
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover\npermessage-deflate",
        "x-webkit-deflate-frame,, permessage-deflate ; client_max_window_bits = 9",
        "permessage-deflate;, \"permessage-deflate\"",
    ]
    for number, offer in enumerate(offers):
        for flags in (0x00, 0x82, 0x87):
            seed("extensions", f"offer-{number}-{flags:02x}", bytes([flags]) + offer.encode())


def frames():
    def one(first, second, payload, repeat=0, length=None):
        return bytes([first, second]) + CUTS + struct.pack(">HB", length or len(payload), repeat) + payload

    good = one(0x81, 0x80, b"Hello") + one(0x01, 0x80, b"Hel") + one(0x89, 0x80, b"p") + one(0x80, 0x80, b"lo")
    good += one(0x82, 0x80, b"ab", 2, 126) + one(0x82, 0x80, b"ab", 2, 65535) + one(0x88, 0x80, close(1000))
    seed("frames", "good", b"\0" + good)
    seed("frames", "good-client", b"\1" + good.replace(b"\x80\x12\x34", b"\0\x12\x34"))
    for name, first, second in [
        ("rsv", 0xC1, 0x80), ("opcode", 0x83, 0x80), ("cut-ping", 0x09, 0x80), ("bare", 0x81, 0),
        ("not-minimal", 0x82, 0x82), ("not-minimal-64", 0x82, 0x83), ("long-ping", 0x89, 0x82),
        ("continuation", 0x80, 0x80),
    ]:
        for flags in range(4):
            seed("frames", f"{name}-{flags}", bytes([flags]) + one(first, second, b"x"))
    for length in (0, 1, 31, 32, 33, 125, 126, 4095, 4096, 65535):
        seed("mask", f"length-{length}", bytes.fromhex("37fa213d") + CUTS + struct.pack(">HB", length, 7) + b"abcdefg")


if __name__ == "__main__":
    for write in (connections, inflations, deflations, events, handshakes, frames):
        write()
