//! Files: opened with their names in errors, written whole or not at all, and never over what must stay.

use crate::error::{Error, Help, Result, named};
use crate::progress::{Listener, Say};
pub use disk::{Access, abandon, abandon_at_once};
use runtime::wire::container::Kind;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// What a file holds: decides who may read it, and which existing file it may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file of the wire format.
    Container(Kind),
    /// A network (`.pvm`).
    Model,
    /// A chart.
    Chart,
    /// A chart of decrypted values: their owner's alone.
    PrivateChart,
    /// A NumPy array of decrypted values: their owner's alone.
    Array,
    /// A prediction.
    Prediction,
    /// What this machine takes for each kind of work.
    CostTable,
    /// What was shared under a key.
    Record,
    /// What a folder of keys knows of its service: its owner's alone, since a token is in it.
    Service,
    /// A text that has these words in it, whoever wrote the rest.
    Text(&'static str),
    /// A text or something else that nothing tells from others'.
    Other,
}

/// A file is known by so much of it.
const HEAD: u64 = 1 << 20;

fn has(text: &[u8], words: &str) -> bool {
    text.windows(words.len()).any(|w| w == words.as_bytes())
}

impl Content {
    /// What a file holds that begins like this, by our own marks; none where it is empty.
    fn of(head: &[u8]) -> Option<Self> {
        let text = head.trim_ascii_start();
        Some(match Kind::of(head) {
            Some(kind) => Self::Container(kind),
            None if head.is_empty() => return None,
            None if nn::format::artefact::begins_like_one(head) => Self::Model,
            None if Self::is_chart(text) => Self::Chart,
            None => Self::of_json(text).unwrap_or(Self::Other),
        })
    }

    /// Charts are told by how their outermost element is written.
    fn is_chart(text: &[u8]) -> bool {
        let element = text.split(|b| *b == b'>').next().unwrap_or_default();
        let begin = br#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 "#;
        let font = r#" font-family="sans-serif" font-size="11""#;
        element.starts_with(begin) && has(element, font)
    }

    /// Files of JSON are told by their fields.
    fn of_json(text: &[u8]) -> Option<Self> {
        let first = text.strip_prefix(b"{")?.trim_ascii_start();
        let known: [(Self, &[&str]); 4] = [
            (
                Self::Prediction,
                &["plan", "threads", "cpu_seconds", "peak_bytes"],
            ),
            (Self::CostTable, &["format", "date", "origin", "cost"]),
            (Self::Record, &["key", "security", "releases", "used"]),
            (
                Self::Service,
                &["authority", "plan", "protected_way", "token", "url"],
            ),
        ];
        let quoted = |key: &&str| format!("\"{key}\":");
        known.into_iter().find_map(|(content, keys)| {
            let begins = first.starts_with(quoted(&keys[0]).as_bytes());
            let all = begins && keys.iter().all(|key| has(text, &quoted(key)));
            all.then_some(content)
        })
    }

    fn access(self) -> Access {
        match self {
            Self::Container(Kind::ClientKey) | Self::Array | Self::PrivateChart | Self::Service => {
                Access::Owner
            }
            _ => Access::Everyone,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Container(kind) => kind.name(),
            Self::Model => "model",
            Self::Chart | Self::PrivateChart => "chart",
            Self::Array => "NumPy array",
            Self::Prediction => "prediction",
            Self::CostTable => "cost table",
            Self::Record => "record of shared answers",
            Self::Service => "record of a service",
            Self::Text(_) => "text of this program",
            Self::Other => "another kind of file",
        }
    }
}

/// The beginning of a file.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(named(path))?;
    file.take(HEAD)
        .read_to_end(&mut head)
        .map_err(named(path))?;
    Ok(head)
}

/// What may be done to a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced where it is of the same kind, and no secret key.
    #[default]
    Kin,
    /// It is replaced, unless it is a secret key that something else would replace, or a record of what was shared under one.
    Any,
}

/// Refuses a place where what is there must stay: all that is written by a name that someone gave is asked for here, before the work.
///
/// # Errors
/// One of `others`: the inputs of the same work, and what else it writes; existing files that must stay.
pub fn expect_place(
    path: &Path,
    content: Content,
    others: &[&Path],
    existing: Existing,
) -> Result<()> {
    if let Some(other) = others.iter().find(|other| disk::same_file(path, other)) {
        let what = format!(
            "it would take the place of {}, which the same work needs; choose another name",
            other.display()
        );
        return Err(named(path)(what));
    }
    if !path.is_file() || path == Path::new(disk::STDOUT) {
        return Ok(());
    }
    let head = head(path)?;
    let Some(had) = Content::of(&head) else {
        return Ok(());
    };
    let kin = match content {
        Content::Text(words) => had == Content::Other && has(&head, words),
        // nothing tells it from what is not ours
        Content::Other | Content::Array => false,
        Content::PrivateChart => had == Content::Chart,
        _ => had == content,
    };
    let why = match had {
        Content::Container(Kind::ClientKey) if !kin || existing == Existing::Kin => {
            "a secret key is there, and nothing may take its place: what was encrypted with it could never be decrypted; choose another name"
        }
        Content::Record => {
            "a record of shared answers is there, and nothing may take its place: nobody would know how many answers were shared under its key; choose another name"
        }
        _ if kin => return Ok(()),
        _ if existing == Existing::Any => match others.iter().find(|o| belongs(path, o)) {
            None => return Ok(()),
            Some(other) => {
                let what = format!(
                    "it would take the place of a part of {}, which the same work may need; choose another name",
                    other.display()
                );
                return Err(named(path)(what));
            }
        },
        _ => {
            let content = content.name();
            let what = match had {
                // of our kind or not: nothing tells
                Content::Other => {
                    format!("a file is there already, and {content} would take its place")
                }
                had => format!(
                    "{} is there, and {content} would take its place",
                    had.name()
                ),
            };
            return Err(named(path)(Error::refused(what, Help::Overwrite)));
        }
    };
    Err(named(path)(why))
}

