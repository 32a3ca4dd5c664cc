//! Inputs of every task, from files or at hand: pictures, rows of numbers, sentences, prompts, tensors.

use crate::error::{Error, Help, Result, named};
use crate::memory;
use crate::progress::{Listener, Say};
use data::{Answers, Dataset, Heading, Labels, Sentences, Split, VectorOptions, Vectors};
use nn::{Shape, Tensor};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use task::tokenizer::Long;
use task::{Outputs, Picture, Task};

/// The lengths of a network's input as whoever exported it has them: a signal's are two.
pub(crate) fn lengths(shape: Shape) -> String {
    match shape.as_image() {
        Some((channels, 1, length)) => format!("({channels}, {length})"),
        _ => shape.to_string(),
    }
}

/// Inputs that are at hand, with what is known of each.
#[derive(Clone, Debug)]
pub enum Given {
    /// Tensors of this shape as the network takes them, normalised: the values of each are a vector.
    Tensors(Shape, Vectors),
    /// Rows of numbers, as they are before normalisation.
    Rows(Vectors),
    /// Labelled pictures.
    Pictures(Dataset),
    /// Labelled sentences.
    Sentences(Sentences),
    /// Prompts, or the texts that a language model is calibrated on.
    Texts(Vec<String>),
    /// Text as one stream of tokens, that a language model is calibrated on.
    Tokens(Vec<u32>),
}

/// Where inputs are, and how they are read.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Pictures (PNG, JPEG) and folders of them, or a set of labelled pictures; rows as CSV, `.npy` or `.npz`; labelled sentences, or prompts,
    /// one a line. Of inputs at hand, what messages call them.
    pub path: PathBuf,
    /// Inputs at hand: nothing is read then, and all of them are taken.
    pub given: Option<Given>,
    /// One picture is meant, no set, whatever its name ends with.
    pub picture: bool,
    /// Which part of a set that has several.
    pub split: Option<Split>,
    /// At most so many, taken evenly.
    pub limit: Option<usize>,
    /// What stands beside rows.
    pub answers: Answers,
    /// Columns that are no part of rows.
    pub without: Vec<String>,
    /// Whether a table's first line names its columns.
    pub heading: Heading,
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

    /// Inputs at hand; messages call them so.
    pub fn given(name: &str, inputs: Given) -> Self {
        Self {
            given: Some(inputs),
            ..Self::of(name)
        }
    }

    /// Whether the other one is read from the same file in the same way; of inputs at hand nobody says so.
    pub(crate) fn reads_as(&self, other: &Self) -> bool {
        let how = |s: &Self| (s.picture, s.split, s.limit, s.cut, s.scale);
        self.given.is_none()
            && other.given.is_none()
            && self.path == other.path
            && how(self) == how(other)
            && self.answers == other.answers
            && self.without == other.without
            && self.heading == other.heading
    }

    /// The columns or arrays of answers that are said.
    fn answer_names(&self) -> &[String] {
        match &self.answers {
            Answers::Classes(name) => name.as_slice(),
            Answers::Numbers(names) => names,
            Answers::None => &[],
        }
    }

    /// All files that are read: an array's answers are arrays of their own.
    pub fn files(&self) -> Vec<&Path> {
        let named = self.answer_names().iter().map(Path::new);
        let beside = named.filter(|name| name.is_file());
        std::iter::once(&*self.path).chain(beside).collect()
    }

    /// Whether these are numbers that such a network takes as they are: tables and arrays, and of `.npz` all that can be no picture.
    pub(crate) fn is_rows(&self, input: Shape) -> bool {
        match (&self.given, input) {
            (Some(Given::Rows(_)), _) | (None, Shape::Vector(_)) => true,
            (Some(_), Shape::Vector(_)) => !matches!(self.given, Some(Given::Tensors(..))),
            (Some(_), _) => false,
            (
                None,
                Shape::Image {
                    channels, height, ..
                },
            ) => {
                let picture = height > 1 && matches!(channels, 1 | 3);
                data::is_table(&self.path) || !picture && data::is_npz(&self.path)
            }
        }
    }

    /// The rows, for a network of this input; where a task names its columns, in that order.
    ///
    /// # Errors
    /// What is missing or no number, by row and column; columns of other names.
    pub(crate) fn rows(&self, task: Option<&Task>, input: Shape) -> Result<Vectors> {
        let any = VectorOptions::default();
        let options = VectorOptions {
            memory_limit: memory::data_limit(any.memory_limit),
            shape: input.as_image().map(|_| input),
            answers: self.answers.clone(),
            without: self.without.clone(),
            heading: self.heading,
            split: self.split,
            limit: self.limit,
            ..any
        };
        let rows = match &self.given {
            Some(Given::Rows(rows)) => rows.clone(),
            None if pictures(&self.path)?.is_empty() => Vectors::open(&self.path, &options)?,
            _ => {
                let what = "the network takes rows of numbers, these are pictures";
                return Err(named(&self.path)(what));
            }
        };
        Ok(match task {
            Some(Task::Vectors(t)) => rows.ordered(t.columns()).map_err(named(&self.path))?,
            _ => rows,
        })
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
    /// The network's class for each of the data's, where they are matched by name.
    classes: Option<Vec<usize>>,
    /// Which of the network's labels hold, input by input, where the data say it.
    holding: Option<Vec<bool>>,
}

