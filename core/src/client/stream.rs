use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Whatever bytes go over.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<I: AsyncRead + AsyncWrite + Send + Unpin> Io for I {}

/// A connection before its handshake; the bare TCP is told apart, since the driver can
/// do more with it.
pub(super) enum Stream {
    Tcp(TcpStream),
    Other(Box<dyn Io>),
}

impl Stream {
    pub(super) fn io(&mut self) -> &mut dyn Io {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Other(other) => other,
        }
    }

    pub(super) fn boxed(self) -> Box<dyn Io> {
        match self {
            Self::Tcp(tcp) => Box::new(tcp),
            Self::Other(other) => other,
        }
    }
}
