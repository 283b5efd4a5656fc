//! TLS, with what the tests and the testbeds need of it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
};

use crate::process::SOON;

/// What is offered and taken, the best first.
pub const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Of the identities of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: io::Error,
    },
    /// A file has nothing of what is looked for.
    #[error("{path}: no {what} in PEM")]
    Missing {
        /// The file.
        path: String,
        /// What is looked for.
        what: &'static str,
    },
    /// A file is not what PEM says it is.
    #[error("{path}: {cause}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// The certificate cannot be used, or not with this key.
    #[error("{certificate} {key}: {cause}")]
    Unusable {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// What is wrong with them.
        cause: rustls::Error,
    },
}

/// A server's side of TLS: a chain of certificates and its key, PEM files, with ALPN
/// for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// Where a file cannot be read or has not what it should have, or the two do not
/// belong together.
pub fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| unlike(certificate, "certificate", cause))?;
    if chain.is_empty() {
        return Err(unlike(certificate, "certificate", pem::Error::NoItemsFound));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|cause| unlike(key, "private key", cause))?;
    let unusable = |cause| TlsError::Unusable {
        certificate: certificate.display().to_string(),
        key: key.display().to_string(),
        cause,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// A certificate of its own making for `localhost` and 127.0.0.1, in files that are gone
/// with it.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Identity {
    /// A new one.
    ///
    /// # Panics
    /// Where files cannot be made: for tests.
    #[must_use]
    pub fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("towpath-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let this = Self {
            folder,
            certificate: made.cert.der().clone(),
        };
        fs::write(this.certificate(), made.cert.pem()).expect("a file");
        fs::write(this.key(), made.signing_key.serialize_pem()).expect("a file");
        this
    }

    /// The certificate's file.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.folder.join("cert.pem").display().to_string()
    }

    /// The key's file.
    #[must_use]
    pub fn key(&self) -> String {
        self.folder.join("key.pem").display().to_string()
    }

    /// A connection to a server that has it, offering it `alpn`.
    ///
    /// # Panics
    /// Where there is none: for tests.
    pub async fn connect(&self, address: SocketAddr, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let tcp = timeout(SOON, TcpStream::connect(address)).await;
        let tcp = tcp.expect("accepted").expect("connected");
        tcp.set_nodelay(true).expect("an option");
        let connect = self.connector(alpn).connect(name(), tcp);
        let tls = timeout(SOON, connect).await;
        tls.expect("a handshake").expect("TLS")
    }

    /// A client's side of TLS that trusts it and nothing else.
    ///
    /// # Panics
    /// Where it cannot be made: for tests.
    #[must_use]
    pub fn trusting(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    fn connector(&self, alpn: &[&[u8]]) -> TlsConnector {
        let mut config = self.trusting();
        Arc::make_mut(&mut config).alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.into()
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// The cryptography: named, since what is found by features may be two.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable {
        path: path.display().to_string(),
        cause,
    })
}

fn unlike(path: &Path, what: &'static str, cause: pem::Error) -> TlsError {
    let path = path.display().to_string();
    match cause {
        pem::Error::NoItemsFound => TlsError::Missing { path, what },
        cause => TlsError::Malformed { path, cause },
    }
}
