//! What is measured.

use crate::bench::peers::{
    ACTIX, AXUM, BUN, FASTWEBSOCKETS, OUR_ACTIX, OUR_AXUM, OUR_TAKEOVER, RAW_64, RAW_256,
    TOKIO_WEBSOCKETS, TUNGSTENITE, UWS, WS, YAWC,
};

/// A load, who bears it, and what is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// The generator's subcommand and its options.
    pub(crate) load: &'static [&'static str],
    pub(crate) place: Place,
    pub(crate) compress: Option<&'static str>,
    pub(crate) tls: bool,
    /// What the README's plot calls it, for the rows that are there.
    pub(crate) title: Option<&'static str>,
    pub(crate) looks_at: LooksAt,
    pub(crate) peers: &'static [&'static str],
    pub(crate) threads: u8,
    pub(crate) targets: &'static [Target],
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Echo,
    /// A topic, over WebSocket.
    Fan,
    /// A topic, as an event stream.
    Events,
}

/// The figure of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LooksAt {
    /// The server's CPU time for a message, a delivery or a handshake.
    Cpu,
    /// The server's resident bytes for a connection.
    Memory {
        /// Open files that server and generator need, each.
        files: u32,
    },
    /// The median latency, and the 99th percentile beside it.
    Latency,
}

/// A line of issue C's table of targets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) ours: &'static str,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

/// What a target is a ratio to, or a bound of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// The cheaper of the two raw echoes.
    Raw,
    BestRust,
    Peer(&'static str),
    /// The same server in another row.
    Row(&'static str),
    /// So many bytes.
    Bytes,
    SystemCalls,
}

impl Row {
    pub(crate) fn has(&self, peer: &str) -> bool {
        self.peers.contains(&peer)
    }

    /// The peers that a target names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &'static str> {
        let mut seen = Vec::new();
        self.targets.iter().filter_map(move |target| {
            let Against::Peer(name) = target.against else {
                return None;
            };
            let new = !seen.contains(&name);
            seen.push(name);
            new.then_some(name)
        })
    }
}

const fn target(ours: &'static str, at_most: f64, against: Against) -> Target {
    Target {
        ours,
        against,
        at_most,
    }
}

const ALL: &[&str] = &[
    RAW_64,
    RAW_256,
    OUR_AXUM,
    OUR_ACTIX,
    AXUM,
    ACTIX,
    FASTWEBSOCKETS,
    TUNGSTENITE,
    TOKIO_WEBSOCKETS,
    YAWC,
    UWS,
    BUN,
    WS,
];
const UPGRADED: &[&str] = ALL.split_at(2).1;
const BROADCAST: &[&str] = &[OUR_AXUM, OUR_ACTIX, AXUM, ACTIX, TUNGSTENITE, UWS, BUN, WS];
const TLS: &[&str] = &[RAW_64, OUR_AXUM, OUR_ACTIX, AXUM, ACTIX, TUNGSTENITE];
/// Some keep a megabyte and more of each: not all of them take part.
const AFTER: &[&str] = &[
    OUR_AXUM,
    OUR_ACTIX,
    AXUM,
    ACTIX,
    FASTWEBSOCKETS,
    TUNGSTENITE,
    UWS,
];
const EVENTS: &[&str] = &[OUR_AXUM, OUR_ACTIX, AXUM, ACTIX];
const COMPRESSED: &[&str] = &[OUR_AXUM, OUR_ACTIX, YAWC, UWS, BUN, WS];
const COMPRESSED_BROADCAST: &[&str] = &[OUR_AXUM, OUR_ACTIX, UWS, BUN, WS];

const fn echo(name: &'static str, what: &'static str, load: &'static [&'static str]) -> Row {
    Row {
        name,
        what,
        load,
        place: Place::Echo,
        compress: None,
        tls: false,
        title: None,
        looks_at: LooksAt::Cpu,
        peers: ALL,
        threads: 1,
        targets: &[],
    }
}

