//! Who is compared.

/// A server that takes part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) side: Side,
    pub(crate) program: Program,
    /// Options of its own.
    pub(crate) args: &'static [&'static str],
}

/// What a peer is compared as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// TCP without a protocol.
    Limit,
    Towpath,
    Rust,
    Other,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Towpath => "towpath",
            Self::Rust => "rust",
            Self::Other => "other",
        }
    }
}

/// Where its program comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// The main workspace.
    Testbed(&'static str),
    /// `bench/servers`.
    Server(&'static str),
    Uws,
    Node(&'static str),
    Bun(&'static str),
}

pub(crate) const RAW_64: &str = "raw-64k";
pub(crate) const RAW_256: &str = "raw-256k";
pub(crate) const OUR_AXUM: &str = "towpath-axum";
pub(crate) const OUR_ACTIX: &str = "towpath-actix";
pub(crate) const OUR_TAKEOVER: &str = "towpath-takeover";
pub(crate) const AXUM: &str = "axum";
pub(crate) const ACTIX: &str = "actix-ws";
pub(crate) const FASTWEBSOCKETS: &str = "fastwebsockets";
pub(crate) const TUNGSTENITE: &str = "tokio-tungstenite";
pub(crate) const TOKIO_WEBSOCKETS: &str = "tokio-websockets";
pub(crate) const YAWC: &str = "yawc";
pub(crate) const UWS: &str = "uWebSockets";
pub(crate) const BUN: &str = "bun";
pub(crate) const WS: &str = "ws";

const fn peer(name: &'static str, what: &'static str, side: Side, program: Program) -> Peer {
    Peer {
        name,
        what,
        side,
        program,
        args: &[],
    }
}

const fn raw(name: &'static str, what: &'static str, args: &'static [&'static str]) -> Peer {
    Peer {
        args,
        ..peer(name, what, Side::Limit, Program::Server("raw"))
    }
}

/// All of them.
pub(crate) const PEERS: &[Peer] = &[
    raw(
        RAW_64,
        "TCP echo over tokio, a buffer of 64 KiB for the thread",
        &["--buffer-kib", "64"],
    ),
    raw(RAW_256, "the same with 256 KiB", &["--buffer-kib", "256"]),
    peer(
        OUR_AXUM,
        "towpath in axum: the plain loop of testbed-axum",
        Side::Towpath,
        Program::Testbed("testbed-axum"),
    ),
    peer(
        OUR_ACTIX,
        "towpath in actix-web: the same of testbed-actix",
        Side::Towpath,
        Program::Testbed("testbed-actix"),
    ),
    peer(
        OUR_TAKEOVER,
        "towpath in axum with context takeover, which the testbeds have no option for",
        Side::Towpath,
        Program::Server("towpath"),
    ),
    peer(
        AXUM,
        "axum's own ws and sse",
        Side::Rust,
        Program::Server("axum"),
    ),
    peer(
        ACTIX,
        "actix-ws, and actix-web-lab's sse",
        Side::Rust,
        Program::Server("actix"),
    ),
    peer(
        FASTWEBSOCKETS,
        "fastwebsockets over hyper",
        Side::Rust,
        Program::Server("fastwebsockets"),
    ),
    peer(
        TUNGSTENITE,
        "tokio-tungstenite, forwarding a stream to its sink",
        Side::Rust,
        Program::Server("tungstenite"),
    ),
    peer(
        TOKIO_WEBSOCKETS,
        "tokio-websockets",
        Side::Rust,
        Program::Server("tokio-websockets"),
    ),
    peer(YAWC, "yawc over hyper", Side::Rust, Program::Server("yawc")),
    peer(
        UWS,
        "uWebSockets (C++), as carried by PyPI's socketify",
        Side::Other,
        Program::Uws,
    ),
    peer(BUN, "Bun.serve", Side::Other, Program::Bun("bun.js")),
    peer(WS, "npm's ws on Node", Side::Other, Program::Node("ws.mjs")),
];