enum Items {
    Pictures(Vec<PathBuf>),
    Set(Dataset),
    Rows(Vectors),
    Tensors(Shape, Vectors),
    Sentences(Sentences),
    Prompts(Vec<String>),
}

/// An input for a network.
pub(crate) struct Encoded {
    pub(crate) tensor: Tensor,
    /// Tokens of a text, and whether it was cut.
    pub(crate) tokens: Option<(Vec<u32>, bool)>,
    /// Whether a picture is partly transparent, which is ignored.
    pub(crate) transparent: bool,
    /// Whether it has colours that the network does not take.
    pub(crate) greyed: bool,
    /// Bytes of the process while a picture was decoded, as they were counted before.
    pub(crate) memory: u64,
}

impl Encoded {
    fn lost(&self) -> [usize; 2] {
        [self.transparent, self.greyed].map(usize::from)
    }
}

impl From<Tensor> for Encoded {
    fn from(tensor: Tensor) -> Self {
        Self {
            tensor,
            tokens: None,
            transparent: false,
            greyed: false,
            memory: 0,
        }
    }
}

impl<'a> Inputs<'a> {
    pub(crate) fn open(task: &'a Task, source: &'a Source) -> Result<Self> {
        Self::with(task, source, Labels::Optional)
    }

    fn with(task: &'a Task, source: &'a Source, labels: Labels) -> Result<Self> {
        if source.picture && source.path.is_dir() {
            let what = "it is a folder, and one picture is meant: name a PNG or JPEG file in it, or take the folder for a set and say which of it";
            return Err(named(&source.path)(what));
        }
        let items = match (task, &source.given) {
            (_, Some(Given::Tensors(shape, all))) => Items::Tensors(*shape, all.clone()),
            (Task::Vectors(t), _) => Items::Rows(source.rows(Some(task), t.shape())?),
            (Task::Pictures(_), Some(Given::Pictures(set))) => Items::Set(set.clone()),
            (Task::Prompts(_), Some(Given::Texts(texts))) => Items::Prompts(texts.clone()),
            (Task::Sentences(t), given @ (None | Some(Given::Sentences(_)))) => {
                let classes = Some(t.outputs().names().len().max(2));
                Items::Sentences(match given {
                    Some(Given::Sentences(set)) => Sentences::new(set.lines().to_vec(), classes)
                        .map_err(named(&source.path))?,
                    _ => Sentences::open(&source.path, classes)?,
                })
            }
            (_, Some(_)) => {
                let what = format!("the network takes {}, these are others", task.kind());
                return Err(named(&source.path)(what));
            }
            (Task::Prompts(_), None) => Items::Prompts(lines(&text(&source.path)?)),
            (Task::Pictures(_), None) if source.picture => {
                Items::Pictures(vec![source.path.clone()])
            }
            (_, None) => match pictures(&source.path)? {
                files if files.is_empty() => Items::Set(set(task, source, labels)?),
                files => Items::Pictures(files),
            },
        };
        let columns = [source.answer_names(), &source.without].concat();
        if !columns.is_empty() && !matches!(items, Items::Rows(_) | Items::Tensors(..)) {
            let what = format!(
                "the network takes {}, which have no columns: leave out {}",
                task.kind(),
                listed(&columns)
            );
            return Err(named(&source.path)(what));
        }
        Ok(Self {
            task,
            source,
            items,
            classes: None,
            holding: None,
        })
    }

