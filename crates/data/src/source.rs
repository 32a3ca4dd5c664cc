//! Picture files that are read again at each access.

use crate::Result;
use crate::error::Error;
use crate::files::resized;
use crate::options::Resize;
use crate::shape::Shape;
use std::path::PathBuf;
use task::Picture;

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
        let picture = match self {
            Self::File(path) => Picture::load(path),
            Self::Member { bytes, .. } => Picture::from_bytes(bytes),
        };
        picture.map_err(|e| Error::Damaged {
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
