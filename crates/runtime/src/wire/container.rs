//! The file format: a fixed header, then sections, each with its own checksum.
//!
//! ```text
//! header, 192 bytes, integers little endian
//!   0  5  magic  "PVEIL"
//!   5  1  kind
//!   6  2  version
//!   8  8  length of the whole file
//!  16  4  number of sections
//!  20 12  zero
//!  32 32  parameters' digest: BLAKE3 of the specification and its primes
//!  64 32  plan's digest
//!  96 32  client file's digest
//! 128 16  key id
//! 144 16  zero
//! 160 32  BLAKE3 of bytes 0..160
//! section
//!   0  4  tag
//!   4  8  length of the payload
//!  12  …  payload
//!   …  32 BLAKE3 of tag, length and payload
//! ```
//!
//! What a file belongs to ([`Ids`]) is in its header, so that files that do not belong together are refused before a body is read; a digest or
//! an id that does not apply to a kind is zero. A reader states, before anything is allocated, how long a section may be; lengths
//! follow from the parameters. Checksums find accidents, not forgery: a file's authenticity is the transport's business.

pub use super::key_id::KeyId;
use crate::{Error, Help, Remedy, Result};
use std::io::{Chain, Cursor, Read, Write};
use std::sync::Arc;

/// Version of the format that this program reads and writes.
pub const VERSION: u16 = 6;
/// Bytes of the header.
pub const HEADER_LEN: u64 = 192;
/// Bytes that a section takes beyond its payload.
const SECTION_OVERHEAD: u64 = 44;
/// What is taken into memory before bytes have arrived for it.
const PIECE: u64 = 1 << 16;
/// Bytes of the header that its checksum covers.
const SUMMED: usize = HEADER_LEN as usize - 32;
const MAGIC: &[u8; 5] = b"PVEIL";
pub(crate) const DAMAGED: &str = "the file is damaged: copy or make it again";

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

impl KeyId {
    /// Refuses what belongs to another key pair than this one.
    ///
    /// # Errors
    /// [`Error::OtherKey`], which names `what`.
    pub fn expect(&self, had: &Self, what: &str) -> Result<()> {
        if self == had {
            return Ok(());
        }
        Err(Error::OtherKey {
            what: what.into(),
            needed: *self,
            had: *had,
        })
    }
}

/// What a file belongs to; zeros where something does not apply to its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Digest of the parameters.
    pub parameters: Digest,
    /// Digest of the plan.
    pub plan: Digest,
    /// Digest of the client file.
    pub client: Digest,
    /// The key pair.
    pub key: KeyId,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[repr(u8)]
pub enum Kind {
    /// The secret key with what the client must know.
    ClientKey = 1,
    /// Evaluation keys.
    EvaluationKeys = 2,
    /// Encrypted input.
    Input = 3,
    /// Encrypted answer.
    Answer = 4,
    /// A compiled plan.
    Plan = 5,
    /// A checkpoint of a run.
    Checkpoint = 7,
    /// What a client must know of a plan.
    ClientFile = 8,
    /// A plan's integer weights, where they lie beside it.
    Weights = 9,
    /// What is kept between the runs of a sequence.
    Cache = 10,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::ClientKey,
        Self::EvaluationKeys,
        Self::Input,
        Self::Answer,
        Self::Plan,
        Self::Checkpoint,
        Self::ClientFile,
        Self::Weights,
        Self::Cache,
    ];
    /// What a file that begins with these bytes holds, whatever its version; none of another program's.
    pub fn of(head: &[u8]) -> Option<Self> {
        let kind = head.strip_prefix(MAGIC)?.first()?;
        Self::ALL.into_iter().find(|k| *k as u8 == *kind)
    }
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientKey => "client key (secret)",
            Self::EvaluationKeys => "evaluation keys",
            Self::Input => "encrypted input",
            Self::Answer => "encrypted answer",
            Self::Plan => "plan",
            Self::Checkpoint => "checkpoint",
            Self::ClientFile => "client file",
            Self::Weights => "weights of a plan",
            Self::Cache => "cache of a sequence",
        }
    }
    /// Who may see such a file.
    pub const fn who_may_see(self) -> &'static str {
        match self {
            Self::ClientKey => "its owner alone: whoever has it decrypts everything; never send it",
            Self::EvaluationKeys => {
                "anyone, in particular the server: they let it compute, not decrypt"
            }
            Self::Input | Self::Answer => {
                "anyone, in particular the server: nobody can decrypt it without the client's key"
            }
            Self::Plan | Self::Weights => {
                "whoever may know the model: weights are in the clear; the server needs it, the client only the client file beside it"
            }
            Self::Checkpoint | Self::Cache => {
                "anyone, in particular the server: it holds ciphertexts only"
            }
            Self::ClientFile => {
                "whoever may be a client: it holds labels, vocabulary and embedding, but no other weights"
            }
        }
    }
    fn how_to_make(self) -> Remedy {
        match self {
            Self::ClientKey | Self::EvaluationKeys => Help::MakeKeys.with("make keys first"),
            Self::Input => Help::Encrypt.with("encrypt an input first"),
            Self::Answer => Help::Run.with("run the plan first"),
            Self::Plan => Help::Compile.with("give the plan of a compilation"),
            Self::ClientFile => {
                Help::Compile.with("give the client file that compilation writes beside the plan")
            }
            Self::Checkpoint => Help::Run.with("a run writes one at each bootstrap"),
            Self::Cache => Help::Run.with("a sequence's first run begins with none"),
            Self::Weights => {
                Help::Compile.with("give the file that compilation writes beside a large plan")
            }
        }
    }
}

