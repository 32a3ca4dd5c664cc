//! Plain vectors, alone or with classes or numbers to predict: CSV, `.npy` and `.npz`.

use crate::csv::{self, Rows, Unusable};
use crate::error::{Error, check_labels};
use crate::files::{classes_of, numbers, read_all, unpacked};
use crate::npy::{Array, OneAxis, Place};
use crate::options::{check_held_out, of_split, spread};
use crate::split::Split;
use crate::{Result, npy, npz};
use nn::{Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use task::Normalization;

/// Vectors of more components are refused.
const WIDEST: usize = 1 << 20;
/// More different labels in a column are numbers.
const MOST_CLASSES: usize = 1 << 16;
/// Names that columns and arrays of classes, or of numbers to predict, usually have.
const ANSWERS: [&str; 6] = ["label", "labels", "class", "target", "targets", "y"];
/// Names that arrays of vectors usually have.
const INPUTS: [&str; 6] = ["x", "X", "vectors", "inputs", "features", "data"];

/// What is read beside the vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Answers {
    /// Nothing: every column, or the array, is part of the vectors. Enough to calibrate on.
    #[default]
    None,
    /// A class for each: a CSV's column of this name, an `.npz`'s array of this name, or for an `.npy` file another one of this path.
    /// Without a name, the column or array that is called label, class, target or y.
    Classes(Option<String>),
    /// Numbers to predict: a CSV's columns of these names, arrays, or files, as for classes.
    Numbers(Vec<String>),
}

impl Answers {
    /// Classes in a column, array or file of this name, or else numbers in those of these names.
    #[must_use]
    pub fn of(classes: Option<String>, numbers: &[String]) -> Self {
        match (classes, numbers) {
            (Some(name), _) => Self::Classes(Some(name)),
            (None, []) => Self::None,
            (None, names) => Self::Numbers(names.to_vec()),
        }
    }
}

/// Whether a CSV's first row names its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Heading {
    /// It does if some of its fields are no numbers. One that counts its columns, as pandas writes where they have no names, is refused: nothing
    /// tells it from a row.
    #[default]
    #[serde(rename = "told")]
    Told,
    /// It does.
    #[serde(rename = "yes")]
    Present,
    /// It does not: columns are called 1, 2, …
    #[serde(rename = "no")]
    Absent,
}

impl Heading {
    /// Whether nothing is said of it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        *self == Self::Told
    }
}

impl std::str::FromStr for Heading {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        match word {
            "yes" => Ok(Self::Present),
            "no" => Ok(Self::Absent),
            _ => Err(format!(
                "`{word}` does not say whether there is a heading: yes or no"
            )),
        }
    }
}

/// What [`Vectors::open`] reads, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorOptions {
    /// What is read beside the vectors.
    pub answers: Answers,
    /// The classes in the order of the labels; by default numbers, or the different texts of a CSV's column, sorted.
    pub classes: Option<Vec<String>>,
    /// CSV: columns that are no part of the vectors, such as identifiers.
    pub without: Vec<String>,
    /// CSV: whether the first row names the columns.
    pub heading: Heading,
    /// Which part of an `.npz` of several.
    pub split: Option<Split>,
    /// At most so many vectors, evenly spaced over the set.
    pub limit: Option<usize>,
    /// The input of the network that takes the vectors, where that is no vector: arrays of more axes than two are of its shape.
    pub shape: Option<Shape>,
    /// Most bytes of values to hold, eight each, and that a file may take unpacked.
    pub memory_limit: u64,
}

impl Default for VectorOptions {
    fn default() -> Self {
        Self {
            answers: Answers::None,
            classes: None,
            without: Vec::new(),
            heading: Heading::Told,
            split: None,
            limit: None,
            shape: None,
            memory_limit: 4 << 30,
        }
    }
}

/// What stands beside the vectors of a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// A class each.
    Classes {
        /// The classes' names.
        names: Arc<[String]>,
        /// A place in that list for each vector.
        labels: Arc<[usize]>,
    },
    /// Numbers each.
    Numbers {
        /// How many a vector has.
        width: usize,
        /// `(N, width)`.
        values: Arc<[f64]>,
    },
}