/// Whether a file lies in an input that is a folder, or has an input's name with something behind it, as weights beside a model.
fn belongs(path: &Path, input: &Path) -> bool {
    let whole = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.into());
    let (path, input) = (whole(path), whole(input));
    if input.is_dir() {
        return path.starts_with(input);
    }
    let name = |p: &Path| Some(p.file_name()?.to_string_lossy().into_owned());
    let behind = |whole: String, begin: String| Some(whole.strip_prefix(&begin)?.starts_with('.'));
    let both = name(&path).zip(name(&input));
    path.parent() == input.parent() && both.and_then(|(p, i)| behind(p, i)) == Some(true)
}

/// Removes what killed writers of a file left behind, and says so.
#[cfg(feature = "train")]
pub(crate) fn clean(path: &Path, tell: Listener<'_>) {
    tell_cleaned(&disk::clean(path), tell);
}

fn tell_cleaned(cleaned: &[PathBuf], tell: Listener<'_>) {
    for path in cleaned {
        tell.note(format_args!(
            "removed {}, which a killed run left behind",
            path.display()
        ));
    }
}

/// A file that is being written. What is at its place stays as it is until it is finished; dropped before, nothing is left of it.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<disk::Output>,
    path: PathBuf,
}

impl Output {
    /// Opens a file for what will be made: before the work, so that no result is lost. What earlier writers of the same file that were killed
    /// left behind is removed, and told.
    ///
    /// # Errors
    /// What can't be written to, and what [`expect_place`] refuses.
    pub fn create(
        path: &Path,
        content: Content,
        others: &[&Path],
        existing: Existing,
        tell: Listener<'_>,
    ) -> Result<Self> {
        expect_place(path, content, others, existing)?;
        let file = disk::Output::create(path, content.access()).map_err(named(path))?;
        tell_cleaned(file.cleaned(), tell);
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.into(),
        })
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses where there is no room for so many bytes.
    ///
    /// # Errors
    /// [`runtime::Error::Disk`].
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        match self.is_file() {
            true => Ok(runtime::machine::require_disk(
                folder_of(&self.path),
                bytes,
            )?),
            false => Ok(()),
        }
    }

    /// Whether it is a regular file, not a device, a pipe or standard output.
    pub fn is_file(&self) -> bool {
        self.file.get_ref().is_file()
    }

    /// Writes the file and puts it in its place, on disk; `write` gets the name for errors.
    ///
    /// # Errors
    /// What `write` finds, or the file system; what was there before is there still then.
    pub fn write<T>(
        self,
        write: impl FnOnce(&mut BufWriter<disk::Output>, &str) -> Result<T>,
    ) -> Result<T> {
        let (file, written) = self.fill(write)?;
        file.place()?;
        Ok(written)
    }

    /// Writes the file and puts it on disk, but not yet in its place: for files that must appear together.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn fill<T>(
        mut self,
        write: impl FnOnce(&mut BufWriter<disk::Output>, &str) -> Result<T>,
    ) -> Result<(Filled, T)> {
        let path = self.path;
        let name = path.display().to_string();
        let written = write(&mut self.file, &name).map_err(named(&path))?;
        let file = self
            .file
            .into_inner()
            .map_err(|e| named(&path)(e.into_error()))?;
        file.sync().map_err(named(&path))?;
        Ok((Filled { file, path }, written))
    }

    /// As [`Output::write`], of bytes.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_bytes(self, bytes: &[u8]) -> Result<()> {
        self.write(|out, _| Ok(out.write_all(bytes)?))
    }
}

/// A file that is on disk under another name.
#[derive(Debug)]
pub struct Filled {
    file: disk::Output,
    path: PathBuf,
}

impl Filled {
    /// Puts it in its place.
    ///
    /// # Errors
    /// The file system's.
    pub fn place(self) -> Result<()> {
        self.file.finish().map_err(named(&self.path))
    }

    /// Puts it elsewhere, in the same file system.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn place_at(self, path: &Path) -> Result<()> {
        self.file.finish_at(path).map_err(named(path))
    }
}

