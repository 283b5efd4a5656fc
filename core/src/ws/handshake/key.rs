use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, general_purpose::PAD},
};
use sha1::{Digest, Sha1};

/// What every server appends to the key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The standard alphabet with its padding. Bits behind the last byte may be set:
/// the key that RFC 6455 §4.1 itself gives as an example, `AQIDBAUGBwgJCgsMDQ4PEC==`,
/// has them.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// The value of `Sec-WebSocket-Accept`: proof that the server read the key as one of
/// a WebSocket handshake (RFC 6455 §4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptValue([u8; 28]);

impl AcceptValue {
    /// `None` where `key` is not the base64 of 16 bytes (RFC 6455 §4.2.1).
    pub(super) fn for_key(key: &[u8]) -> Option<Self> {
        // As many characters as 16 bytes take, so that no long one is decoded.
        if key.len() != 24 {
            return None;
        }
        let mut nonce = [0; 18];
        if BASE64.decode_slice(key, &mut nonce) != Ok(16) {
            return None;
        }
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let mut value = [0; 28];
        BASE64.encode_slice(digest, &mut value).ok()?;
        Some(Self(value))
    }

    pub(super) fn as_str(&self) -> &str {
        // Base64 is ASCII, so the default is never used.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accept(key: &str) -> Option<String> {
        Some(AcceptValue::for_key(key.as_bytes())?.as_str().to_owned())
    }

    #[test]
    fn the_samples_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ==").as_deref(),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert!(accept("AQIDBAUGBwgJCgsMDQ4PEC==").is_some());
    }

    #[test]
    fn only_sixteen_bytes_are_a_key() {
        for wrong in [
            "",
            "YWFhYWFhYWFhYWFhYWFh",
            "YWFhYWFhYWFhYWFhYWFhYWE=",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZQ==\n",
            "dGhlIHNhbXBsZSBub25j ZQ=",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25jZQA=",
            "!!!!!!!!!!!!!!!!!!!!!!==",
            "____________________ZQ==",
        ] {
            assert_eq!(accept(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_nonce_is_a_key(nonce: [u8; 16]) {
            prop_assert!(accept(&BASE64.encode(nonce)).is_some());
        }

        #[test]
        fn no_other_length_is(nonce in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(accept(&BASE64.encode(&nonce)).is_some(), nonce.len() == 16);
        }
    }
}