/// Vectors of one width with what is known of them. Clones and subsets share the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    columns: Arc<[String]>,
    width: usize,
    values: Arc<[f64]>,
    known: Known,
    /// Whether a table's first line was taken for a row, which nobody said.
    headless: bool,
    /// Which vectors of `values`.
    items: Arc<[usize]>,
}

impl Vectors {
    /// Reads a set of vectors: a CSV file (separated by commas, semicolons or tabs, gzipped or not), `.npy` or `.npz`, told by content.
    ///
    /// # Errors
    /// [`Error::Content`] with row and column for what is missing or no finite number, for a name that nothing has, a label without class;
    /// [`Error::Content`], [`Error::Split`], [`Error::Io`].
    pub fn open(path: &Path, options: &VectorOptions) -> Result<Self> {
        if options.limit == Some(0) {
            return Err(Error::option("limit: 0 vectors; leave it out to read all"));
        }
        let bytes = read_all(unpacked(path)?, options.memory_limit, path, "vector")?;
        let npz = bytes.starts_with(b"PK");
        if !npz && options.split.is_some() {
            of_split(path, options.split, vec![(None, ())])?;
        }
        let set = if npz {
            options.npz(path, &bytes)?
        } else if bytes.starts_with(npy::MARK) {
            options.npy(path, bytes)?
        } else {
            options.csv(path, &bytes)?
        };
        Ok(match options.limit {
            Some(most) if most < set.len() => set.subset(&spread(set.len(), most))?,
            _ => set,
        })
    }

    /// Vectors `(N, width)` that are at hand.
    ///
    /// # Errors
    /// [`Error::Option`] where the counts don't fit, a value is not finite or a label no class.
    pub fn new(width: usize, values: Vec<f64>, known: Known) -> Result<Self> {
        let count = values.len() / width.max(1);
        let fits = match &known {
            Known::Nothing => true,
            Known::Classes { names, labels } => {
                labels.len() == count && labels.iter().all(|&l| l < names.len())
            }
            Known::Numbers { width, values } => {
                *width > 0 && values.len() == count * width && values.iter().all(|v| v.is_finite())
            }
        };
        if !fits
            || count == 0
            || values.len() != count * width
            || values.iter().any(|v| !v.is_finite())
        {
            return Err(Error::option(format!(
                "{} values for vectors of {width} components: give whole vectors of finite numbers, and as many labels (each a class) or numbers to predict",
                values.len()
            )));
        }
        Ok(Self {
            columns: Arc::new([]),
            width,
            values: values.into(),
            known,
            headless: false,
            items: (0..count).collect(),
        })
    }

    /// Number of vectors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether a subset of none was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Components of a vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The components' names, or none where the file has none.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether the first line of a table was taken for a row because all of its fields are numbers.
    #[must_use]
    pub fn headless(&self) -> bool {
        self.headless
    }