/// A file whose header was read ahead.
pub type Whole<R> = Chain<Cursor<[u8; HEADER_LEN as usize]>, R>;

/// A file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the file holds.
    pub kind: Kind,
    /// Length of the whole file.
    pub length: u64,
    /// Number of sections.
    pub sections: u32,
    /// What it belongs to.
    pub ids: Ids,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_LEN as usize] {
        let mut b = [0u8; HEADER_LEN as usize];
        b[..5].copy_from_slice(MAGIC);
        b[5] = self.kind as u8;
        b[6..8].copy_from_slice(&VERSION.to_le_bytes());
        b[8..16].copy_from_slice(&self.length.to_le_bytes());
        b[16..20].copy_from_slice(&self.sections.to_le_bytes());
        b[32..64].copy_from_slice(&self.ids.parameters);
        b[64..96].copy_from_slice(&self.ids.plan);
        b[96..128].copy_from_slice(&self.ids.client);
        b[128..144].copy_from_slice(&self.ids.key.0);
        let sum = blake3::hash(&b[..SUMMED]);
        b[SUMMED..].copy_from_slice(sum.as_bytes());
        b
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read(input: &mut impl Read, name: &str) -> Result<Self> {
        let mut b = [0u8; HEADER_LEN as usize];
        let had = read_up_to(input, &mut b).map_err(Error::io(name))?;
        let refuse = |field: &str, problem: String, remedy: &str| {
            Err(Error::file(name, field, problem, remedy))
        };
        if b[8..].starts_with(br#"{"__metadata__":{"#) {
            let problem = "this is a model (.pvm, or other safetensors): it is compiled first";
            let remedy = Help::Compile.with("give what compiling it writes");
            return Err(Error::file(name, "magic", problem, remedy));
        }
        if had < 5 || &b[..5] != MAGIC {
            let remedy = "give a key, an input, an answer, a plan, a client file or a checkpoint";
            return refuse("magic", "this is not a Polyveil file".into(), remedy);
        }
        // headers of other versions may have another length
        let version = u16::from_le_bytes([b[6], b[7]]);
        if had >= 8 && version != VERSION {
            let problem = format!(
                "the file has format version {version}, this program reads version {VERSION}"
            );
            let remedy = if version < VERSION {
                "an older program wrote it: make the file again with this one"
            } else {
                "a newer program wrote it: update this one"
            };
            return refuse("version", problem, remedy);
        }
        if had < b.len() {
            let problem = format!("the file ends after {had} of {HEADER_LEN} bytes");
            return refuse("header", problem, DAMAGED);
        }
        if blake3::hash(&b[..SUMMED]).as_bytes() != &b[SUMMED..] {
            let problem = "the header's bytes do not match their checksum".into();
            return refuse("header checksum", problem, DAMAGED);
        }
        let Some(kind) = Kind::ALL.into_iter().find(|k| *k as u8 == b[5]) else {
            let remedy = "a newer program may have written it: update this one";
            return refuse("kind", format!("unknown kind {}", b[5]), remedy);
        };
        let length = u64::from_le_bytes(b[8..16].try_into().unwrap_or_default());
        let sections = u32::from_le_bytes(b[16..20].try_into().unwrap_or_default());
        if b[20..32] != [0; 12] || b[144..SUMMED] != [0; 16] || length < HEADER_LEN {
            let problem = "reserved bytes are set or the length is impossible".into();
            return refuse("header", problem, DAMAGED);
        }
        Ok(Self {
            kind,
            length,
            sections,
            ids: Ids {
                parameters: b[32..64].try_into().unwrap_or_default(),
                plan: b[64..96].try_into().unwrap_or_default(),
                client: b[96..128].try_into().unwrap_or_default(),
                key: KeyId(b[128..144].try_into().unwrap_or_default()),
            },
        })
    }

    /// Reads a file's header ahead of it; what comes back reads the file from its beginning, once.
    ///
    /// # Errors
    /// Those of [`Header::read`].
    pub fn ahead<R: Read>(mut input: R, name: &str) -> Result<(Self, Whole<R>)> {
        let header = Self::read(&mut input, name)?;
        Ok((header, Cursor::new(header.to_bytes()).chain(input)))
    }

    /// Refuses a file of another kind.
    ///
    /// # Errors
    /// [`Error::File`], field `kind`.
    pub fn expect(&self, kind: Kind, name: &str) -> Result<()> {
        if self.kind == kind {
            return Ok(());
        }
        // where it is taken for what a server reads, it may lie where it must not
        let warning = match self.kind {
            Kind::ClientKey => {
                "; it is secret and must not leave its owner's machine: if this is a server, delete it there and make new keys"
            }
            _ => "",
        };
        Err(Error::file(
            name,
            "kind",
            format!(
                "this is a file of kind `{}`, `{}` is needed{warning}",
                self.kind.name(),
                kind.name()
            ),
            kind.how_to_make(),
        ))
    }
}

