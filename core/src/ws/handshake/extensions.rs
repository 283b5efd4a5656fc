//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1) and what is agreed on (RFC 7692 §7.1).

use crate::ws::{WsConfig, protocol::Extensions};

/// What a client offers of the extensions that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    #[cfg(feature = "deflate")]
    deflate: Option<deflate::Offer>,
}

/// What the answer says, and what it stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreement {
    pub(crate) header: Option<String>,
    pub(crate) extensions: Extensions,
}

impl Offered {
    /// Reads the values of all lines of the header. What is unknown or malformed
    /// there is no offer.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(unused_variables, reason = "no extension is known")
    )]
    pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        Self {
            #[cfg(feature = "deflate")]
            deflate: deflate::Offer::first(lines),
        }
    }

    #[cfg_attr(
        not(feature = "deflate"),
        expect(
            unused_variables,
            clippy::unused_self,
            reason = "no extension is known"
        )
    )]
    pub(super) fn agree(self, config: &WsConfig) -> Agreement {
        #[cfg(feature = "deflate")]
        if let (Some(offer), Some(settings)) = (self.deflate, config.deflate_settings()) {
            return offer.accept(settings);
        }
        Agreement::default()
    }
}

#[cfg(feature = "deflate")]
mod deflate;