    /// As [`Inputs::open`], where classes count: those that data have as names (folders, texts of a column) are matched with the network's by
    /// name, and are in order of the alphabet only where it has none. `outputs` is how many classes, or labels, it then must have, if that
    /// matters.
    pub(crate) fn labelled(
        task: &'a Task,
        source: &'a Source,
        outputs: Option<usize>,
    ) -> Result<Self> {
        let several = task.outputs().and_then(Outputs::least).is_some();
        let labels = match outputs {
            Some(_) if several => Labels::Several,
            Some(_) => Labels::Needed,
            None => Labels::Optional,
        };
        let mut inputs = Self::with(task, source, labels)?;
        if let Some(outputs) = outputs {
            inputs.holding = inputs.holding_of(outputs)?;
            if inputs.holding.is_some() {
                return Ok(inputs);
            }
        }
        let fixed = match &inputs.items {
            Items::Set(set) => !set.by_name(),
            _ => numbered(inputs.names()),
        };
        if let (true, Some(own)) = (fixed, task.outputs()) {
            inputs.classes = inputs.numbers_as_names(own);
        }
        let (names, own) = match task.outputs() {
            // one output is yes or no of one of two
            Some(o) if !fixed && !matches!(o, Outputs::Values(_)) => (inputs.names(), o.names()),
            _ => return Ok(inputs),
        };
        let refuse = |what: String| {
            let detail = format!("the data's classes are {}, {what}", listed(names));
            Err(named(&source.path)(detail))
        };
        match own {
            [] => match outputs {
                Some(n)
                    if n != names.len()
                        && !numbered(names)
                        && task.outputs().is_some_and(|o| o.classes().is_some()) =>
                {
                    refuse(format!(
                        "the network has {n} without names: calibrate it with its classes' names, in order of its outputs"
                    ))
                }
                _ => Ok(inputs),
            },
            [_] => Ok(inputs),
            own => {
                let place = |name: &String| {
                    let mut all = (0..own.len()).filter(|&i| own[i] == *name);
                    all.next().filter(|_| all.next().is_none())
                };
                let number = |name: &String| name.parse().ok().filter(|&i| i < own.len());
                let by_name: Option<Vec<usize>> = names.iter().map(place).collect();
                inputs.classes = match by_name.or_else(|| names.iter().map(number).collect()) {
                    None => {
                        return refuse(format!(
                            "the network's {}; name both alike, or leave out what are no classes",
                            listed(own)
                        ));
                    }
                    classes => classes,
                };
                Ok(inputs)
            }
        }
    }

    /// The network's class for each of the data's, where these are numbers and all that occur are names of the network's, which do not count from 0.
    fn numbers_as_names(&self, own: &Outputs) -> Option<Vec<usize>> {
        let names = own.names();
        if names.len() < 2 || numbered(names) || matches!(own, Outputs::Values(_)) {
            return None;
        }
        let place = |class: usize| {
            let name = self.names().get(class)?;
            let mut all = (0..names.len()).filter(|&i| names[i] == *name);
            all.next().filter(|_| all.next().is_none())
        };
        let occur = (0..self.len()).map(|i| self.class(i));
        let occur: BTreeSet<usize> = occur.collect::<Option<_>>()?;
        if occur.last().is_none_or(|&most| most >= self.names().len()) {
            // data without names of classes
            return None;
        }
        // what does not occur is never looked up
        let places = (0..self.names().len()).map(|class| match occur.contains(&class) {
            true => place(class),
            false => Some(class),
        });
        places.collect()
    }

    /// Whether the data's classes were matched with the network's by name.
    #[cfg(feature = "train")]
    pub(crate) fn matched(&self) -> bool {
        self.classes.is_some()
    }