/// Refuses files that do not belong together, by their headers alone: before anything large is read.
///
/// # Errors
/// [`Error::OtherKey`], or [`Error::File`] with the file and the field that differ from the files before it.
pub fn expect_together(files: &[(&str, Header)]) -> Result<()> {
    let mut together = Ids::default();
    for &(name, Header { kind, ids, .. }) in files {
        let same = |all: &mut Digest, had: Digest, field: &str| {
            if *all == [0; 32] {
                *all = had;
            } else if had != *all && had != [0; 32] {
                return Err(other((kind, name), field, &had, all));
            }
            Ok(())
        };
        same(&mut together.parameters, ids.parameters, "parameter set")?;
        // keys serve every plan that they cover
        if kind != Kind::EvaluationKeys {
            same(&mut together.plan, ids.plan, "plan")?;
        }
        same(&mut together.client, ids.client, "client file")?;
        if together.key == KeyId::default() {
            together.key = ids.key;
        } else if ids.key != KeyId::default() {
            together.key.expect(&ids.key, name)?;
        }
    }
    Ok(())
}

fn other((kind, name): (Kind, &str), field: &str, had: &Digest, needed: &Digest) -> Error {
    let (had, needed) = (short(had), short(needed));
    // new keys open no answer
    let help = match kind {
        Kind::Answer => "give the key that its input was encrypted with".into(),
        Kind::Checkpoint => Help::Anew.with("give the run's own, or start from the beginning"),
        _ => Help::MakeKeys.with("make keys and inputs for this plan"),
    };
    Error::file(
        name,
        field,
        format!("made for another {field} (digest {had}) than the one in use (digest {needed})"),
        help,
    )
}

/// Length of a file with sections of these payload lengths.
pub(crate) fn file_length(sections: impl IntoIterator<Item = u64>) -> u64 {
    sections
        .into_iter()
        .fold(HEADER_LEN, |sum, s| sum + SECTION_OVERHEAD + s)
}

/// Reads until the end or until there is no more place; gives how many bytes came.
fn read_up_to(input: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut had = 0;
    while had < bytes.len() {
        match input.read(&mut bytes[had..]) {
            Ok(0) => break,
            Ok(n) => had += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(had)
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    name: &str,
    field: &str,
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let remedy = "make the file again with this program";
        Error::file(name, field, format!("cannot be read ({e})"), remedy)
    })
}

