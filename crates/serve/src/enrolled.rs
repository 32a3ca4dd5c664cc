//! What a folder of keys knows of its service.

use polyveil_serve::client::{Remote, Token, Transport};
use polyveil_serve::records::Plan;
use polyveil_serve::{Code, Error, Result, store};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

const NAME: &str = "service.json";

/// The file beside the keys, its owner's alone: a token is in it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Enrolled {
    /// The service's address.
    pub(crate) url: String,
    /// The plan's name at the service.
    pub(crate) plan: String,
    /// The account's token.
    pub(crate) token: String,
    /// Certificates of the authorities that vouch for the service, PEM; those of the web if none.
    #[serde(default)]
    pub(crate) authority: Option<String>,
    /// Whether the way is protected by something else than TLS.
    pub(crate) protected_way: bool,
}

impl Enrolled {
    /// Writes it into a folder, which is made if missing.
    pub(crate) fn write(&self, folder: &Path, plan: &Plan) -> Result<()> {
        let mut made = std::fs::DirBuilder::new();
        let made = made.recursive(true).mode(0o700).create(folder);
        made.map_err(Error::io(folder.display()))?;
        let client = folder.join(polyveil::network::CLIENT_FILE);
        if client.exists()
            && polyveil::network::client_file(&client)
                .map(|f| polyveil_serve::records::hex(&f.spec().plan))
                .ok()
                != Some(plan.digest.clone())
        {
            let cause = format!("{} is there, of another plan", client.display());
            return Err(Error::new(
                Code::Conflict,
                cause,
                "choose another folder: keys are of one plan",
            ));
        }
        let text = serde_json::json!(self).to_string();
        store::write(&folder.join(NAME), text.as_bytes())
    }

    /// Reads it.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let not = |cause: String| {
            let remedy = "enrol first: polyveil-serve enrol URL --token-file FILE -o FOLDER";
            Error::new(Code::BadRequest, cause, remedy)
        };
        let text = std::fs::read(&path).map_err(|e| not(format!("{}: {e}", path.display())))?;
        serde_json::from_slice(&text).map_err(|e| not(format!("{}: {e}", path.display())))
    }

    /// Its service.
    pub(crate) fn remote(&self) -> Result<Remote> {
        let transport = match &self.authority {
            _ if self.protected_way => Transport::AsItIs,
            None => Transport::Protected,
            Some(pem) => Transport::Authority(pem.clone()),
        };
        Remote::new(&self.url, Token::new(&self.token)?, transport)
    }
}