    /// What is known of the vectors; rows by the numbers of the whole set, so use [`Self::label`] and [`Self::target`] for single ones.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The classes' names; none where there are no classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        match &self.known {
            Known::Classes { names, .. } => names,
            _ => &[],
        }
    }

    /// The class of vector `i`, where classes are known.
    ///
    /// # Panics
    /// Unless `i < len()`.
    #[must_use]
    pub fn label(&self, i: usize) -> Option<usize> {
        match &self.known {
            Known::Classes { labels, .. } => Some(labels[self.items[i]]),
            _ => None,
        }
    }

    /// What is to be predicted of vector `i`; empty where no numbers are known.
    ///
    /// # Panics
    /// Unless `i < len()`.
    #[must_use]
    pub fn target(&self, i: usize) -> &[f64] {
        match &self.known {
            Known::Numbers { width, values } => &values[self.items[i] * width..][..*width],
            _ => &[],
        }
    }

    /// Vector `i`.
    ///
    /// # Panics
    /// Unless `i < len()`.
    #[must_use]
    pub fn values(&self, i: usize) -> &[f64] {
        &self.values[self.items[i] * self.width..][..self.width]
    }

    /// Vector `i` as a network's input: `(v[c] − mean[c])/deviation[c]`, as it is without a normalisation.
    ///
    /// # Errors
    /// [`Error::Index`]; [`Error::Option`] for a normalisation of another number of components.
    pub fn tensor(&self, i: usize, normalization: Option<&Normalization>) -> Result<Tensor> {
        let (index, count) = (i, self.len());
        if i >= count {
            return Err(Error::Index { index, count });
        }
        let remedy = "give one mean and deviation for each component";
        let input = task::vectors::normalized(self.values(i), normalization);
        input.map_err(|e| Error::option(format!("{e}; {remedy}")))
    }

    /// Mean and deviation of every component: what inputs are normalised with. A component that is the same everywhere has deviation 1.
    #[must_use]
    pub fn statistics(&self) -> Normalization {
        self.channel_statistics(self.width)
    }

    /// As [`Self::statistics`], one for each of so many channels: equal parts of a vector, one behind the other.
    #[must_use]
    pub fn channel_statistics(&self, channels: usize) -> Normalization {
        let each = self.width / channels.max(1);
        let n = (self.len() * each).max(1) as f64;
        let sum = |c: usize, f: &dyn Fn(f64) -> f64| -> f64 {
            let part = |i| &self.values(i)[c * each..][..each];
            let parts = (0..self.len()).flat_map(part);
            parts.map(|&v| f(v)).sum::<f64>() / n
        };
        let mean: Vec<f64> = (0..channels).map(|c| sum(c, &|v| v)).collect();
        let deviation = mean.iter().enumerate().map(|(c, m)| {
            let d = sum(c, &|v| (v - m).powi(2)).sqrt();
            let varies = d > 1e-12 * m.abs().max(1e-300);
            if varies { d } else { 1.0 }
        });
        let deviation = deviation.collect();
        Normalization::new(mean, deviation)
    }

    /// The vectors with these numbers, in this order; one may come twice.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        let count = self.len();
        let item = |&index: &usize| {
            let item = self.items.get(index).copied();
            item.ok_or(Error::Index { index, count })
        };
        Ok(Self {
            items: indices.iter().map(item).collect::<Result<_>>()?,
            ..self.clone()
        })
    }

    /// The vectors with their components in the order of `columns`, found by name. As they are where one of both has no names: where the file
    /// had none, and where `columns` are places alone (0, 1, …; 1, 2, …; component 0, component 1, …).
    ///
    /// # Errors
    /// [`Error::Columns`] for names that one has and the other not; [`Error::Option`] for one that comes twice in another order.
    pub fn ordered(self, columns: &[String]) -> Result<Self> {
        let place = |(i, n): (usize, &String)| {
            [i.to_string(), (i + 1).to_string(), format!("component {i}")].contains(n)
        };
        let places = columns.iter().enumerate().all(place);
        if self.columns.is_empty() || places || *self.columns == *columns {
            return Ok(self);
        }
        let lacks = |of: &[String], there: &[String]| -> Vec<String> {
            let there: HashSet<&String> = there.iter().collect();
            of.iter().filter(|n| !there.contains(n)).cloned().collect()
        };
        let missing = lacks(columns, &self.columns);
        let unknown = lacks(&self.columns, columns);
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(Error::Columns { missing, unknown });
        }
        let by_name: HashMap<&String, usize> = self.columns.iter().zip(0..).collect();
        if let Some((twice, _)) = (self.columns.iter().zip(0..)).find(|(n, i)| by_name[n] != *i) {
            let detail = format!("column {twice:?} comes twice; name each column once");
            return Err(Error::option(detail));
        }
        let order: Vec<usize> = columns.iter().map(|n| by_name[n]).collect();
        let rows = self.values.chunks_exact(self.width);
        let values = rows.flat_map(|row| order.iter().map(|&c| row[c])).collect();
        Ok(Self {
            columns: columns.into(),
            width: order.len(),
            values,
            ..self
        })
    }

    /// The vectors to train on and `held_out` of them, spread over the set, to make choices on.
    ///
    /// # Errors
    /// [`Error::Option`] where one of both would be empty.
    pub fn split(&self, held_out: usize) -> Result<(Self, Self)> {
        check_held_out("vectors", held_out, self.len())?;
        let chosen = spread(self.len(), held_out);
        let others: Vec<usize> = (0..self.len())
            .filter(|i| chosen.binary_search(i).is_err())
            .collect();
        Ok((self.subset(&others)?, self.subset(&chosen)?))
    }
}

