//! Files for decoders that open paths.

use std::path::{Path, PathBuf};

/// Where this process has its files: in memory where the system has a place for that.
fn root() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("polyveil-fuzz-{}", std::process::id()))
}

/// Removes them all; to be called before the process ends.
pub(crate) fn clear() {
    drop(std::fs::remove_dir_all(root()));
}

/// A folder of files.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = root().join(name);
        std::fs::create_dir_all(&path).expect("a folder for scratch files can be made");
        Self(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
    /// Writes a file, in a folder of its own where `name` has one.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        if std::fs::write(&path, bytes).is_err() {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.0))
                .and_then(|()| std::fs::write(&path, bytes))
                .expect("scratch files can be written");
        }
        path
    }
    pub(crate) fn remove(&self, name: &str) {
        drop(std::fs::remove_file(self.0.join(name)));
    }
}