/// All rows, the most telling first.
pub(crate) const ROWS: &[Row] = &[
    Row {
        title: Some("Echo, 16 B: CPU a message"),
        targets: &[
            target(OUR_AXUM, 1.2, Against::Raw),
            target(OUR_AXUM, 0.65, Against::BestRust),
            target(OUR_AXUM, 0.14, Against::SystemCalls),
            target(OUR_ACTIX, 0.7, Against::Peer(ACTIX)),
            target(OUR_ACTIX, 0.15, Against::SystemCalls),
        ],
        ..echo(
            "echo-16",
            "echo, 64 connections with 16 messages in flight, 16 B binary; CPU a message",
            &["echo", "--size", "16"],
        )
    },
    Row {
        targets: KIB,
        ..echo(
            "echo-1k-binary",
            "the same, 1 KiB binary",
            &["echo", "--size", "1024"],
        )
    },
    Row {
        targets: KIB,
        ..echo(
            "echo-1k-text",
            "the same, 1 KiB text",
            &["echo", "--size", "1024", "--kind", "text"],
        )
    },
    Row {
        title: Some("Echo, 16 KiB: CPU a message"),
        targets: &[
            target(OUR_AXUM, 1.4, Against::Raw),
            target(OUR_AXUM, 0.8, Against::BestRust),
            target(OUR_ACTIX, 0.9, Against::Peer(ACTIX)),
        ],
        ..echo(
            "echo-16k",
            "the same, 16 KiB binary",
            &["echo", "--size", "16384"],
        )
    },
    Row {
        title: Some("Echo, 1 MiB: CPU a message"),
        targets: &[
            target(OUR_AXUM, 0.95, Against::Raw),
            target(OUR_ACTIX, 0.9, Against::Peer(ACTIX)),
        ],
        ..echo(
            "echo-1m",
            "echo, 4 connections with 2 messages in flight, 1 MiB binary; CPU a message",
            &[
                "echo",
                "--size",
                "1048576",
                "--connections",
                "4",
                "--in-flight",
                "2",
            ],
        )
    },
    Row {
        title: Some("Upgrade and close: CPU a connection"),
        peers: UPGRADED,
        targets: &[
            target(OUR_AXUM, 0.75, Against::Peer(AXUM)),
            target(OUR_ACTIX, 1.0, Against::Peer(ACTIX)),
        ],
        ..echo(
            "handshakes",
            "connect, upgrade, close, 16 at the same time; CPU a connection",
            &["handshakes"],
        )
    },
    Row {
        title: Some("To 1,000 WebSockets: CPU a delivery"),
        place: Place::Fan,
        peers: BROADCAST,
        targets: &[
            target(OUR_AXUM, 1.0, Against::Peer(UWS)),
            target(OUR_ACTIX, 0.8, Against::Peer(ACTIX)),
        ],
        ..echo(
            "fan-ws-8",
            "1,000 WebSockets hear 64 B of text, 8 messages in flight; CPU a delivery",
            &["fan", "--in-flight", "8"],
        )
    },
    Row {
        place: Place::Fan,
        peers: BROADCAST,
        targets: &[
            target(OUR_AXUM, 0.9, Against::Peer(AXUM)),
            target(OUR_ACTIX, 0.9, Against::Peer(ACTIX)),
        ],
        ..echo(
            "fan-ws-1",
            "the same, 1 message in flight",
            &["fan", "--in-flight", "1"],
        )
    },
    Row {
        title: Some("To 1,000 event streams: CPU a delivery"),
        place: Place::Events,
        peers: EVENTS,
        targets: &[
            target(OUR_AXUM, 0.75, Against::Peer(ACTIX)),
            target(OUR_ACTIX, 0.8, Against::Peer(ACTIX)),
        ],
        ..echo(
            "fan-sse",
            "1,000 event streams hear 64 B of text, 8 events in flight; CPU a delivery",
            &["sse", "--in-flight", "8"],
        )
    },
    Row {
        title: Some("Idle connection: resident memory"),
        looks_at: LooksAt::Memory { files: 6_000 },
        targets: &[
            target(OUR_AXUM, 1_900.0, Against::Bytes),
            target(OUR_ACTIX, 14_000.0, Against::Bytes),
        ],
        ..echo(
            "idle-5k",
            "5,000 idle connections; resident bytes a connection",
            &["idle", "--connections", "5000"],
        )
    },
    Row {
        looks_at: LooksAt::Memory { files: 6_000 },
        peers: AFTER,
        targets: &[
            target(OUR_AXUM, 1.1, Against::Row("idle-5k")),
            target(OUR_ACTIX, 1.1, Against::Row("idle-5k")),
        ],
        ..echo(
            "idle-after-1m",
            "2,000 connections, idle after an echo of 1 MiB each; resident bytes a connection",
            &[
                "idle",
                "--connections",
                "2000",
                "--messages",
                "1",
                "--size",
                "1048576",
                "--kind",
                "binary",
            ],
        )
    },
    Row {
        looks_at: LooksAt::Memory { files: 6_000 },
        compress: Some("no-takeover"),
        peers: COMPRESSED,
        targets: &[
            target(OUR_AXUM, 1.1, Against::Row("idle-5k")),
            target(OUR_ACTIX, 1.1, Against::Row("idle-5k")),
        ],
        ..echo(
            "idle-deflate",
            "1,000 connections, idle after 100 compressed messages of 1 KiB each; resident bytes a connection",
            &["idle", "--connections", "1000", "--messages", "100"],
        )
    },
    Row {
        looks_at: LooksAt::Memory { files: 20_000 },
        ..echo(
            "idle-20k",
            "19,700 idle connections beside the 200 before them; resident bytes a connection",
            &["idle", "--connections", "19700"],
        )
    },
    Row {
        place: Place::Fan,
        peers: COMPRESSED_BROADCAST,
        ..echo(
            "fan-json",
            "1,000 WebSockets hear 1 KiB of JSON, 8 messages in flight; CPU a delivery",
            &["fan", "--size", "1024", "--kind", "json"],
        )
    },
    Row {
        place: Place::Fan,
        compress: Some("no-takeover"),
        peers: COMPRESSED_BROADCAST,
        targets: &[
            target(OUR_AXUM, 1.3, Against::Row("fan-json")),
            target(OUR_ACTIX, 1.3, Against::Row("fan-json")),
        ],
        ..echo(
            "fan-json-deflate",
            "the same, compressed, no context takeover",
            &["fan", "--size", "1024", "--kind", "json"],
        )
    },
    Row {
        looks_at: LooksAt::Latency,
        ..echo(
            "latency-1x1",
            "echo, 1 connection, 1 message in flight, 16 B; median latency",
            ONE_BY_ONE,
        )
    },
    Row {
        looks_at: LooksAt::Latency,
        ..echo(
            "latency-10k",
            "echo, 64 connections, 10,000 messages of 64 B a second over all; latency from when each was due",
            RATE,
        )
    },
    Row {
        compress: Some("no-takeover"),
        peers: COMPRESSED,
        ..echo(
            "deflate-no-takeover",
            "echo, 64x16, 1 KiB of JSON compressed without context takeover; CPU a message",
            &["echo", "--size", "1024", "--kind", "json"],
        )
    },
    Row {
        compress: Some("takeover"),
        peers: &[OUR_TAKEOVER, YAWC, UWS, BUN, WS],
        ..echo(
            "deflate-takeover",
            "the same with context takeover in both directions",
            &["echo", "--size", "1024", "--kind", "json"],
        )
    },
    Row {
        tls: true,
        peers: TLS,
        ..echo(
            "tls-16",
            "echo over TLS, 64 connections with 16 messages in flight, 16 B binary; CPU a message",
            &["echo", "--size", "16"],
        )
    },
    Row {
        title: Some("Echo over TLS, 1 KiB: CPU a message"),
        tls: true,
        peers: TLS,
        ..echo(
            "tls-1k",
            "the same, 1 KiB binary",
            &["echo", "--size", "1024"],
        )
    },
    Row {
        tls: true,
        peers: TLS,
        ..echo(
            "tls-16k",
            "the same, 16 KiB binary",
            &["echo", "--size", "16384"],
        )
    },
    Row {
        tls: true,
        peers: TLS,
        looks_at: LooksAt::Latency,
        ..echo(
            "latency-tls-1x1",
            "echo over TLS, 1 connection, 1 message in flight, 16 B; median latency",
            ONE_BY_ONE,
        )
    },
    Row {
        tls: true,
        peers: TLS,
        looks_at: LooksAt::Latency,
        ..echo(
            "latency-tls-10k",
            "echo over TLS, 64 connections, 10,000 messages of 64 B a second over all; latency from when each was due",
            RATE,
        )
    },
    Row {
        tls: true,
        peers: TLS.split_at(1).1,
        looks_at: LooksAt::Memory { files: 6_000 },
        ..echo(
            "idle-tls",
            "1,000 idle connections over TLS; resident bytes a connection",
            &["idle", "--connections", "1000"],
        )
    },
    Row {
        peers: &[OUR_AXUM, AXUM],
        ..echo(
            "h2-1k",
            "echo over HTTP/2, 64 connections of one stream with 16 messages in flight, 1 KiB binary; CPU a message",
            &["echo", "--size", "1024", "--h2"],
        )
    },
    Row {
        peers: &[OUR_AXUM, AXUM],
        looks_at: LooksAt::Latency,
        ..echo(
            "latency-h2-1x1",
            "echo over HTTP/2, 1 connection, 1 message in flight, 16 B; median latency",
            &[
                "echo",
                "--connections",
                "1",
                "--in-flight",
                "1",
                "--latency",
                "--h2",
            ],
        )
    },
    Row {
        peers: &[OUR_AXUM, AXUM],
        looks_at: LooksAt::Latency,
        ..echo(
            "latency-h2-10k",
            "echo over HTTP/2, 64 connections, 10,000 messages of 64 B a second over all; latency from when each was due",
            &["echo", "--size", "64", "--rate", "10000", "--h2"],
        )
    },
    Row {
        threads: 2,
        ..echo(
            "two-threads-1k",
            "echo, 64x16, 1 KiB binary, two threads on both cores, the generator among them; CPU a message",
            &["echo", "--size", "1024"],
        )
    },
];

const ONE_BY_ONE: &[&str] = &[
    "echo",
    "--connections",
    "1",
    "--in-flight",
    "1",
    "--latency",
];
const RATE: &[&str] = &["echo", "--size", "64", "--rate", "10000"];

const KIB: &[Target] = &[
    target(OUR_AXUM, 1.4, Against::Raw),
    target(OUR_AXUM, 0.8, Against::BestRust),
    target(OUR_ACTIX, 0.8, Against::Peer(ACTIX)),
];
