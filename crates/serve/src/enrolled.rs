//! What a folder of keys knows of its service.

use polyveil::files::{self, Content, Existing, Output};
use polyveil::network::CLIENT_FILE;
use polyveil::progress::Progress;
use polyveil::runtime::wire::container::Kind;
use polyveil_serve::client::{Remote, Token, Transport};
use polyveil_serve::records::Plan;
use polyveil_serve::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// What a folder knows of its service.
pub(crate) const NAME: &str = "service.json";
/// What enrolling writes.
const FILES: [(&str, Content); 2] = [
    (CLIENT_FILE, Content::Container(Kind::ClientFile)),
    (NAME, Content::Service),
];

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
    /// Refuses a folder whose files must stay, before anything is asked of the service; `needed` is what enrolling reads.
    pub(crate) fn expect_place(folder: &Path, needed: &[&Path], existing: Existing) -> Result<()> {
        for (name, content) in FILES {
            files::expect_place(&folder.join(name), content, needed, existing)
                .map_err(crate::place::refused)?;
        }
        Ok(())
    }

    /// Writes it and the plan's client file into a folder, which is made if missing.
    pub(crate) fn write(
        &self,
        (folder, needed, existing): (&Path, &[&Path], Existing),
        plan: &Plan,
        file: &[u8],
    ) -> Result<()> {
        let mut tell = |p: Progress<'_>| crate::place::note(p.message);
        files::private_folder(folder, "keys", &mut tell)?;
        let client = folder.join(CLIENT_FILE);
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
        let mut filled = Vec::new();
        for ((name, content), bytes) in FILES.into_iter().zip([file, text.as_bytes()]) {
            let path = folder.join(name);
            let output = Output::create(&path, content, needed, existing, &mut tell);
            let output = output.map_err(crate::place::refused)?;
            filled.push(output.fill(|out, _| Ok(out.write_all(bytes)?))?.0);
        }
        for file in filled {
            file.place()?;
        }
        Ok(())
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