/// A warning where others than its owner may read a secret file.
///
/// # Errors
/// The file system's.
pub fn readable_by_others(path: &Path) -> Result<Option<String>> {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path).map_err(named(path))?;
    let mode = found.permissions().mode() & 0o777;
    Ok((found.is_file() && mode & 0o077 != 0).then(|| {
        format!(
            "{}: others can read this secret key (mode {mode:04o}); make it yours alone: chmod 600",
            path.display()
        )
    }))
}

/// Refuses a file where a folder is to be made.
pub(crate) fn expect_folder(path: &Path) -> Result<()> {
    match path.exists() && !path.is_dir() {
        true => Err(named(path)(
            "it is no folder, and one is made there; name another",
        )),
        false => Ok(()),
    }
}

/// Makes a folder for what is its owner's alone, "keys" say, with those above it. One that is there stays as it is; where it is open to others,
/// that is told.
///
/// # Errors
/// The file system's.
pub fn private_folder(path: &Path, what: &str, tell: Listener<'_>) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    expect_folder(path)?;
    if let Ok(found) = std::fs::metadata(path) {
        let mode = found.permissions().mode() & 0o777;
        let may = match mode {
            _ if mode & 0o022 != 0 => format!("put other {what} in the place of these"),
            _ if mode & 0o055 != 0 => format!("look into this folder of {what}"),
            _ => return Ok(()),
        };
        tell.note(format_args!(
            "warning: {}: others can {may} (mode {mode:04o}); make it yours alone: chmod 700",
            path.display()
        ));
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(named(path))
}

/// Opens a file.
///
/// # Errors
/// With its name.
pub fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(named(path))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Larger files, and the file system's.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(named(path))?;
    if bytes.len() as u64 > limit {
        let limit = runtime::size(limit);
        return Err(named(path)(format!(
            "more than {limit}, which no such file has"
        )));
    }
    Ok(bytes)
}

pub(crate) use disk::folder_of;

/// `path` with something behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file's name without folder and ending, as a network's: characters that no name may have are left out.
pub(crate) fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: &char| nn::graph::is_plain(c.encode_utf8(&mut [0; 4]));
    stem.chars().filter(plain).collect()
}

/// A file's name without its folder.
#[cfg(feature = "train")]
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::machine_file::{MachineFile, Origin};
    use runtime::sharing::releases::Ledger;

    #[test]
    fn parts_of_inputs_are_not_replaced_by_force() {
        let at = std::env::temp_dir().join(format!("polyveil-parts-{}", std::process::id()));
        let data = at.join("data");
        std::fs::create_dir_all(&data).expect("a folder");
        let file = |path: PathBuf| {
            std::fs::write(&path, "pixels and weights").expect("written");
            path
        };
        let (picture, model) = (file(data.join("a.png")), file(at.join("net.onnx")));
        let (weights, foreign) = (file(at.join("net.onnx.data")), file(at.join("net.txt")));
        let inputs = [model.as_path(), data.as_path()];
        let refused =
            |path: &Path, existing| expect_place(path, Content::Model, &inputs, existing).is_err();
        for path in [&picture, &weights, &model] {
            assert!(refused(path, Existing::Any), "{}", path.display());
        }
        assert!(refused(&foreign, Existing::Kin) && !refused(&foreign, Existing::Any));
        assert!(!refused(&data.join("new.pvm"), Existing::Kin));
        std::fs::remove_dir_all(&at).expect("removed");
    }

    #[test]
    fn files_are_known_by_our_own_marks_alone() {
        let plan = crate::key_folder::tests::plan_that_does_nothing("x");
        let basis = crate::machine::Machine::default();
        let basis = basis
            .basis(crate::machine::Probing::AsItIs)
            .expect("shipped");
        let prediction = runtime::Prediction::new(&plan, basis, 1);
        let here = Origin::here().expect("counts");
        let table = MachineFile::new(here, "2000-01-31".into(), cost::MachineCost::default(), &[]);
        let record =
            "{\n  \"key\": \"00\",\n  \"security\": 40,\n  \"releases\": 3,\n  \"used\": 1\n}";
        let record = Ledger::read(record.as_bytes(), "x").expect("a record");
        let measured = runtime::report::Measured::default();
        let answer = runtime::report::Answer::default();
        let chart = runtime::Report::new(&plan, &prediction, &measured, answer).to_svg();
        let known = [
            (prediction.to_json(), Content::Prediction),
            (table.to_json(), Content::CostTable),
            (record.to_json(), Content::Record),
            (chart, Content::Chart),
            (
                "{\"plan\": \"mine\", \"threads\": 3}".into(),
                Content::Other,
            ),
            ("{\"name\": 1}".into(), Content::Other),
            ("[1, 2]".into(), Content::Other),
            ("<?xml version=\"1.0\"?><html/>".into(), Content::Other),
            (
                "<svg xmlns='http://www.w3.org/2000/svg'/>".into(),
                Content::Other,
            ),
            ("a text".into(), Content::Other),
        ];
        for (text, content) in known {
            assert_eq!(Content::of(text.as_bytes()), Some(content), "{text}");
        }
        assert_eq!(Content::of(b""), None);
    }
}