    /// Which labels hold, input by input, of a network that gives so many, where the data say it.
    fn holding_of(&self, outputs: usize) -> Result<Option<Vec<bool>>> {
        let Some(said) = self.task.outputs().filter(|o| o.least().is_some()) else {
            return Ok(None);
        };
        let (noun, count) = (self.noun(), self.len());
        if count == 0 {
            return Ok(None);
        }
        let refuse = |e: Error| Err(named(&self.source.path)(e));
        if self.class(0).is_some() {
            let names = self.names();
            return match (outputs, said) {
                (1, _) if numbered(names) && names.len() < 3 => {
                    Ok(Some((0..count).map(|i| self.class(i) == Some(1)).collect()))
                }
                (1, _) => refuse(
                    format!(
                        "the network gives one label, which holds or does not, and the data's classes are {}; write 1 where it holds, and 0 where it does not",
                        listed(names)
                    )
                    .into(),
                ),
                (_, Outputs::Labels(_)) => {
                    let what = format!(
                        "the network gives {outputs} labels, each of which holds or does not, and the data have one class for each {noun}"
                    );
                    refuse(match self.items {
                        Items::Set(_) => format!("{what}; pictures with several labels each are an .npz with an array (N, {outputs}) of 0 and 1 as labels").into(),
                        _ => Error::refused(what, Help::NameLabels),
                    })
                }
                // scores of classes, of a network that ends in a sigmoid
                _ => Ok(None),
            };
        }
        let of = |i: usize| match &self.items {
            Items::Set(set) => set.holding(i).iter().map(|&b| f64::from(b)).collect(),
            _ => self.target(i).to_vec(),
        };
        let width = of(0).len();
        if width == 0 {
            return Ok(None);
        }
        if width != outputs {
            let what = format!(
                "the data have {width} labels for each {noun}, the network gives {outputs}; bring as many, in order of its outputs"
            );
            return refuse(what.into());
        }
        let order = self.label_order(said.names(), width)?;
        let mut holding = Vec::new();
        for i in 0..count {
            let row = of(i);
            for (label, &at) in order.iter().enumerate() {
                let v = row[at];
                if v != 0.0 && v != 1.0 {
                    let what = format!(
                        "{noun} {i}: {} is {v}; the network's outputs are labels, each of which holds, 1, or does not, 0",
                        said.name(label)
                    );
                    return refuse(what.into());
                }
                holding.push(v == 1.0);
            }
        }
        Ok(Some(holding))
    }

    /// Where in the data each of the network's labels stands: by name where columns have names, in order elsewhere.
    fn label_order(&self, own: &[String], width: usize) -> Result<Vec<usize>> {
        let columns = match (&self.items, &self.source.answers) {
            (Items::Rows(rows), Answers::Numbers(names))
                if !rows.columns().is_empty() && !own.is_empty() =>
            {
                names
            }
            _ => return Ok((0..width).collect()),
        };
        let place = |name: &String| columns.iter().position(|c| c == name);
        let order: Option<Vec<usize>> = own.iter().map(place).collect();
        order.ok_or_else(|| {
            let what = format!(
                "the columns of labels are {}, the network's labels {}; name both alike",
                listed(columns),
                listed(own)
            );
            named(&self.source.path)(what)
        })
    }

    /// The classes' names in the data; none where there are no classes.
    pub(crate) fn names(&self) -> &[String] {
        match &self.items {
            Items::Set(set) => set.classes(),
            Items::Rows(rows) | Items::Tensors(_, rows) => rows.classes(),
            _ => &[],
        }
    }

    /// What the network's outputs mean.
    #[cfg(feature = "train")]
    pub(crate) fn outputs(&self) -> Option<&Outputs> {
        self.task.outputs()
    }

    /// What one is called.
    pub(crate) fn noun(&self) -> &'static str {
        match self.items {
            Items::Pictures(_) | Items::Set(_) => "picture",
            Items::Rows(_) => "row",
            Items::Tensors(..) => "input",
            Items::Sentences(_) => "sentence",
            Items::Prompts(_) => "prompt",
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.items {
            Items::Pictures(files) => files.len(),
            Items::Set(set) => set.len(),
            Items::Rows(rows) | Items::Tensors(_, rows) => rows.len(),
            Items::Sentences(set) => set.len(),
            Items::Prompts(lines) => lines.len(),
        }
    }