impl VectorOptions {
    /// A set as its file has it.
    fn set(
        &self,
        path: &Path,
        columns: Vec<String>,
        rows: (Vec<f64>, usize),
        known: Known,
    ) -> Result<Vectors> {
        let (values, width) = rows;
        if values.is_empty() {
            let detail = "there is no vector in it; choose another file or split";
            return Err(Error::content(path, detail));
        }
        if width > WIDEST {
            let detail = format!("vectors of {width} components; at most {WIDEST} are read");
            return Err(Error::content(path, detail));
        }
        let set = Vectors::new(width, values, known)?;
        Ok(Vectors {
            columns: columns.into(),
            ..set
        })
    }

    /// Refuses values that would take more than the limit.
    fn fits(&self, path: &Path, values: usize) -> Result<()> {
        if (values as u64).saturating_mul(8) <= self.memory_limit {
            return Ok(());
        }
        Err(Error::too_large(
            path,
            format!("a set of {values} values, eight bytes each,"),
            self.memory_limit,
            "split it, or take a part of it",
        ))
    }

    /// Classes by number, with the names that were given.
    fn classes(&self, path: &Path, labels: Vec<u16>) -> Result<Known> {
        let names = self.classes.clone();
        let names = names.unwrap_or_else(|| numbers(classes_of(&labels)));
        let labels: Vec<usize> = labels.into_iter().map(usize::from).collect();
        check_labels(path, labels.iter().copied(), names.len())?;
        Ok(Known::Classes {
            names: names.into(),
            labels: labels.into(),
        })
    }