/// BLAKE3 of parts, each after its length.
pub(crate) fn hash_parts(parts: &[&[u8]]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
}

/// Writes a file of these sections.
pub(crate) fn write_file<W: Write>(
    out: W,
    name: &str,
    kind: Kind,
    ids: Ids,
    sections: &[([u8; 4], &[u8])],
) -> Result<W> {
    let lengths = sections
        .iter()
        .map(|(tag, bytes)| (*tag, bytes.len() as u64));
    let mut file = Writer::new(out, name, kind, ids, lengths.collect())?;
    sections
        .iter()
        .try_for_each(|(_, bytes)| file.section(bytes))?;
    file.finish()
}

/// Writes a file section by section; all lengths are known beforehand.
pub struct Writer<W: Write> {
    out: W,
    name: String,
    planned: std::vec::IntoIter<([u8; 4], u64)>,
    current: Option<(blake3::Hasher, u64)>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(
        mut out: W,
        name: &str,
        kind: Kind,
        ids: Ids,
        sections: Vec<([u8; 4], u64)>,
    ) -> Result<Self> {
        let length = file_length(sections.iter().map(|s| s.1));
        let count = u32::try_from(sections.len()).unwrap_or(u32::MAX);
        let header = Header {
            kind,
            length,
            sections: count,
            ids,
        };
        out.write_all(&header.to_bytes()).map_err(Error::io(name))?;
        Ok(Self {
            out,
            name: name.into(),
            planned: sections.into_iter(),
            current: None,
        })
    }
    /// Writes the header and a head, which sections of one tag and these lengths follow.
    pub(crate) fn list(
        out: W,
        name: &str,
        kind: Kind,
        ids: Ids,
        (head_tag, head): ([u8; 4], &[u8]),
        tag: [u8; 4],
        lengths: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let mut sections = vec![(head_tag, head.len() as u64)];
        sections.extend(lengths.map(|length| (tag, length)));
        let mut file = Self::new(out, name, kind, ids, sections)?;
        file.section(head)?;
        Ok(file)
    }
    /// Begins the next section.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// If the section before is not complete or no section was planned: a mistake of the caller.
    pub fn begin(&mut self) -> Result<()> {
        self.end()?;
        let (tag, length) = self.planned.next().expect("a planned section");
        let mut hasher = blake3::Hasher::new();
        for part in [&tag[..], &length.to_le_bytes()] {
            hasher.update(part);
            self.out.write_all(part).map_err(Error::io(&self.name))?;
        }
        self.current = Some((hasher, length));
        Ok(())
    }
    /// Writes payload bytes of the current section.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// If they exceed the planned length: a mistake of the caller.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (hasher, left) = self.current.as_mut().expect("a section was begun");
        *left = left
            .checked_sub(bytes.len() as u64)
            .expect("no more bytes than planned");
        hasher.update(bytes);
        self.out.write_all(bytes).map_err(Error::io(&self.name))
    }
    /// A whole section at once.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn section(&mut self, bytes: &[u8]) -> Result<()> {
        self.begin()?;
        self.write(bytes)
    }
    fn end(&mut self) -> Result<()> {
        if let Some((hasher, left)) = self.current.take() {
            assert_eq!(left, 0, "a section has its planned length");
            self.out
                .write_all(hasher.finalize().as_bytes())
                .map_err(Error::io(&self.name))?;
        }
        Ok(())
    }
    /// Ends the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// If planned sections are missing: a mistake of the caller.
    pub fn finish(mut self) -> Result<W> {
        self.end()?;
        assert!(
            self.planned.next().is_none(),
            "all planned sections were written"
        );
        self.out.flush().map_err(Error::io(&self.name))?;
        Ok(self.out)
    }
}

/// Reads a file section by section.
pub struct Reader<R: Read> {
    input: R,
    name: String,
    header: Header,
    read: u64,
    sections: u32,
    current: Option<(blake3::Hasher, u64, String)>,
}

