use std::net::IpAddr;

/// Whose connections are counted together: a user, a token, an address.
///
/// ```
/// use std::net::IpAddr;
/// use towpath::backpressure::Key;
///
/// assert_eq!(Key::from("ann"), Key::from(String::from("ann")));
/// // Who has one address of IPv6 has the 2^64 of its network.
/// let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse::<IpAddr>());
/// assert_eq!(one.map(Key::peer), other.map(Key::peer));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Repr);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Repr {
    Text(Box<str>),
    Number(u64),
    Network(IpAddr),
}

impl Key {
    /// The one of a peer's address. Addresses of IPv6 count by their network of 64 bits,
    /// which is the least that a provider hands out; those of IPv4 that are written in
    /// IPv6 count as what they are.
    #[must_use]
    pub fn peer(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
        };
        Self(Repr::Network(network))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Repr::Text(text.into()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(Repr::Text(text.into()))
    }
}

impl From<u64> for Key {
    fn from(number: u64) -> Self {
        Self(Repr::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Key {
        Key::peer(text.parse().unwrap())
    }

    #[test]
    fn a_peer_counts_by_its_address_or_its_network_of_64_bits() {
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
    }

    #[test]
    fn an_address_of_ipv4_in_ipv6_is_one_of_ipv4() {
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("::ffff:192.0.2.1"), peer("::ffff:192.0.2.2"));
    }

    #[test]
    fn keys_of_different_kinds_differ() {
        assert_ne!(Key::from("1"), Key::from(1));
        assert_ne!(Key::from("192.0.2.1"), peer("192.0.2.1"));
    }
}
