//! TLS around a connection: rustls without buffers of its own, so that a record is looked at where it was read.

use std::{fmt, fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::UnbufferedClientConnection,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    unbuffered::{ConnectionState, UnbufferedStatus},
};

use crate::Failure;

/// A record's payload at most (RFC 8446 §5.1).
const LARGEST_RECORD: usize = 16 * 1024;
/// What a record has around its payload at most: header, content type, tag; TLS 1.2 has a nonce, too.
const AROUND: usize = 5 + 1 + 16 + 8;
/// Room for a message of the handshake.
const HANDSHAKE: usize = 4 * 1024;

/// Trusts the certificate in a file, and nothing else.
pub(crate) fn config(certificate: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let told = |error: &dyn fmt::Display| format!("{}: {error}", certificate.display());
    let text = fs::read(certificate).map_err(|error| told(&error))?;
    let certificate = CertificateDer::from_pem_slice(&text).map_err(|error| told(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client's end.
pub(crate) struct Tls {
    connection: UnbufferedClientConnection,
    /// What is to be written.
    pub(crate) out: Vec<u8>,
    /// A record that is not complete.
    begun: Vec<u8>,
    open: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// With the first message of the handshake in `out`.
    pub(crate) fn new(config: Arc<ClientConfig>) -> Result<Self, Failure> {
        let name = ServerName::try_from("localhost")?;
        let mut tls = Self {
            connection: UnbufferedClientConnection::new(config, name)?,
            out: Vec::new(),
            begun: Vec::new(),
            open: false,
        };
        tls.process(&mut [], &mut |_| Err("the server speaks first".into()))?;
        Ok(tls)
    }

    /// Whether the handshake is done.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Puts payload into records.
    pub(crate) fn send(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err("TLS is in the middle of something".into());
        };
        let begin = self.out.len();
        let records = payload.len().div_ceil(LARGEST_RECORD).max(1);
        self.out.resize(begin + payload.len() + records * AROUND, 0);
        let written = traffic.encrypt(payload, &mut self.out[begin..])?;
        self.out.truncate(begin + written);
        Ok(())
    }

    /// Takes records apart, in place; `payload` gets what they carry.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        mut payload: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.begun.is_empty() {
            let used = self.process(bytes, &mut payload)?;
            self.begun.extend_from_slice(&bytes[used..]);
        } else {
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(bytes);
            let used = self.process(&mut begun, &mut payload)?;
            begun.drain(..used);
            self.begun = begun;
        }
        Ok(())
    }

    /// Returns how many bytes are dealt with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        payload: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[used..]);
            let mut more = true;
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        payload(record.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let begin = self.out.len();
                    self.out.resize(begin + HANDSHAKE, 0);
                    let written = data.encode(&mut self.out[begin..])?;
                    self.out.truncate(begin + written);
                }
                // All of it is in `out`.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => {
                    self.open = true;
                    more = false;
                }
                ConnectionState::BlockedHandshake => more = false,
                _ => return Err("the server has ended TLS".into()),
            }
            used += discard;
            if !more {
                return Ok(used);
            }
        }
    }
}
