//! Inputs from files, of every task: pictures, rows of numbers, sentences, prompts.

use crate::error::{Result, named};
use crate::progress::{Listener, Say};
use data::{Answers, Dataset, Split, VectorOptions, Vectors};
use nn::Tensor;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use task::tokenizer::Long;
use task::{Picture, Task};

/// Where inputs are, and how they are read.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Pictures (PNG, JPEG) and folders of them, or a set of labelled pictures; rows as CSV, `.npy` or `.npz`; labelled sentences, or prompts,
    /// one a line.
    pub path: PathBuf,
    /// Which part of a set that has several.
    pub split: Option<Split>,
    /// At most so many, taken evenly.
    pub limit: Option<usize>,
    /// What stands beside rows.
    pub answers: Answers,
    /// Columns that are no part of rows.
    pub without: Vec<String>,
    /// Texts that are longer than the network takes are cut, not refused.
    pub cut: bool,
    /// Pictures of another size than the network's are scaled, not refused.
    pub scale: bool,
}

impl Source {
    /// A file or folder, read as files mostly are.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// The rows of the file.
    ///
    /// # Errors
    /// What is missing or no number, by row and column.
    pub(crate) fn rows(&self) -> Result<Vectors> {
        let options = VectorOptions {
            answers: self.answers.clone(),
            without: self.without.clone(),
            split: self.split,
            limit: self.limit,
            ..VectorOptions::default()
        };
        Ok(Vectors::open(&self.path, &options)?)
    }

    fn long(&self) -> Long {
        match self.cut {
            true => Long::Cut,
            false => Long::Refuse,
        }
    }
}

/// Inputs of a network.
pub(crate) struct Inputs<'a> {
    task: &'a Task,
    source: &'a Source,
    items: Items,
}

enum Items {
    Pictures(Vec<PathBuf>),
    Set(Dataset),
    Rows(Vectors),
    Sentences(data::Sentences),
    Prompts(Vec<String>),
}

/// An input for a network.
pub(crate) struct Encoded {
    pub(crate) tensor: Tensor,
    /// Tokens of a text, and whether it was cut.
    pub(crate) tokens: Option<(Vec<u32>, bool)>,
    /// Whether a picture is partly transparent, which is ignored.
    pub(crate) transparent: bool,
}

impl From<Tensor> for Encoded {
    fn from(tensor: Tensor) -> Self {
        Self {
            tensor,
            tokens: None,
            transparent: false,
        }
    }
}

impl<'a> Inputs<'a> {
    pub(crate) fn open(task: &'a Task, source: &'a Source) -> Result<Self> {
        let items = match task {
            Task::Vectors(_) => Items::Rows(source.rows()?),
            Task::Sentences(t) => {
                let classes = t.outputs().names().len().max(2);
                Items::Sentences(data::Sentences::open(&source.path, Some(classes))?)
            }
            Task::Prompts(_) => {
                let text = std::fs::read_to_string(&source.path).map_err(named(&source.path))?;
                let lines = text.lines().filter(|l| !l.trim().is_empty());
                Items::Prompts(lines.map(String::from).collect())
            }
            _ => match pictures(&source.path)? {
                files if files.is_empty() => Items::Set(set(source)?),
                files => Items::Pictures(files),
            },
        };
        Ok(Self {
            task,
            source,
            items,
        })
    }

    /// What one is called.
    pub(crate) fn noun(&self) -> &'static str {
        match self.items {
            Items::Pictures(_) | Items::Set(_) => "picture",
            Items::Rows(_) => "row",
            Items::Sentences(_) => "sentence",
            Items::Prompts(_) => "prompt",
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.items {
            Items::Pictures(files) => files.len(),
            Items::Set(set) => set.len(),
            Items::Rows(rows) => rows.len(),
            Items::Sentences(set) => set.len(),
            Items::Prompts(lines) => lines.len(),
        }
    }

    /// Its class, where inputs are labelled.
    pub(crate) fn class(&self, i: usize) -> Option<usize> {
        match &self.items {
            Items::Set(set) => Some(set.label(i)),
            Items::Rows(rows) => rows.label(i),
            Items::Sentences(set) => Some(set.lines()[i].1),
            Items::Pictures(_) | Items::Prompts(_) => None,
        }
    }

    /// The numbers to predict of it.
    pub(crate) fn target(&self, i: usize) -> &[f64] {
        match &self.items {
            Items::Rows(rows) => rows.target(i),
            _ => &[],
        }
    }

    /// The text of it.
    pub(crate) fn text(&self, i: usize) -> Option<&str> {
        match &self.items {
            Items::Sentences(set) => Some(&set.lines()[i].0),
            Items::Prompts(lines) => Some(&lines[i]),
            _ => None,
        }
    }

    /// As the network takes it; what is wrong names the file and the number.
    pub(crate) fn encode(&self, i: usize) -> Result<Encoded> {
        let place = match &self.items {
            Items::Pictures(files) => files
                .get(i)
                .map_or_else(String::new, |f| f.display().to_string()),
            _ => format!("{}: {} {i}", self.source.path.display(), self.noun()),
        };
        self.plain(i).map_err(named(Path::new(&place)))
    }

