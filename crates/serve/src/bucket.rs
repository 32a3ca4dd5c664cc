//! Keys and answers in an S3 bucket, with the feature `s3`: the crate `object_store` over this crate's own HTTP client and cryptography, so
//! that no C compiler is needed. Callers wait: a bucket has a thread of its own.

pub use own::Bucket;

#[cfg(not(feature = "s3"))]
mod own {
    use crate::error::{Code, Error, Result};
    use std::io::Read;

    /// A bucket: there is none, since this program was built without it.
    #[derive(Debug)]
    pub enum Bucket {}

    impl Bucket {
        /// Refuses.
        ///
        /// # Errors
        /// Always.
        pub fn open(_: &str) -> Result<Self> {
            Err(Error::new(
                Code::BadRequest,
                "this program was built without S3",
                "build it with the feature `s3`, or leave keys and answers in the folder",
            ))
        }
        pub(crate) fn address(&self) -> &str {
            match *self {}
        }
        pub(crate) fn owner(&self) -> Result<Option<String>> {
            match *self {}
        }
        pub(crate) fn claim(&self, _: &str) -> Result<()> {
            match *self {}
        }
        pub(crate) fn length(&self, _: &str) -> Result<Option<u64>> {
            match *self {}
        }
        pub(crate) fn put(&self, _: &str, _: impl Read, _: u64) -> Result<()> {
            match *self {}
        }
        pub(crate) fn range(&self, _: &str, _: std::ops::Range<u64>) -> Result<Vec<u8>> {
            match *self {}
        }
        pub(crate) fn remove(&self, _: &str) -> Result<()> {
            match *self {}
        }
        pub(crate) fn list(&self, _: &str) -> Result<Vec<String>> {
            match *self {}
        }
    }
}

#[cfg(feature = "s3")]
mod own {
    use crate::error::{Code, Error, Result};
    use futures_util::TryStreamExt;
    use graviola::hashing::hmac::Hmac;
    use graviola::hashing::{Hash, HashContext, HashOutput, Sha256};
    use http_body_util::BodyExt;
    use object_store::aws::AmazonS3Builder;
    use object_store::client::{
        ClientOptions, CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, HttpClient,
        HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, Signer,
        SigningAlgorithm,
    };
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
    use std::io::Read;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::runtime::Runtime;

    /// Bytes that are sent at once; what is longer goes in parts of this size, of which S3 takes 10,000.
    const PART: u64 = 8 << 20;
    /// Bytes of an answer of the bucket.
    const LONGEST: u64 = 64 << 20;
    /// Without a byte, in either direction.
    const STEP: Duration = Duration::from_secs(30);
    /// How long a request is sent again: callers of the service wait meanwhile.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Where a bucket says whose it is.
    const OWNER: &str = "service";

    /// A bucket, or the part of it whose names begin with a prefix.
    pub struct Bucket {
        address: String,
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        runtime: Runtime,
    }

