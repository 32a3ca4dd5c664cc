//! The page: the client for a browser, files of one folder (`web/`), read once and served as they are.
//!
//! It may load and reach nothing but this server, and run nothing but its own files: the header that says so goes with each of them.

use crate::error::{Code, Error, Result};
use crate::records::hex;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::path::Path;

/// Kinds of files that a page is made of. No other file of the folder is served, whatever lies there.
const KINDS: [(&str, &str); 4] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("wasm", "application/wasm"),
];
/// Bytes of one file, at most.
const LARGEST: u64 = 64 << 20;
const FIRST: &str = "index.html";

/// What goes with every file of the page.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types polyveil",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    // looked at again every time, by its tag
    (header::CACHE_CONTROL, "no-cache"),
];

/// The files, by their names.
#[derive(Debug)]
pub struct Page(BTreeMap<String, File>);

#[derive(Debug)]
struct File {
    kind: &'static str,
    tag: HeaderValue,
    bytes: Bytes,
}

impl Page {
    /// Reads a folder.
    ///
    /// # Errors
    /// The file system's; a folder without a first page, and files that are too large.
    pub fn open(folder: &Path) -> Result<Self> {
        let refuse = |cause: String| {
            let remedy = "give the folder that web/build.sh makes, web/dist";
            Error::new(Code::BadRequest, cause, remedy)
        };
        let all = std::fs::read_dir(folder).map_err(Error::io(folder.display()))?;
        let mut files = BTreeMap::new();
        for entry in all {
            let path = entry.map_err(Error::io(folder.display()))?.path();
            let ending = path.extension().and_then(|e| e.to_str());
            let kind = KINDS.iter().find(|(e, _)| Some(*e) == ending);
            let (Some((_, kind)), Some(name)) = (kind, path.file_name().and_then(|n| n.to_str()))
            else {
                continue;
            };
            let length = std::fs::metadata(&path).map_err(Error::io(path.display()))?;
            if !length.is_file() || length.len() > LARGEST {
                let cause = format!("{} is no file of a page", path.display());
                return Err(refuse(cause));
            }
            let bytes = std::fs::read(&path).map_err(Error::io(path.display()))?;
            let tag = format!("\"{}\"", hex(blake3::hash(&bytes).as_bytes()));
            let tag = HeaderValue::try_from(tag).map_err(|e| refuse(e.to_string()))?;
            let bytes = bytes.into();
            files.insert(name.into(), File { kind, tag, bytes });
        }
        match files.contains_key(FIRST) {
            true => Ok(Self(files)),
            false => Err(refuse(format!("{} has no {FIRST}", folder.display()))),
        }
    }

    /// The file of an address, if there is one.
    pub(crate) fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Response> {
        let name = match path.strip_prefix('/')? {
            "" => FIRST,
            name => name,
        };
        let file = self.0.get(name)?;
        if method != Method::GET && method != Method::HEAD {
            let cause = format!("{method} does not go with this address");
            let refused = Error::new(Code::WrongMethod, cause, "read it with GET");
            return Some(refused.into_response());
        }
        let same = headers.get(header::IF_NONE_MATCH) == Some(&file.tag);
        let mut response = match same {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => Body::from(file.bytes.clone()).into_response(),
        };
        let to = response.headers_mut();
        to.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
        to.insert(header::ETAG, file.tag.clone());
        for (name, value) in HEADERS {
            to.insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }
}
