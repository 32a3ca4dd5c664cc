//! Whom TLS trusts, and its cryptography: what clients need of it, and servers too.

use crate::error::{Code, Error, Result};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// All certificates of a PEM file.
pub(crate) fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let cause = match all {
        Ok(all) if !all.is_empty() => return Ok(all),
        Ok(_) => format!("{name} holds no certificate"),
        Err(e) => format!("{name}: {e}"),
    };
    let remedy = "give a file with -----BEGIN CERTIFICATE----- in it";
    Err(Error::new(Code::BadRequest, cause, remedy))
}

/// Whom a client trusts: these authorities, or those of the web.
pub(crate) fn trust(authority: Option<&str>) -> Result<TlsConfig> {
    let roots = match authority {
        None => RootCerts::WebPki,
        Some(pem) => {
            let all = certificates(pem.as_bytes(), "the authority's file")?;
            let all = all.iter().map(|c| Certificate::from_der(c).to_owned());
            all.into()
        }
    };
    let config = TlsConfig::builder().root_certs(roots);
    Ok(config
        .unversioned_rustls_crypto_provider(provider()?)
        .build())
}

/// Whether the other side is not who it should be, or speaks no TLS: it will not be otherwise in a moment.
pub(crate) fn is_refusal(e: &ureq::Error) -> bool {
    match e {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(e) => e.get_ref().is_some_and(|e| e.is::<rustls::Error>()),
        _ => false,
    }
}

/// The cryptography, which asks for a processor of the last ten years and would panic on others.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    #[cfg(target_arch = "x86_64")]
    let fits = std::is_x86_feature_detected!("aes")
        && std::is_x86_feature_detected!("pclmulqdq")
        && std::is_x86_feature_detected!("ssse3")
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("adx");
    #[cfg(target_arch = "aarch64")]
    let fits = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    match fits {
        true => Ok(Arc::new(rustls_graviola::default_provider())),
        false => Err(Error::new(
            Code::Refused,
            "this processor lacks the instructions that TLS is built on here (AES, carry-less products, AVX2, ADX, BMI2)",
            "use a machine of the last ten years, or leave TLS to a proxy or a tunnel",
        )),
    }
}
