use std::time::Duration;

use clap::{Parser, ValueEnum};

/// A chat over WebSocket beside a live feed over Server-Sent Events.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1984")]
    pub addr: String,
    /// Which framework serves it
    #[arg(long, value_enum, default_value_t)]
    pub framework: Framework,
    /// How long live sockets and streams may take to end, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub drain_ms: u64,
}

/// The framework around the same handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Framework {
    /// axum over hyper
    #[default]
    Axum,
    /// actix-web
    Actix,
}

impl Options {
    /// How long live sockets and streams may take to end.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_options_it_is_axum_on_1984() {
        let options = Options::parse_from(["chat"]);
        assert_eq!(options.addr, "127.0.0.1:1984");
        assert_eq!(options.framework, Framework::Axum);
        assert_eq!(options.drain(), Duration::from_secs(5));
        let actix = Options::parse_from(["chat", "--framework", "actix"]);
        assert_eq!(actix.framework, Framework::Actix);
    }
}