    /// Its class, where inputs are labelled.
    pub(crate) fn class(&self, i: usize) -> Option<usize> {
        let class = match &self.items {
            Items::Set(set) => Some(set.label(i)).filter(|_| !set.classes().is_empty()),
            Items::Rows(rows) | Items::Tensors(_, rows) => rows.label(i),
            Items::Sentences(set) => Some(set.lines()[i].1),
            Items::Pictures(_) | Items::Prompts(_) => None,
        };
        class.map(|c| self.classes.as_ref().map_or(c, |all| all[c]))
    }

    /// Which of the network's labels hold of it, where it gives labels and the data say so.
    pub(crate) fn holding(&self, i: usize) -> Option<&[bool]> {
        let all = self.holding.as_ref()?;
        let width = all.len() / self.len();
        Some(&all[i * width..][..width])
    }

    /// The numbers to predict of it.
    pub(crate) fn target(&self, i: usize) -> &[f64] {
        match &self.items {
            Items::Rows(rows) | Items::Tensors(_, rows) => rows.target(i),
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
            return Err(format!(
                "there is no number {i}: the set has {}, counted from 0",
                self.len()
            )
            .into());
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
                let bytes = nn::format::read_limited(&files[i], task::picture::FILE_LIMIT)?;
                let memory = memory::picture(&files[i], &bytes)?;
                let picture = Picture::from_bytes(&bytes)?;
                return Ok(Encoded {
                    memory,
                    transparent: picture.transparent(),
                    greyed: channels(self.task) == Some(1) && picture.coloured(),
                    ..self.picture(&picture)?.into()
                });
            }
            (Items::Rows(rows), _) => self.task.encode(&task::Input::Row(rows.values(i)))?,
            (Items::Tensors(shape, all), _) => Tensor::new(*shape, all.values(i).to_vec())?,
            (Items::Sentences(_) | Items::Prompts(_), _) => {
                let text = self.text(i).unwrap_or_default();
                return encode_text(self.task, text, self.source.long());
            }
        };
        Ok(tensor.into())
    }

    /// Values and what is known of all inputs at hand, as bytes that tell them from others.
    pub(crate) fn content(&self) -> Result<Option<Vec<u8>>> {
        if self.source.given.is_none() {
            return Ok(None);
        }
        let mut out = Vec::new();
        for i in 0..self.len() {
            let input = self.encode(i)?.tensor.into_values();
            let class = self.class(i).map_or(-1.0, |c| c as f64);
            let all = input.iter().chain(self.target(i)).chain([&class]);
            all.for_each(|v| out.extend(v.to_le_bytes()));
            out.extend(self.holding(i).into_iter().flatten().map(|&b| u8::from(b)));
        }
        Ok(Some(out))
    }

    fn picture(&self, picture: &Picture) -> Result<Tensor> {
        encode_picture(self.task, picture, self.source.scale)
    }

    /// Says what was made of the pictures' numbers, and of how many transparency or colours are ignored: of these files, or of the set.
    pub(crate) fn warn(&self, files: [usize; 2], tell: Listener<'_>) {
        let set = match &self.items {
            Items::Set(set) => [set.transparent(), set.greyed()],
            _ => [0; 2],
        };
        if let Items::Set(set) = &self.items
            && let Some(how) = set.divided()
        {
            let path = self.source.path.display();
            tell.note(format_args!("{path}: the pictures are {how}"));
        }
        if let Items::Rows(rows) = &self.items
            && rows.headless()
        {
            let path = self.source.path.display();
            tell.note(format_args!(
                "{path}: no heading, all of its lines are rows"
            ));
        }
        for ((files, set), why) in files.into_iter().zip(set).zip(LOST) {
            if files + set > 0 {
                tell.note(format_args!(
                    "warning: {} pictures of {} are {why}",
                    files + set,
                    self.source.path.display()
                ));
            }
        }
    }

    /// At most so many as tensors, taken evenly.
    pub(crate) fn tensors(&self, limit: usize, tell: Listener<'_>) -> Result<Vec<Tensor>> {
        let (all, count) = (self.len(), limit.min(self.len()));
        let each = (0..count).into_par_iter();
        let each: Vec<Encoded> = each
            .map(|i| self.encode(i * all / count))
            .collect::<Result<_>>()?;
        let lost = each.iter().map(Encoded::lost);
        let lost = lost.fold([0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
        self.warn(lost, tell);
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
    One::open(task, source, tell)?.encode(index, tell)
}

/// A file or a set of which single inputs are taken.
pub(crate) struct One<'a>(Inputs<'a>);

impl<'a> One<'a> {
    pub(crate) fn open(task: &'a Task, source: &'a Source, tell: Listener<'_>) -> Result<Self> {
        let inputs = Inputs::open(task, source)?;
        inputs.warn([0; 2], tell);
        Ok(Self(inputs))
    }

    /// Whether this is what the source names, too.
    pub(crate) fn is(&self, source: &Source) -> bool {
        self.0.source.reads_as(source)
    }

    /// One as a network takes it, with what is known of it besides.
    pub(crate) fn encode(&self, index: usize, tell: Listener<'_>) -> Result<Encoded> {
        let encoded = self.0.encode(index)?;
        for (_, why) in encoded.lost().iter().zip(LOST).filter(|(n, _)| **n > 0) {
            let path = self.0.source.path.display();
            tell.note(format_args!("warning: {path} is {why}"));
        }
        Ok(encoded)
    }
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
        greyed: false,
        memory: 0,
    })
}

