//! TLS, by rustls.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore, crypto::ring, pki_types::ServerName,
};
use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_rustls::TlsConnector;

use super::{
    error::{ConnectError, InvalidRequest, Stage},
    stream::Stream,
};
use crate::ws::TcpTransport;

/// What a WebSocket is asked for over (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// `config` for a WebSocket: it offers HTTP/1.1, whatever else it did.
pub(super) fn prepared(mut config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    Arc::make_mut(&mut config).alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// Puts TLS upon a connection to `host`.
pub(super) async fn connect(
    config: Option<Arc<ClientConfig>>,
    host: &str,
    stream: Stream,
) -> Result<Stream, ConnectError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| InvalidRequest::Uri(format!("{host}: {error}")))?;
    let config = match config {
        Some(config) => config,
        None => platform().await?,
    };
    let connector = TlsConnector::from(config);
    let connected = match stream {
        Stream::Tcp(tcp) => {
            TcpTransport::prepare(&tcp);
            let tls = connector.connect(name, tcp).await;
            tls.map(|tls| Stream::Other(Box::new(tls)))
        }
        Stream::Other(io) => {
            let tls = connector.connect(name, io).await;
            tls.map(|tls| Stream::Other(Box::new(tls)))
        }
    };
    connected.map_err(failed)
}

/// TLS with the platform's roots, which are read once in the process's life.
async fn platform() -> Result<Arc<ClientConfig>, ConnectError> {
    static PLATFORM: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let config = PLATFORM.get_or_try_init(|| async {
        // Hundreds of files, where there is no bundle.
        let loaded = spawn_blocking(rustls_native_certs::load_native_certs).await;
        let loaded = loaded.map_err(|error| ConnectError::NoRoots(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(loaded.certs);
        if roots.is_empty() {
            let errors: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
            return Err(ConnectError::NoRoots(errors.join("; ")));
        }
        // The cryptography is named, since what is found by features may be two.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(prepared(Arc::new(config)))
    });
    config.await.map(Arc::clone)
}

fn failed(error: io::Error) -> ConnectError {
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref()) else {
        let stage = Stage::Tls;
        return ConnectError::Disconnected {
            stage,
            source: error,
        };
    };
    match cause {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ConnectError::WrongName(error),
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => ConnectError::Expired(error),
        Error::InvalidCertificate(_) => ConnectError::Untrusted(error),
        // Its first bytes are no record of TLS.
        Error::InvalidMessage(_) => ConnectError::NotTls(error),
        _ => ConnectError::Tls(error),
    }
}
