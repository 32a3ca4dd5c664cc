//! Tensors whose values lie in files beside the model, as torch's exporter writes them.

use super::limited::DEFAULT_LIMIT;
use super::onnx_proto::TensorProto;
use crate::Result;
use crate::error::Error;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder of a model, if it came from one, and which tensors were read from files there, of how many bytes together.
pub(crate) struct External {
    folder: Option<PathBuf>,
    seen: RefCell<HashSet<String>>,
    bytes: Cell<u64>,
}

impl External {
    /// Files in this folder, or below it.
    pub(super) fn beside(folder: Option<&Path>) -> Self {
        Self {
            folder: folder.map(Path::to_path_buf),
            seen: RefCell::default(),
            bytes: Cell::new(0),
        }
    }

    /// Bytes that were read, those of each tensor once.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes.get()).unwrap_or(usize::MAX)
    }

    /// The bytes of a tensor, `needed` in number.
    pub(super) fn read(&self, t: &TensorProto, needed: usize) -> Result<Vec<u8>> {
        let bad = |detail: String| Error::malformed("ONNX", format!("tensor {}: {detail}", t.name));
        let value = |key: &str| {
            let entry = t.external_data.iter().find(|e| e.key == key);
            entry.map(|e| e.value.as_str())
        };
        let number = |key: &str| match value(key).map(str::parse::<u64>) {
            None => Ok(None),
            Some(Ok(n)) => Ok(Some(n)),
            Some(Err(_)) => Err(bad(format!("its {key} in another file is no number"))),
        };
        let location = value("location").unwrap_or_default();
        let folder = self.folder.as_ref().ok_or_else(|| bad(format!(
            "its values lie in the file {location}, which a model that does not come from a folder can't have; save the model as one file: torch.onnx.export(…, external_data=False)"
        )))?;
        let path = beside(folder, location).map_err(bad)?;
        let bad = |detail: &str| bad(format!("its values lie in {}, {detail}", path.display()));
        let file = File::open(&path).map_err(|e| {
            let copy = "copy that file beside the model, too, or save the model as one file: torch.onnx.export(…, external_data=False)";
            bad(&format!("which can't be read ({e}); {copy}"))
        });
        let mut file = file?;
        let size = file.metadata().map_err(Error::io(&path))?.len();
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let needed = needed as u64;
        if length.is_some_and(|l| l != needed) {
            return Err(bad(&format!(
                "which is to hold {} bytes of it, its shape needs {needed}",
                length.unwrap_or(0)
            )));
        }
        if offset.checked_add(needed).is_none_or(|end| end > size) {
            return Err(bad(&format!(
                "which is too short: {needed} bytes from {offset} are needed, it has {size}; copy it again"
            )));
        }
        if !self.seen.borrow().contains(&t.name) {
            let had = self.bytes.get().saturating_add(needed);
            if had > DEFAULT_LIMIT {
                return Err(Error::TooLarge {
                    what: format!("what tensors of the model have in {}", path.display()),
                    limit: DEFAULT_LIMIT,
                    had,
                });
            }
            self.bytes.set(had);
            self.seen.borrow_mut().insert(t.name.clone());
        }
        file.seek(SeekFrom::Start(offset))
            .map_err(Error::io(&path))?;
        let mut raw = Vec::new();
        file.take(needed)
            .read_to_end(&mut raw)
            .map_err(Error::io(&path))?;
        match raw.len() as u64 == needed {
            true => Ok(raw),
            false => Err(bad("which became shorter while it was read")),
        }
    }
}

/// The path of a file in the folder or below it, reached through no link; or why there is none.
fn beside(folder: &Path, location: &str) -> std::result::Result<PathBuf, String> {
    let refused = |detail: &str| {
        Err(format!(
            "its values are said to lie in {location:?}, {detail}; only files beside the model are read"
        ))
    };
    let relative = location.replace('\\', "/");
    let drive = relative.as_bytes().get(1) == Some(&b':');
    let mut path = folder.to_path_buf();
    let mut any = false;
    for part in Path::new(&relative).components() {
        match part {
            Component::Normal(name) if !drive => path.push(name),
            Component::CurDir => continue,
            Component::ParentDir => return refused("outside of the model's folder"),
            _ => return refused("an absolute path"),
        }
        any = true;
        match path.symlink_metadata() {
            Ok(m) if m.file_type().is_symlink() => {
                return refused("which is reached through a link");
            }
            _ => {}
        }
    }
    if !any {
        return refused("which names no file");
    }
    match path.metadata() {
        Ok(m) if !m.is_file() => refused("which is no file"),
        _ => Ok(path),
    }
}
