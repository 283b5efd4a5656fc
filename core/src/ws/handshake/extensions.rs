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

/// What a client offers, kept until the answer.
#[cfg(feature = "client")]
#[derive(Clone, Debug)]
pub(super) struct Asked {
    #[cfg(feature = "deflate")]
    deflate: Option<(deflate::Asked, String)>,
}

#[cfg(feature = "client")]
impl Asked {
    /// What `config` has.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(unused_variables, reason = "no extension is known")
    )]
    pub(super) fn new(config: &WsConfig) -> Self {
        Self {
            #[cfg(feature = "deflate")]
            deflate: config.deflate_settings().map(|settings| {
                let asked = deflate::Asked::new(*settings);
                (asked, asked.header())
            }),
        }
    }

    /// The value of `Sec-WebSocket-Extensions`.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(clippy::unused_self, reason = "no extension is known")
    )]
    pub(super) fn header(&self) -> Option<&str> {
        #[cfg(feature = "deflate")]
        if let Some((_, header)) = &self.deflate {
            return Some(header);
        }
        None
    }

    /// What all lines of the answer's header agree to; an element that does not go
    /// with the offer is the error.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(clippy::unused_self, reason = "no extension is known")
    )]
    pub(super) fn agree<'a>(
        &self,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Agreement, &'a [u8]> {
        #[cfg(feature = "deflate")]
        if let Some((asked, _)) = &self.deflate {
            return asked.agree(lines);
        }
        match super::list::elements(lines).next() {
            None => Ok(Agreement::default()),
            Some(element) => Err(element),
        }
    }
}

#[cfg(feature = "deflate")]
mod deflate;