    impl std::fmt::Debug for Bucket {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Bucket({})", self.objects)
        }
    }

    fn refused(cause: impl Into<String>) -> Error {
        let remedy = "give s3://NAME or s3://NAME/PREFIX, and in the environment AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for other services than Amazon's, AWS_ENDPOINT (with AWS_ALLOW_HTTP=true for one of this machine)";
        Error::new(Code::BadRequest, cause, remedy)
    }

    fn away(e: object_store::Error) -> Error {
        let remedy = "try again in a moment; if it stays, the operator must look at the bucket and its rights";
        Error::new(Code::Busy, format!("the bucket: {e}"), remedy)
    }

    impl Bucket {
        /// The bucket at an address, `s3://NAME/PREFIX`; who may use it the environment says, as for Amazon's own tools.
        ///
        /// # Errors
        /// What is no such address; settings that do not fit.
        pub fn open(address: &str) -> Result<Self> {
            let rest = address.strip_prefix("s3://").unwrap_or_default();
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if name.is_empty() {
                return Err(refused(format!("{address} is no address of a bucket")));
            }
            let agent = ureq::Agent::config_builder()
                .tls_config(crate::trust::trust(None)?)
                .http_status_as_error(false)
                .max_redirects(0)
                .timeout_connect(Some(Duration::from_secs(10)))
                .timeout_per_read(Some(STEP))
                .timeout_per_write(Some(STEP))
                .build()
                .new_agent();
            let objects = AmazonS3Builder::from_env()
                .with_bucket_name(name)
                .with_crypto_provider(Arc::new(Cryptography))
                .with_http_connector(Wire(agent))
                .with_retry(RetryConfig {
                    retry_timeout: PATIENCE,
                    ..RetryConfig::default()
                })
                // one is removed at a time, as every such service can
                .with_disable_bulk_delete(true)
                .build()
                .map_err(|e| refused(format!("{address}: {e}")))?;
            let prefix = Path::parse(prefix).map_err(|e| refused(format!("{address}: {e}")))?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .max_blocking_threads(16)
                .thread_name("bucket")
                .enable_time()
                .build();
            Ok(Self {
                address: address.trim_end_matches('/').into(),
                objects: Arc::new(objects),
                prefix,
                runtime: runtime.map_err(Error::io("a thread for the bucket"))?,
            })
        }

        pub(crate) fn address(&self) -> &str {
            &self.address
        }

        /// The mark of the service whose bucket it is; none where nobody has it yet. Rights that are missing are said here, before anybody asks.
        pub(crate) fn owner(&self) -> Result<Option<String>> {
            let Some(length) = self.length(OWNER)? else {
                return Ok(None);
            };
            let mark = self.range(OWNER, 0..length.min(64))?;
            Ok(Some(String::from_utf8_lossy(&mark).into_owned()))
        }

        /// It is the service's with this mark from now on.
        pub(crate) fn claim(&self, mark: &str) -> Result<()> {
            self.put(OWNER, mark.as_bytes(), mark.len() as u64)
        }

        fn path(&self, name: &str) -> Path {
            name.split('/').fold(self.prefix.clone(), |p, n| p.join(n))
        }

        /// Bytes of an object; none where it is not there.
        pub(crate) fn length(&self, name: &str) -> Result<Option<u64>> {
            match self.runtime.block_on(self.objects.head(&self.path(name))) {
                Ok(meta) => Ok(Some(meta.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(away(e)),
            }
        }

        /// Puts an object in its place, whole or not at all.
        pub(crate) fn put(&self, name: &str, mut from: impl Read, length: u64) -> Result<()> {
            let path = self.path(name);
            let mut left = length;
            let mut piece = || -> Result<Vec<u8>> {
                let mut piece = vec![0; left.min(PART) as usize];
                from.read_exact(&mut piece).map_err(Error::io("the file"))?;
                left -= piece.len() as u64;
                Ok(piece)
            };
            if length <= PART {
                let put = self.objects.put(&path, piece()?.into());
                return self.runtime.block_on(put).map(drop).map_err(away);
            }
            let begun = self.runtime.block_on(self.objects.put_multipart(&path));
            let mut parts = begun.map_err(away)?;
            let mut send = || -> Result<()> {
                for _ in 0..length.div_ceil(PART) {
                    let part = parts.put_part(piece()?.into());
                    self.runtime.block_on(part).map_err(away)?;
                }
                let done = self.runtime.block_on(parts.complete());
                done.map(drop).map_err(away)
            };
            let sent = send();
            if sent.is_err() {
                // parts that stay where this fails too, the bucket's own rules remove
                let _ = self.runtime.block_on(parts.abort());
            }
            sent
        }

        /// Bytes of an object.
        pub(crate) fn range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
            let path = self.path(name);
            let got = self.runtime.block_on(self.objects.get_range(&path, range));
            got.map(Vec::from).map_err(away)
        }

        /// An object goes; one that is not there is gone already.
        pub(crate) fn remove(&self, name: &str) -> Result<()> {
            match self.runtime.block_on(self.objects.delete(&self.path(name))) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(away(e)),
            }
        }

        /// The last parts of all names in a folder.
        pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
            let path = self.path(folder);
            let all = self.objects.list(Some(&path)).try_collect::<Vec<_>>();
            let all = self.runtime.block_on(all).map_err(away)?;
            let names = all.iter().filter_map(|o| o.location.filename());
            Ok(names.map(String::from).collect())
        }
    }

    /// This crate's HTTP client, for the bucket.
    #[derive(Clone, Debug)]
    struct Wire(ureq::Agent);

    impl HttpConnector for Wire {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    #[async_trait::async_trait]
    impl HttpService for Wire {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let agent = self.0.clone();
            let sent = tokio::task::spawn_blocking(move || {
                let request = ureq::http::Request::from_parts(head, ());
                let bodiless = body.is_empty()
                    && request.method() != ureq::http::Method::PUT
                    && request.method() != ureq::http::Method::POST;
                let response = match bodiless {
                    true => agent.run(request),
                    false => agent.run(request.map(|()| body.to_vec())),
                };
                let (head, body) = response.map_err(kind)?.into_parts();
                let mut bytes = Vec::new();
                let read = body.into_reader().take(LONGEST).read_to_end(&mut bytes);
                read.map_err(|e| HttpError::new(HttpErrorKind::Interrupted, e))?;
                Ok(HttpResponse::from_parts(head, bytes.into()))
            });
            sent.await
                .unwrap_or_else(|e| Err(HttpError::new(HttpErrorKind::Unknown, e)))
        }
    }

    fn kind(e: ureq::Error) -> HttpError {
        let kind = match &e {
            _ if crate::trust::is_refusal(&e) => HttpErrorKind::Unknown,
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => HttpErrorKind::Connect,
            ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
            _ => HttpErrorKind::Interrupted,
        };
        HttpError::new(kind, e)
    }

    /// What signing requests takes.
    #[derive(Debug)]
    struct Cryptography;

    struct Digest(Option<<Sha256 as Hash>::Context>, Option<HashOutput>);

    impl DigestContext for Digest {
        fn update(&mut self, data: &[u8]) {
            if let Some(context) = &mut self.0 {
                context.update(data);
            }
        }
        fn finish(&mut self) -> object_store::Result<&[u8]> {
            self.1 = self.0.take().map(HashContext::finish).or(self.1.take());
            finished(&self.1)
        }
    }

    struct Keyed(Option<Hmac<Sha256>>, Option<HashOutput>);

    impl HmacContext for Keyed {
        fn update(&mut self, data: &[u8]) {
            if let Some(context) = &mut self.0 {
                context.update(data);
            }
        }
        fn finish(&mut self) -> object_store::Result<&[u8]> {
            self.1 = self.0.take().map(Hmac::finish).or(self.1.take());
            finished(&self.1)
        }
    }

    fn finished(output: &Option<HashOutput>) -> object_store::Result<&[u8]> {
        output
            .as_ref()
            .map(AsRef::as_ref)
            .ok_or_else(|| unsupported("a digest of nothing"))
    }

    fn unsupported(what: &str) -> object_store::Error {
        object_store::Error::NotSupported {
            source: what.into(),
        }
    }

    impl CryptoProvider for Cryptography {
        fn digest(
            &self,
            algorithm: DigestAlgorithm,
        ) -> object_store::Result<Box<dyn DigestContext>> {
            match algorithm {
                DigestAlgorithm::Sha256 => Ok(Box::new(Digest(Some(Sha256::new()), None))),
                _ => Err(unsupported("another digest than SHA-256")),
            }
        }
        fn hmac(
            &self,
            algorithm: DigestAlgorithm,
            secret: &[u8],
        ) -> object_store::Result<Box<dyn HmacContext>> {
            match algorithm {
                DigestAlgorithm::Sha256 => Ok(Box::new(Keyed(Some(Hmac::new(secret)), None))),
                _ => Err(unsupported("another digest than SHA-256")),
            }
        }
        fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> object_store::Result<Box<dyn Signer>> {
            Err(unsupported(
                "signatures by RSA keys, which S3 does not ask for",
            ))
        }
    }
}