    fn plain(&self, i: usize) -> Result<Encoded> {
        if i >= self.len() {
            return Err(format!("there is no number {i}: the set has {}", self.len()).into());
        }
        let tensor = match (&self.items, self.task) {
            (Items::Set(set), Task::Pictures(t)) if !self.source.scale => {
                set.tensor(i, t.normalization())?
            }
            (Items::Set(set), _) => {
                let (s, pixels) = (set.shape(), set.pixels(i)?.into_owned());
                let picture = Picture::from_pixels(s.width, s.height, s.channels, pixels);
                self.picture(&picture.ok_or_else(|| format!("pictures {s} are no pictures"))?)?
            }
            (Items::Pictures(files), _) => {
                let picture = Picture::load(&files[i])?;
                return Ok(Encoded {
                    transparent: picture.transparent(),
                    ..self.picture(&picture)?.into()
                });
            }
            (Items::Rows(rows), _) => self.task.encode(&task::Input::Row(rows.values(i)))?,
            (Items::Sentences(_) | Items::Prompts(_), _) => {
                let text = self.text(i).unwrap_or_default();
                return encode_text(self.task, text, self.source.long());
            }
        };
        Ok(tensor.into())
    }

    fn picture(&self, picture: &Picture) -> Result<Tensor> {
        encode_picture(self.task, picture, self.source.scale)
    }

    /// Says of how many pictures transparency is ignored: of these files, or of the set.
    pub(crate) fn warn(&self, files: usize, tell: Listener<'_>) {
        let set = match &self.items {
            Items::Set(set) => set.transparent(),
            _ => 0,
        };
        if files + set > 0 {
            tell.note(format_args!(
                "warning: {} pictures of {} are partly transparent; transparency is ignored",
                files + set,
                self.source.path.display()
            ));
        }
    }

    /// At most so many as tensors, taken evenly.
    pub(crate) fn tensors(&self, limit: usize, tell: Listener<'_>) -> Result<Vec<Tensor>> {
        let (all, count) = (self.len(), limit.min(self.len()));
        let each = (0..count).into_par_iter();
        let each: Vec<Encoded> = each
            .map(|i| self.encode(i * all / count))
            .collect::<Result<_>>()?;
        self.warn(each.iter().filter(|e| e.transparent).count(), tell);
        Ok(each.into_iter().map(|e| e.tensor).collect())
    }
}

/// One input of a file or a set, as a network takes it.
///
/// # Errors
/// Inputs of another kind or size, and numbers beyond the set.
pub fn tensor(task: &Task, source: &Source, index: usize, tell: Listener<'_>) -> Result<Tensor> {
    Ok(one(task, source, index, tell)?.tensor)
}

/// As [`tensor`], with what is known of it besides.
pub(crate) fn one(
    task: &Task,
    source: &Source,
    index: usize,
    tell: Listener<'_>,
) -> Result<Encoded> {
    let inputs = Inputs::open(task, source)?;
    inputs.warn(0, tell);
    let encoded = inputs.encode(index)?;
    if encoded.transparent {
        tell.note(format_args!(
            "warning: {} is partly transparent; transparency is ignored",
            source.path.display()
        ));
    }
    Ok(encoded)
}

/// A picture as a network takes it.
pub(crate) fn encode_picture(task: &Task, picture: &Picture, scale: bool) -> Result<Tensor> {
    Ok(match task {
        Task::Pictures(t) if scale => {
            let (width, height) = t.size();
            t.input(&picture.fit(width, height))?
        }
        task => task.encode(&task::Input::Picture(picture))?,
    })
}

/// A text as a network takes it.
pub(crate) fn encode_text(task: &Task, text: &str, long: Long) -> Result<Encoded> {
    let (tokens, cut) = match task {
        Task::Sentences(t) => t.encode(text, long)?,
        Task::Prompts(t) => (t.encode(text)?, false),
        other => return Err(format!("this network takes {}, no text", other.kind()).into()),
    };
    Ok(Encoded {
        tensor: task.encode(&task::Input::Tokens(&tokens))?,
        tokens: Some((tokens, cut)),
        transparent: false,
    })
}

/// The pictures that lie there, if any.
fn pictures(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        files = std::fs::read_dir(path)
            .and_then(|all| all.map(|e| Ok(e?.path())).collect())
            .map_err(named(path))?;
        files.sort();
    }
    files.retain(|f| {
        let is = |e: &str| f.extension().is_some_and(|x| x.eq_ignore_ascii_case(e));
        is("png") || is("jpg") || is("jpeg")
    });
    Ok(files)
}

/// A set of labelled pictures.
fn set(source: &Source) -> Result<Dataset> {
    let options = data::Options {
        split: source.split,
        limit: source.limit,
        ..data::Options::default()
    };
    Ok(Dataset::open(&source.path, &options)?.0)
}