    /// The vectors of an array; the answers are read by `answer` from an array with the name that was asked for.
    fn arrays(
        &self,
        place: Place<'_>,
        inputs: &Array,
        mut answer: impl FnMut(&str) -> Result<(String, Array)>,
        usual: Option<&str>,
    ) -> Result<Vectors> {
        let path = place.path;
        self.fits(path, inputs.dims.iter().product())?;
        if let Some(shape) = self.shape {
            inputs.check_shape(place, shape)?;
        }
        let rows = inputs.rows(place, OneAxis::Row)?;
        let count = rows.0.len() / rows.1;
        let same = |place: Place<'_>, had: usize| {
            if had == count {
                return Ok(());
            }
            Err(place.malformed(format_args!(
                "has {had} rows for {count} vectors; save as many of both"
            )))
        };
        let known = match &self.answers {
            Answers::None => Known::Nothing,
            Answers::Classes(name) => {
                let name = name.as_deref().or(usual).ok_or_else(|| {
                    let detail = "there is no labels; there are: vectors alone; name the array or file with the labels";
                    Error::content(path, detail)
                })?;
                let (name, array) = answer(name)?;
                let labels = array.labels(place.of(&name))?;
                same(place.of(&name), labels.len())?;
                self.classes(path, labels)?
            }
            Answers::Numbers(names) => {
                let mut columns = Vec::new();
                for name in names {
                    let (name, array) = answer(name)?;
                    let place = place.of(&name);
                    self.fits(path, array.dims.iter().product())?;
                    let (values, width) = array.rows(place, OneAxis::Column)?;
                    same(place, values.len() / width)?;
                    columns.push((values, width));
                }
                let width = columns.iter().map(|(_, w)| w).sum();
                let row = |i| columns.iter().flat_map(move |(v, w)| &v[i * w..][..*w]);
                Known::Numbers {
                    width,
                    values: (0..count).flat_map(row).copied().collect(),
                }
            }
        };
        self.set(path, Vec::new(), rows, known)
    }

    fn npy(&self, path: &Path, bytes: Vec<u8>) -> Result<Vectors> {
        let place = Place {
            path,
            format: ".npy",
            name: "it",
        };
        let inputs = Array::read(bytes, place)?;
        let answer = |file: &str| {
            let path = Path::new(file);
            let bytes = read_all(unpacked(path)?, self.memory_limit, path, ".npy")?;
            let array = Array::read(bytes, Place { path, ..place })?;
            Ok((file.to_owned(), array))
        };
        self.arrays(place, &inputs, answer, None)
    }

    fn npz(&self, path: &Path, bytes: &[u8]) -> Result<Vectors> {
        let entries = npz::Entries::read(path, bytes)?;
        let there = entries.names();
        // NAME, train_NAME, NAME_train
        let named = |bases: &[&str]| {
            let mut found: Vec<(Option<Split>, String)> = Vec::new();
            for base in bases {
                found.push((None, (*base).to_owned()));
                for (split, n) in Split::spelled() {
                    found.push((Some(split), format!("{n}_{base}")));
                    found.push((Some(split), format!("{base}_{n}")));
                }
            }
            found.retain(|(_, n)| there.contains(n));
            found
        };
        let column = |wanted: &str| Error::column(path, wanted, &there);
        let mut inputs = named(&INPUTS);
        if let ([], [only]) = (&inputs[..], &there[..]) {
            inputs.push((None, only.clone()));
        }
        if inputs.is_empty() {
            return Err(column("vectors (an array x, inputs, features or data)"));
        }
        let parts = inputs.iter().map(|(s, n)| (*s, (*s, n)));
        let chosen = of_split(path, self.split, parts.collect())?;
        let [(split, inputs)] = chosen[..] else {
            return Err(Error::option(format!(
                "{}: several arrays of vectors are in it ({}); save one for each split",
                path.display(),
                there.join(", ")
            )));
        };
        let mut usual = named(&ANSWERS).into_iter();
        let usual = usual.find(|(s, _)| *s == split).map(|(_, n)| n);
        let place = entries.place(inputs);
        let answer = |name: &str| {
            if !there.iter().any(|n| n == name) {
                return Err(column(name));
            }
            Ok((name.to_owned(), entries.array(name, self.memory_limit)?))
        };
        let array = entries.array(inputs, self.memory_limit)?;
        self.arrays(place, &array, answer, usual.as_deref())
    }

    fn csv(&self, path: &Path, bytes: &[u8]) -> Result<Vectors> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            Error::malformed(path, csv::FORMAT, format!("{e}; tables are read as UTF-8"))
        })?;
        if text.trim_end().contains('\r') && !text.contains('\n') {
            let detail = "its lines end with a carriage return alone, as old programs write them; save it with line feeds (tr '\\r' '\\n')";
            return Err(Error::malformed(path, csv::FORMAT, detail));
        }
        let mut rows = Rows::new(path, text);
        let empty = || Error::content(path, "there is no row in it");
        let first = rows.next()?.ok_or_else(empty)?;
        let text = |f: &Cow<'_, str>| {
            !csv::is_missing(f) && f.trim().parse::<f64>().is_err() && csv::pointed(f).is_none()
        };
        let told = first.1.iter().any(text);
        if self.heading.is_told()
            && !told
            && let Some((from, to)) = counted(&first.1)
        {
            return Err(Error::Heading {
                path: path.to_owned(),
                line: first.0,
                from,
                to,
            });
        }
        let (heading, mut next) = match (self.heading, told) {
            (Heading::Present, _) | (Heading::Told, true) => (true, rows.next()?),
            _ => (false, Some(first.clone())),
        };
        if next.is_none() {
            let detail =
                "there is no row below its heading; choose another file, or say that it has none";
            return Err(Error::content(path, detail));
        }
        let names: Vec<String> = match heading {
            true => first.1.iter().map(|f| f.to_string()).collect(),
            false => (1..=first.1.len()).map(|i| i.to_string()).collect(),
        };
        let find = |wanted: &str| {
            let place = names.iter().position(|n| n == wanted);
            place.ok_or_else(|| Error::column(path, wanted, &names))
        };
        let usual = |n: &&String| ANSWERS.iter().any(|a| n.eq_ignore_ascii_case(a));
        let answers: Vec<usize> = match &self.answers {
            Answers::None => Vec::new(),
            Answers::Classes(Some(name)) => vec![find(name)?],
            Answers::Classes(None) => {
                vec![find(names.iter().find(usual).map_or("label", |n| n))?]
            }
            Answers::Numbers(all) => all.iter().map(|n| find(n)).collect::<Result<_>>()?,
        };
        let left_out = self.without.iter().map(|n| find(n));
        let left_out = left_out.collect::<Result<Vec<_>>>()?;
        let inputs: Vec<usize> = (0..names.len())
            .filter(|i| !answers.contains(i) && !left_out.contains(i))
            .collect();
        if inputs.is_empty() {
            return Err(Error::option(format!(
                "{}: no column is left for the vectors",
                path.display()
            )));
        }
        let (mut values, mut targets, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        // each text once, in the order of appearance
        let mut texts: HashMap<String, usize> = HashMap::new();
        while let Some((line, fields)) = next {
            let cell = |c: usize, detail: String| {
                let name = match heading {
                    true => format!(" ({:?})", names[c]),
                    false => String::new(),
                };
                Error::cell(path, "line", (line, c + 1), format!("{name} {detail}"))
            };
            let number = |&c: &usize| {
                csv::number(&fields[c]).map_err(|why| match why {
                    Unusable::Value(detail) => cell(c, detail),
                    Unusable::Word(detail) => cell(c, detail).of_words(),
                })
            };
            for c in &inputs {
                values.push(number(c)?);
            }
            match self.answers {
                Answers::None => {}
                Answers::Classes(_) => {
                    let (c, text) = (answers[0], fields[answers[0]].trim());
                    if text.is_empty() {
                        let detail = "has no label; fill it in, or leave its row out";
                        return Err(cell(c, detail.into()));
                    }
                    let next = texts.len();
                    if next > MOST_CLASSES {
                        let detail = format!(
                            "is label number {next}, {MOST_CLASSES} at most may differ; are these numbers to predict?"
                        );
                        return Err(cell(c, detail));
                    }
                    labels.push(match texts.get(text) {
                        Some(&known) => known,
                        None => *texts.entry(text.to_owned()).or_insert(next),
                    });
                }
                Answers::Numbers(_) => {
                    for c in &answers {
                        targets.push(number(c)?);
                    }
                }
            }
            self.fits(path, values.len() + targets.len() + labels.len())?;
            next = rows.next()?;
        }
        let known = match self.answers {
            Answers::None => Known::Nothing,
            Answers::Classes(_) => self.named(path, texts, labels)?,
            Answers::Numbers(_) => Known::Numbers {
                width: answers.len(),
                values: targets.into(),
            },
        };
        let columns = match heading {
            true => inputs.iter().map(|&i| names[i].clone()).collect(),
            false => Vec::new(),
        };
        let set = self.set(path, columns, (values, inputs.len()), known)?;
        Ok(Vectors {
            headless: self.heading.is_told() && !heading,
            ..set
        })
    }

    /// Classes by the texts of a column: numbers, or names. `texts` has a number for each, `labels` these numbers row by row.
    fn named(
        &self,
        path: &Path,
        texts: HashMap<String, usize>,
        mut labels: Vec<usize>,
    ) -> Result<Known> {
        let numbered = texts.keys().all(|t| t.parse::<u16>().is_ok());
        let names = match &self.classes {
            Some(names) => names.clone(),
            None if numbered => {
                let most = texts.keys().filter_map(|t| t.parse::<usize>().ok()).max();
                numbers(most.map_or(0, |m| m + 1))
            }
            None => {
                let mut all: Vec<String> = texts.keys().cloned().collect();
                all.sort();
                all
            }
        };
        let places: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
        // a text is a class's name, or its number where all are numbers
        let by_name = texts.keys().all(|t| places.contains_key(t.as_str()));
        let mut classes = vec![None; texts.len()];
        for (text, i) in &texts {
            classes[*i] = match by_name || !numbered {
                true => places.get(text.as_str()).copied(),
                false => text.parse().ok().filter(|&l| l < names.len()),
            };
        }
        for (index, label) in labels.iter_mut().enumerate() {
            let Some(class) = classes[*label] else {
                let text = texts.iter().find(|(_, i)| *i == label);
                let text = text.map_or("", |(t, _)| t);
                return Err(Error::label(path, index, text, names.len()));
            };
            *label = class;
        }
        Ok(Known::Classes {
            names: names.into(),
            labels: labels.into(),
        })
    }
}

/// From where to where the fields of a line count, from 0 or 1: as a table does whose columns have no names. A first field that is empty stands
/// above the numbers of the rows.
fn counted(fields: &[Cow<'_, str>]) -> Option<(usize, usize)> {
    let fields = match fields {
        [first, rest @ ..] if first.trim().is_empty() => rest,
        all => all,
    };
    let counts = |from: usize| {
        let is = |(i, f): (usize, &Cow<'_, str>)| f.trim().parse::<f64>() == Ok((from + i) as f64);
        fields.iter().enumerate().all(is)
    };
    let last = fields.len().checked_sub(1)?;
    let from = (0..2).find(|&from| counts(from))?;
    Some((from, from + last))
}