/// A text file.
pub(crate) fn text(path: &Path) -> Result<String> {
    let limit = nn::format::DEFAULT_LIMIT;
    let raw = nn::format::read_limited(path, limit).map_err(named(path))?;
    String::from_utf8(raw).map_err(|e| named(path)(e.to_string()))
}

/// Texts, one a line; empty lines are none.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    lines.map(String::from).collect()
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

/// What a network does not see of pictures.
pub(crate) const LOST: [&str; 2] = [
    "partly transparent; transparency is ignored",
    "in colour, for a network of grey ones; turned grey",
];

/// Channels of the pictures that a network takes, where files can have as many.
fn channels(task: &Task) -> Option<usize> {
    let Task::Pictures(t) = task else { return None };
    let (channels, _, _) = t.shape().as_image()?;
    matches!(channels, 1 | 3).then_some(channels)
}

/// Whether classes have no names but their numbers.
pub(crate) fn numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(i, n)| *n == i.to_string())
}

/// Some names of a list.
pub(crate) fn listed(names: &[String]) -> String {
    let more = ["", ", …"][usize::from(names.len() > 16)];
    names[..names.len().min(16)].join(", ") + more
}

/// A set of labelled pictures, with as many channels as the network takes.
fn set(task: &Task, source: &Source, labels: Labels) -> Result<Dataset> {
    let any = data::Options::default();
    let options = data::Options {
        memory_limit: memory::data_limit(any.memory_limit),
        labels,
        channels: channels(task),
        split: source.split,
        limit: source.limit,
        ..any
    };
    Ok(Dataset::open(&source.path, &options)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_set_is_at_hand_only_for_what_is_read_the_same_way() {
        let path = std::env::temp_dir().join(format!("polyveil-same-{}.csv", std::process::id()));
        std::fs::write(&path, "left,right\n1,2\n3,4\n").expect("writes");
        let task = task::Vectors::new(strings(&["left", "right"]), None, Outputs::Values(vec![]));
        let (task, source) = (Task::Vectors(task.expect("valid")), Source::of(&path));
        let one = One::open(&task, &source, &mut crate::progress::silent).expect("opens");
        std::fs::remove_file(&path).expect("goes");
        assert!(one.is(&Source::of(&path)));
        let row = one.encode(1, &mut crate::progress::silent).expect("a row");
        assert_eq!(row.tensor.values(), [3.0, 4.0]);
        let without = vec!["left".to_string()];
        for other in [
            Source::of("elsewhere.csv"),
            Source {
                without,
                ..source.clone()
            },
            Source {
                limit: Some(1),
                ..source.clone()
            },
            Source {
                split: Some(Split::Test),
                ..source.clone()
            },
            Source {
                answers: Answers::Classes(None),
                ..source.clone()
            },
            Source {
                scale: true,
                ..source.clone()
            },
        ] {
            assert!(!one.is(&other), "{other:?}");
        }
    }

    /// The rows of a table, with a class each if they have a column of that name, for a network of two columns and these outputs.
    fn of(name: &str, text: &str, outputs: Outputs) -> Result<Vec<(Vec<f64>, Option<usize>)>> {
        let path = std::env::temp_dir().join(format!("polyveil-{name}-{}.csv", std::process::id()));
        std::fs::write(&path, text).expect("writes");
        let task = task::Vectors::new(strings(&["left", "right"]), None, outputs);
        let (task, source) = (Task::Vectors(task.expect("valid")), Source::of(&path));
        let source = match text.contains("class") {
            true => Source {
                answers: Answers::Classes(None),
                ..source
            },
            false => source,
        };
        let inputs = Inputs::labelled(&task, &source, Some(2));
        let rows = inputs.and_then(|all| {
            let row = |i| Ok((all.encode(i)?.tensor.into_values(), all.class(i)));
            (0..all.len()).map(row).collect()
        });
        std::fs::remove_file(&path).expect("there");
        rows
    }

    #[test]
    fn columns_are_taken_by_name() {
        let values = || Outputs::Values(vec![]);
        let rows = of("columns", "right,left\n1,2\n", values()).expect("its columns");
        assert_eq!(rows, [(vec![2.0, 1.0], None)]);
        let error = of("others", "right,top\n1,2\n", values()).expect_err("other columns");
        let text = error.to_string();
        for word in ["others", "\"left\"", "\"top\""] {
            assert!(text.contains(word), "{text}");
        }
        assert!(of("more", "right,left,id\n1,2,3\n", values()).is_err());
    }

    #[test]
    fn columns_of_what_has_none_are_refused() {
        let (shape, normalization) = (Shape::image(3, 4, 4), task::Normalization::imagenet());
        let task = task::Pictures::new(shape, normalization, Outputs::Values(vec![]));
        let task = Task::Pictures(task.expect("valid"));
        let plain = Source::of("nowhere.png");
        assert!(Inputs::open(&task, &plain).is_ok());
        for answers in [
            Answers::Classes(Some("sick".into())),
            Answers::Numbers(strings(&["sick"])),
        ] {
            let source = Source {
                answers,
                ..plain.clone()
            };
            let error = Inputs::open(&task, &source).err().expect("refused");
            assert!(error.to_string().contains("leave out sick"), "{error}");
        }
        let without = strings(&["id"]);
        let source = Source { without, ..plain };
        let error = Inputs::open(&task, &source).err().expect("refused");
        let error = error.to_string();
        assert!(error.contains("pictures, which have no columns"), "{error}");
    }

    #[test]
    fn classes_are_matched_by_name() {
        let text = "left,right,class\n0,0,benign\n0,1,malignant\n";
        let classes = |name: &str, text: &str, names: &[&str]| {
            let rows = of(name, text, Outputs::Classes(strings(names)));
            rows.map(|rows| rows.into_iter().filter_map(|r| r.1).collect::<Vec<_>>())
        };
        let other = classes("order", text, &["malignant", "benign"]);
        assert_eq!(other.expect("its classes"), [1, 0]);
        // in the alphabet's order where the network has no names, if they are as many
        assert_eq!(classes("none", text, &[]).expect("two"), [0, 1]);
        let three = format!("{text}0,0,unknown\n");
        let words = ["benign, malignant, unknown", "2 without names"];
        for (name, text, names, words) in [
            ("three", &*three, &[][..], words),
            (
                "names",
                text,
                &["sick", "healthy"][..],
                ["benign, malignant", "sick, healthy"],
            ),
        ] {
            let error = classes(name, text, names)
                .expect_err("other classes")
                .to_string();
            assert!(words.iter().all(|w| error.contains(w)), "{error}");
        }
        // numbers are numbers
        let text = "left,right,class\n0,0,1\n0,1,0\n";
        let names = ["malignant", "benign"];
        assert_eq!(classes("numbers", text, &names).expect("two"), [1, 0]);
    }
}