impl<R: Read> Reader<R> {
    /// Reads the header and refuses other kinds.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn new(mut input: R, name: &str, kind: Kind) -> Result<Self> {
        let header = Header::read(&mut input, name)?;
        header.expect(kind, name)?;
        Ok(Self {
            input,
            name: name.into(),
            header,
            read: HEADER_LEN,
            sections: 0,
            current: None,
        })
    }
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.read
    }
    /// Refuses a file made under other parameters.
    ///
    /// # Errors
    /// [`Error::File`], field `parameter set`.
    pub(crate) fn expect_parameters(&self, digest: &Digest) -> Result<()> {
        self.same("parameter set", &self.header.ids.parameters, digest)
    }
    fn same(&self, field: &str, had: &Digest, needed: &Digest) -> Result<()> {
        if had == needed {
            return Ok(());
        }
        Err(other((self.header.kind, &self.name), field, had, needed))
    }
    /// Refuses what was made under other parameters, for another plan or with other keys.
    ///
    /// # Errors
    /// [`Error::File`], field `parameter set` or `plan`; [`Error::OtherKey`].
    pub(crate) fn expect(&self, ids: &Ids) -> Result<()> {
        self.expect_parameters(&ids.parameters)?;
        self.same("plan", &self.header.ids.plan, &ids.plan)?;
        self.same("client file", &self.header.ids.client, &ids.client)?;
        ids.key.expect(&self.header.ids.key, &self.name)
    }
    fn damaged(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::file(&self.name, field, problem, DAMAGED)
    }
    fn fill(&mut self, bytes: &mut [u8], field: &str) -> Result<()> {
        let length = self.header.length;
        if self.read + bytes.len() as u64 > length {
            let problem = format!("it runs past the file's stated length of {length} bytes");
            return Err(self.damaged(field, problem));
        }
        let had = read_up_to(&mut self.input, bytes).map_err(Error::io(&self.name))?;
        self.read += had as u64;
        if had < bytes.len() {
            let at = self.read;
            let problem = format!("the file is truncated: it ends at byte {at} of {length}");
            return Err(self.damaged(field, problem));
        }
        Ok(())
    }
    /// Begins the next section, which must have this tag and at most `most` bytes; gives its length.
    ///
    /// # Errors
    /// [`Error::File`] with the section's tag.
    pub fn begin(&mut self, tag: [u8; 4], most: u64) -> Result<u64> {
        self.begin_as(Some(tag), most)
    }
    /// As [`Reader::begin`], of any tag where there is none.
    fn begin_as(&mut self, tag: Option<[u8; 4]>, most: u64) -> Result<u64> {
        let field = match tag {
            Some(tag) => format!("section `{}`", String::from_utf8_lossy(&tag)),
            None => format!("section {}", self.sections + 1),
        };
        if self.sections >= self.header.sections {
            return Err(self.damaged(&field, "it is missing"));
        }
        let mut head = [0u8; 12];
        self.fill(&mut head, &field)?;
        if tag.is_some_and(|tag| head[..4] != tag) {
            return Err(self.damaged(&field, "another section is in its place"));
        }
        let length = u64::from_le_bytes(head[4..].try_into().unwrap_or_default());
        if length > most {
            let problem = format!("{length} bytes, but at most {most} make sense here");
            return Err(self.damaged(&field, problem));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        self.sections += 1;
        self.current = Some((hasher, length, field));
        Ok(length)
    }
    /// Begins the next section, which must have exactly `length` bytes.
    ///
    /// # Errors
    /// [`Error::File`] with the section's tag.
    pub(crate) fn begin_exact(&mut self, tag: [u8; 4], length: u64) -> Result<()> {
        let had = self.begin(tag, length)?;
        if had != length {
            let field = format!("section `{}`", String::from_utf8_lossy(&tag));
            return Err(self.damaged(&field, format!("{had} bytes, but {length} are needed")));
        }
        Ok(())
    }
    /// Reads payload bytes of the current section.
    ///
    /// # Errors
    /// [`Error::File`] if it is too short.
    ///
    /// # Panics
    /// If no section was begun: a mistake of the caller.
    pub fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        let (mut hasher, left, field) = self.current.take().expect("a section was begun");
        if left < bytes.len() as u64 {
            return Err(self.damaged(&field, "it is too short"));
        }
        self.fill(bytes, &field)?;
        hasher.update(bytes);
        self.current = Some((hasher, left - bytes.len() as u64, field));
        Ok(())
    }
    /// Ends the current section: all was read and the checksum matches; gives it.
    ///
    /// # Errors
    /// [`Error::File`] if not.
    ///
    /// # Panics
    /// If no section was begun: a mistake of the caller.
    pub fn end(&mut self) -> Result<Digest> {
        let (hasher, left, field) = self.current.take().expect("a section was begun");
        if left != 0 {
            return Err(self.damaged(&field, format!("{left} bytes too many")));
        }
        let mut sum = [0u8; 32];
        self.fill(&mut sum, &field)?;
        if hasher.finalize().as_bytes() != &sum {
            return Err(self.damaged(&field, "its bytes do not match their checksum"));
        }
        Ok(sum)
    }
    /// A whole section of at most `most` bytes; memory grows only as bytes arrive.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn section(&mut self, tag: [u8; 4], most: u64) -> Result<Vec<u8>> {
        let length = self.begin(tag, most)?;
        let mut bytes = Vec::new();
        let mut left = length;
        while left > 0 {
            let step = left.min(PIECE) as usize;
            let at = bytes.len();
            bytes.resize(at + step, 0);
            self.take(&mut bytes[at..])?;
            left -= step as u64;
        }
        self.end()?;
        Ok(bytes)
    }
    /// As [`Reader::section`], ready to be shared. What is allocated is at most eight times what has arrived, and what is copied at most an
    /// eighth of the section, so that a large one is never in memory twice.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn shared(&mut self, tag: [u8; 4], most: u64) -> Result<Arc<[u8]>> {
        let length = self.begin(tag, most)?;
        let mut bytes: Arc<[u8]> = Arc::default();
        while (bytes.len() as u64) < length {
            let had = bytes.len();
            let size = length.min((8 * had as u64).max(PIECE)) as usize;
            let mut longer: Arc<[u8]> = std::iter::repeat_n(0, size).collect();
            let to = Arc::get_mut(&mut longer).expect("nobody shares it yet");
            to[..had].copy_from_slice(&bytes);
            drop(bytes);
            for part in to[had..].chunks_mut(PIECE as usize) {
                self.take(part)?;
            }
            bytes = longer;
        }
        self.end()?;
        Ok(bytes)
    }
    /// A section of JSON.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        tag: [u8; 4],
        most: u64,
    ) -> Result<T> {
        let bytes = self.section(tag, most)?;
        let field = format!("section `{}`", String::from_utf8_lossy(&tag));
        from_json(&bytes, &self.name, &field)
    }
    /// Reads the rest of the file for its checksums alone; nothing may follow.
    ///
    /// # Errors
    /// [`Error::File`] with the section that is damaged.
    pub(crate) fn check_rest(mut self) -> Result<R> {
        let mut bytes = vec![0; PIECE as usize];
        loop {
            while let Some(left @ 1..) = self.current.as_ref().map(|c| c.1) {
                self.take(&mut bytes[..left.min(PIECE) as usize])?;
            }
            if self.current.is_some() {
                self.end()?;
            }
            if self.sections == self.header.sections {
                return self.finish();
            }
            self.begin_as(None, self.header.length)?;
        }
    }
    /// Ends the file: nothing may follow.
    ///
    /// # Errors
    /// [`Error::File`] for bytes or sections beyond the end.
    pub fn finish(mut self) -> Result<R> {
        let mut extra = [0u8; 1];
        let more = self.input.read(&mut extra).map_err(Error::io(&self.name))?;
        if more != 0 || self.read != self.header.length || self.sections != self.header.sections {
            return Err(Error::file(
                &self.name,
                "length",
                format!(
                    "the file is oversized: it goes on after its last section (at byte {})",
                    self.read
                ),
                DAMAGED,
            ));
        }
        Ok(self.input)
    }
}

