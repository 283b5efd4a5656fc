//! Masking (RFC 6455 §5.3): XOR with a key of four bytes.

use bytes::BytesMut;

/// XORs `data` with `key`, where `data` begins `offset` bytes into the payload.
#[inline]
pub(crate) fn apply(data: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotated(key, offset);
    let word = u64::from(key) << 32 | u64::from(key);
    let (words, tail) = data.as_chunks_mut::<8>();
    for eight in words {
        *eight = (u64::from_le_bytes(*eight) ^ word).to_le_bytes();
    }
    let (half, tail) = tail.as_chunks_mut::<4>();
    for four in half {
        *four = (u32::from_le_bytes(*four) ^ key).to_le_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Appends `source`, XORed with `key`, to `target`.
pub(crate) fn append(source: &[u8], key: [u8; 4], offset: usize, target: &mut BytesMut) {
    let start = target.len();
    target.extend_from_slice(source);
    apply(&mut target[start..], key, offset);
}

/// The key as it stands at `offset` of the payload, its first byte the lowest.
const fn rotated(key: [u8; 4], offset: usize) -> u32 {
    let turn = [0, 8, 16, 24][offset & 3];
    u32::from_le_bytes(key).rotate_right(turn)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_the_definition_at_any_offset(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            offset in 0usize..9,
        ) {
            // RFC 6455 §5.3: transformed-octet-i = original-octet-i XOR key[i MOD 4].
            let expected: Vec<u8> = data
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ key[(i + offset) % 4])
                .collect();
            let mut masked = data;
            apply(&mut masked, key, offset);
            prop_assert_eq!(masked, expected);
        }
    }
}
