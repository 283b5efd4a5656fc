//! What two ends agree on, and the limits of one.

use towpath::ws::{
    Deflate, Negotiation, OriginPolicy, WsConfig,
    handshake::{HttpVersion, RequestHead},
    protocol::{Connection, Extensions, Limits, Role},
};

use crate::input::Input;

/// One direction of permessage-deflate.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    pub takeover: bool,
    pub bits: u8,
}

impl Direction {
    fn take(input: &mut Input<'_>) -> Self {
        let byte = input.byte();
        Self {
            takeover: byte & 0x80 != 0,
            bits: 8 + (byte & 7),
        }
    }

    pub const fn window(self) -> usize {
        1 << self.bits
    }
}

/// permessage-deflate, as agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    pub server: Direction,
    pub client: Direction,
    pub threshold: usize,
    pub level: u32,
}

impl Agreed {
    pub fn take(input: &mut Input<'_>) -> Self {
        Self {
            server: Direction::take(input),
            client: Direction::take(input),
            threshold: input.choose(&[0, 1, 16, 128, 4096]),
            level: 1 + u32::from(input.byte() % 9),
        }
    }

    pub const fn own(&self, role: Role) -> Direction {
        match role {
            Role::Server => self.server,
            Role::Client => self.client,
        }
    }

    pub const fn peers(&self, role: Role) -> Direction {
        self.own(other(role))
    }

    /// By the handshake, since there is no other way to them.
    pub fn extensions(&self) -> Extensions {
        let mut offer = format!(
            "permessage-deflate; server_max_window_bits={}; client_max_window_bits={}",
            self.server.bits, self.client.bits
        );
        for (takeover, side) in [
            (self.server.takeover, "server"),
            (self.client.takeover, "client"),
        ] {
            if !takeover {
                offer = format!("{offer}; {side}_no_context_takeover");
            }
        }
        let settings = Deflate::new()
            .context_takeover(true)
            .threshold(self.threshold)
            .level(self.level);
        let config = WsConfig::new().origins(OriginPolicy::Any).deflate(settings);
        let lines = [
            ("host", "h"),
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-extensions", &offer),
        ];
        let head = RequestHead {
            method: "GET",
            version: HttpVersion::Http11,
            authority: None,
            protocol: None,
            lines: &lines[..],
        };
        let negotiation = Negotiation::new(&head, config.into()).expect("a good handshake");
        negotiation.accept(bytes::Bytes::new()).extensions
    }
}

/// One end, before its first byte.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub role: Role,
    pub limits: Limits,
    pub agreed: Option<Agreed>,
}

impl Terms {
    /// Reads flags (1: client, 2: compressed), three limits and, where it is
    /// compressed, four bytes of what was agreed on.
    pub fn take(input: &mut Input<'_>) -> Self {
        let flags = input.byte();
        Self::with(flags, input)
    }

    /// The same, with compression whatever the flags say.
    pub fn take_compressed(input: &mut Input<'_>) -> Self {
        let flags = input.byte() | 2;
        Self::with(flags, input)
    }

    fn with(flags: u8, input: &mut Input<'_>) -> Self {
        let mut max_message_size = input.choose(&[1 << 20, 1, 5, 125, 126, 1000, 65_536, 70_000]);
        if flags & 2 != 0 {
            // More than a window, and so little that a bomb costs the twin no second.
            max_message_size = max_message_size.min(40_000);
        }
        let max_frame_size = match input.choose(&[0, 1, 5, 125, 200, 65_535, 100_000]) {
            0 => max_message_size,
            size => size,
        };
        let max_fragments = input.choose(&[131_072, 1, 2, 3, 10]);
        Self {
            role: if flags & 1 == 0 {
                Role::Server
            } else {
                Role::Client
            },
            limits: Limits {
                max_frame_size,
                max_message_size,
                max_fragments,
            },
            agreed: (flags & 2 != 0).then(|| Agreed::take(input)),
        }
    }

    pub fn connection(&self, extensions: Extensions) -> Connection {
        Connection::with_extensions(self.role, self.limits, extensions)
    }

    pub fn extensions(&self) -> Extensions {
        self.agreed
            .map_or_else(Extensions::default, |agreed| agreed.extensions())
    }
}

pub const UNLIMITED: Limits = Limits {
    max_frame_size: usize::MAX,
    max_message_size: usize::MAX,
    max_fragments: u32::MAX,
};

pub const fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}
