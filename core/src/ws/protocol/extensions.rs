use super::deflate::Terms;

/// The extensions that a handshake agreed on (RFC 6455 §9); none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    pub(crate) deflate: Option<Terms>,
}
