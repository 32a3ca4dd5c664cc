//! Picture files that are read again at each access.

use crate::Result;
use crate::error::Error;
use crate::files::resized;
use crate::options::Resize;
use crate::shape::Shape;
use nn::format::read_limited;
use std::path::{Path, PathBuf};
use task::Picture;
use task::picture::FILE_LIMIT;

/// A picture file that can be read again.
#[derive(Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Member { name: String, bytes: Vec<u8> },
}

impl Source {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Member { name, .. } => name.clone(),
        }
    }

    /// The picture as it is in the file.
    pub(crate) fn picture(&self) -> Result<Picture> {
        self.read(Picture::from_bytes)
    }

    /// As [`Source::picture`], where decoding it takes no more than so many bytes, by its header.
    pub(crate) fn picture_within(&self, limit: u64) -> Result<Picture> {
        let picture = self.read(|bytes| {
            let decoding = Picture::decoding(bytes)?;
            Ok(match decoding.bytes > limit {
                true => Err(decoding),
                false => Ok(Picture::from_bytes(bytes)?),
            })
        })?;
        picture.map_err(|decoding| {
            let what = format!(
                "decoding it, {}×{} pixels, {} bytes,",
                decoding.width, decoding.height, decoding.bytes
            );
            let remedy = "scale it down, or leave it out";
            Error::too_large(Path::new(&self.name()), what, limit, remedy)
        })
    }

    fn read<T>(&self, read: impl FnOnce(&[u8]) -> task::Result<T>) -> Result<T> {
        let made = match self {
            Self::File(path) => read_limited(path, FILE_LIMIT)
                .map_err(task::Error::from)
                .and_then(|bytes| read(&bytes)),
            Self::Member { bytes, .. } => read(bytes),
        };
        made.map_err(|e| Error::Damaged {
            picture: self.name(),
            reason: match e {
                task::Error::Nn(nn::Error::Io { source, .. }) => source.to_string(),
                other => other.to_string(),
            },
        })
    }

    /// The values that the set has of it.
    pub(crate) fn values(&self, resize: Option<Resize>, shape: Shape) -> Result<Vec<u8>> {
        let picture = resized(self.picture()?, resize);
        let needed = (shape.width, shape.height);
        match picture.pixels(shape.channels) {
            Some(values) if picture.size() == needed => Ok(values),
            _ => Err(Error::MixedSizes {
                picture: self.name(),
                needed,
                had: picture.size(),
            }),
        }
    }
}
