use super::close::CloseCode;

/// How a peer broke the protocol, or passed a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set that no extension has given a meaning (RFC 6455 §5.2).
    #[error("reserved bit set")]
    ReservedBit,
    /// An opcode that is reserved (RFC 6455 §5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A frame of a client without a mask (RFC 6455 §5.1).
    #[error("unmasked frame from a client")]
    UnmaskedFrame,
    /// A frame of a server with a mask (RFC 6455 §5.1).
    #[error("masked frame from a server")]
    MaskedFrame,
    /// A length that is not in its shortest form, or above 2^63 (RFC 6455 §5.2).
    #[error("payload length not in its shortest form")]
    InvalidLength,
    /// A control frame in fragments (RFC 6455 §5.5).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (RFC 6455 §5.5).
    #[error("control frame longer than 125 bytes")]
    LongControl,
    /// A continuation without a message to continue (RFC 6455 §5.4).
    #[error("continuation frame without a message")]
    UnexpectedContinuation,
    /// A new data frame inside a fragmented message (RFC 6455 §5.4).
    #[error("data frame inside a fragmented message")]
    ExpectedContinuation,
    /// A close frame with a payload of one byte (RFC 6455 §5.5.1).
    #[error("close frame with a payload of one byte")]
    ShortClosePayload,
    /// A close code that must not be sent (RFC 6455 §7.4).
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(u16),
    /// A compressed message that is none (RFC 7692 §7.2.2).
    #[error("compressed message that cannot be inflated")]
    InvalidDeflate,
    /// Text that is not UTF-8 (RFC 6455 §8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A frame above the limit.
    #[error("frame larger than the limit of {limit} bytes")]
    FrameTooBig {
        /// The limit in bytes.
        limit: usize,
    },
    /// A message above the limit.
    #[error("message larger than the limit of {limit} bytes")]
    MessageTooBig {
        /// The limit in bytes.
        limit: usize,
    },
    /// A message of more frames than the limit.
    #[error("message of more than {limit} frames")]
    TooManyFragments {
        /// The limit in frames.
        limit: u32,
    },
}

impl ProtocolError {
    /// The code that the connection is closed with.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::ReservedBit
            | Self::ReservedOpcode(_)
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::InvalidLength
            | Self::FragmentedControl
            | Self::LongControl
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::ShortClosePayload
            | Self::InvalidCloseCode(_) => CloseCode::PROTOCOL_ERROR,
            Self::InvalidDeflate | Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooBig { .. } | Self::MessageTooBig { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments { .. } => CloseCode::POLICY_VIOLATION,
        }
    }
}
