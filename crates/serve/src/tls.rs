//! TLS 1.3 between clients and the service, with the feature `tls`: rustls, over cryptography that takes a Rust compiler and nothing else.

pub use own::Tls;

#[cfg(not(feature = "tls"))]
mod own {
    use crate::error::{Code, Error, Result};
    use std::path::Path;
    use tokio::net::TcpStream;

    /// The server's certificate and its key: there is none, since this program was built without TLS.
    #[derive(Debug)]
    pub enum Tls {}

    impl Tls {
        /// Refuses.
        ///
        /// # Errors
        /// Always.
        pub fn open(_: &Path, _: &Path) -> Result<Self> {
            Err(Error::new(
                Code::BadRequest,
                "this program was built without TLS",
                "build it with the feature `tls`, or leave TLS to a proxy and give no certificate",
            ))
        }
        /// Nothing is read again.
        ///
        /// # Errors
        /// None.
        pub fn reload(&self) -> Result<()> {
            match *self {}
        }
        pub(crate) async fn accept(&self, _: TcpStream) -> std::io::Result<TcpStream> {
            match *self {}
        }
    }
}

#[cfg(feature = "tls")]
mod own {
    use crate::error::{Code, Error, Result};
    use crate::trust::{certificates, provider};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::{Error as NotPem, PemObject};
    use rustls::server::ResolvesServerCert;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, PoisonError, RwLock};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    /// The server's certificate and its key, from files that may change while it runs.
    pub struct Tls {
        certificate: PathBuf,
        key: PathBuf,
        config: RwLock<Arc<ServerConfig>>,
    }

    impl std::fmt::Debug for Tls {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Tls")
        }
    }

    impl Tls {
        /// Reads a certificate, with those between it and its authority after it, and its key: both PEM.
        ///
        /// # Errors
        /// Files that can't be read, or that do not belong together.
        pub fn open(certificate: &Path, key: &Path) -> Result<Self> {
            Ok(Self {
                config: RwLock::new(Arc::new(config(certificate, key)?)),
                certificate: certificate.into(),
                key: key.into(),
            })
        }

        /// Reads the files again; connections that are open go on with what they have.
        ///
        /// # Errors
        /// Those of [`Tls::open`]; what was read before stays in use then.
        pub fn reload(&self) -> Result<()> {
            let new = Arc::new(config(&self.certificate, &self.key)?);
            *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
            Ok(())
        }

        pub(crate) async fn accept(
            &self,
            stream: TcpStream,
        ) -> std::io::Result<TlsStream<TcpStream>> {
            let config = || {
                self.config
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            };
            let acceptor = TlsAcceptor::from(config());
            acceptor.accept(stream).await
        }
    }

    fn config(certificate: &Path, key: &Path) -> Result<ServerConfig> {
        let provider = provider()?;
        let chain = certificates(&read(certificate)?, &certificate.display().to_string())?;
        let refuse = |cause: String, remedy: &str| Error::new(Code::BadRequest, cause, remedy);
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| {
            let cause = match e {
                NotPem::NoItemsFound => format!("{} holds no private key", key.display()),
                e => format!("{}: {e}", key.display()),
            };
            let remedy = "give the certificate's key without a passphrase, as PEM (PKCS #8, or SEC 1 or PKCS #1)";
            refuse(cause, remedy)
        })?;
        let signer = provider
            .key_provider
            .load_private_key(secret)
            .map_err(|e| {
                let remedy = "give an RSA, ECDSA (P-256, P-384) or Ed25519 key";
                refuse(format!("{}: {e}", key.display()), remedy)
            })?;
        let both = CertifiedKey::new(chain, signer);
        match both.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let cause = format!(
                    "{} is the key of another certificate than the first one in {}",
                    key.display(),
                    certificate.display()
                );
                let remedy = "give the files that were made together; the server's own certificate comes first";
                return Err(refuse(cause, remedy));
            }
            Err(e) => {
                let cause = format!("{}: {e}", certificate.display());
                return Err(refuse(
                    cause,
                    "give an X.509 certificate, version 3, as PEM",
                ));
            }
        }
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(both));
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13]);
        let builder = builder.map_err(|e| {
            let cause = format!("TLS 1.3: {e}");
            Error::new(Code::Internal, cause, "report this")
        })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn read(path: &Path) -> Result<Vec<u8>> {
        std::fs::read(path).map_err(|e| {
            let cause = format!("{}: {e}", path.display());
            let remedy = "name a PEM file that the user of this program may read";
            Error::new(Code::BadRequest, cause, remedy)
        })
    }
}