/// The first bytes of a digest, for people.
pub fn short(digest: &Digest) -> String {
    digest[..6].iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: Ids = Ids {
        parameters: [7; 32],
        plan: [9; 32],
        client: [0; 32],
        key: KeyId([3; 16]),
    };

    fn sample() -> Vec<u8> {
        let sections = vec![(*b"meta", 7), (*b"data", 100)];
        let mut w = Writer::new(Vec::new(), "x", Kind::Input, IDS, sections).expect("in memory");
        w.section(b"[1,2,3]").expect("in memory");
        w.begin().expect("in memory");
        w.write(&[5; 60]).expect("in memory");
        w.write(&[6; 40]).expect("in memory");
        w.finish().expect("in memory")
    }

    fn parse(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut r = Reader::new(bytes, "x", Kind::Input)?;
        r.expect(&IDS)?;
        let list = r.json(*b"meta", 1000)?;
        let data = r.section(*b"data", 100)?;
        r.finish()?;
        Ok((list, data))
    }

    #[test]
    fn what_is_written_is_read() {
        let (list, data) = parse(&sample()).expect("valid");
        assert_eq!((list, data.len(), data[99]), (vec![1, 2, 3], 100, 6));
    }

    #[test]
    fn large_sections_arrive_whole_and_are_not_believed_before_they_do() {
        let data: Vec<u8> = (0..5_000_000u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        let sections = vec![(*b"data", data.len() as u64)];
        let mut w =
            Writer::new(Vec::new(), "x", Kind::Input, Ids::default(), sections).expect("in memory");
        w.section(&data).expect("in memory");
        let file = w.finish().expect("in memory");
        let read = |bytes: &[u8], most| {
            let mut r = Reader::new(bytes, "x", Kind::Input)?;
            let data = r.shared(*b"data", most)?;
            r.finish()?;
            Ok::<_, Error>(data)
        };
        assert_eq!(&read(&file, 5_000_000).expect("valid")[..], &data[..]);
        assert!(read(&file, 4_999_999).is_err());
        for cut in [204, 70_000, 600_000, file.len() - 1] {
            let message = read(&file[..cut], 5_000_000).expect_err("cut").to_string();
            assert!(message.contains("truncated"), "{message}");
        }
        let message = parse(&file).expect_err("another section").to_string();
        assert!(message.contains("parameter"), "{message}");
    }

    #[test]
    fn every_truncation_extension_and_flip_is_refused() {
        let good = sample();
        for n in 0..good.len() {
            assert!(parse(&good[..n]).is_err(), "cut to {n}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[n] ^= 1 << bit;
                assert!(parse(&bad).is_err(), "bit {bit} of byte {n}");
            }
        }
        let mut long = good;
        long.push(0);
        let message = parse(&long).expect_err("oversized").to_string();
        assert!(message.contains("oversized"), "{message}");
    }

    #[test]
    fn foreign_kinds_parameters_and_versions_are_named() {
        let good = sample();
        let message = Reader::new(&good[..], "x", Kind::EvaluationKeys)
            .err()
            .expect("kind")
            .to_string();
        assert!(
            message.contains("kind") && message.contains("make keys"),
            "{message}"
        );
        let r = Reader::new(&good[..], "x", Kind::Input).expect("valid");
        for (ids, field) in [
            (
                Ids {
                    parameters: [8; 32],
                    ..IDS
                },
                "parameter set",
            ),
            (
                Ids {
                    plan: [8; 32],
                    ..IDS
                },
                "another plan",
            ),
            (
                Ids {
                    client: [8; 32],
                    ..IDS
                },
                "client file",
            ),
        ] {
            let message = r.expect(&ids).expect_err(field).to_string();
            assert!(
                message.contains(field) && message.contains("make keys"),
                "{message}"
            );
        }
        let key = KeyId([4; 16]);
        let e = r.expect(&Ids { key, ..IDS }).expect_err("key");
        assert!(matches!(e, Error::OtherKey { .. }), "{e}");
        for (version, remedy) in [
            (VERSION - 1, "make the file again"),
            (VERSION + 1, "update"),
        ] {
            let mut foreign = good.clone();
            foreign[6..8].copy_from_slice(&version.to_le_bytes());
            let message = parse(&foreign).expect_err("version").to_string();
            assert!(
                message.contains(&format!("version {version}")) && message.contains(remedy),
                "{message}"
            );
        }
        // as long as a header of version 2 was
        let mut old = good[..128].to_vec();
        old[6] = 2;
        let message = parse(&old).expect_err("version").to_string();
        assert!(message.contains("version 2"), "{message}");
        let message = parse(b"PK\x03\x04 a zip file")
            .expect_err("foreign")
            .to_string();
        assert!(message.contains("not a Polyveil file"), "{message}");
    }
}
