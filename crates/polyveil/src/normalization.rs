//! How a foreign network's inputs were normalised: as is stated, as its file says, or as the network itself begins. Nobody guesses.

use crate::error::{Error, Help, Result};
use crate::inputs::lengths;
use crate::progress::{Listener, Say};
use data::Vectors;
use nn::op::ElementFunction;
use nn::{Metadata, Network, Op, Shape};
use task::{Channels, Normalization, Outputs, Pictures, Stated, Task};

/// What a network says of its inputs by how it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Begins {
    /// It normalises pixels itself, by constants that fit these values.
    Normalising(Normalization),
    /// With a batch normalisation of inputs with these means and deviations by channel, which several normalisations of pixels can have.
    WithBatchNorm(Vec<(f64, f64)>),
    /// Without anything of the kind.
    Plainly,
}

/// What the first operators say, as long as they are one line of products and sums by channel.
pub(crate) fn begins<N: ElementFunction>(network: &Network<N>) -> Begins {
    let (input, consumers) = (network.input(), network.consumers());
    let channels = input.shape().dims()[0];
    // the value is scale·x + shift
    let (mut scale, mut shift) = (vec![1.0; channels], vec![0.0; channels]);
    let mut at = input.id();
    while let [next] = consumers[at.index()][..] {
        let node = network.node(next);
        let constant = || {
            let other = node.inputs().iter().find(|&&i| i != at)?;
            match network.node(*other).op() {
                Op::Constant(_, values) => by_channel(values.values(), channels),
                _ => None,
            }
        };
        match node.op() {
            Op::Identity => {}
            Op::Add => {
                let Some(c) = constant() else { break };
                shift.iter_mut().zip(c).for_each(|(b, c)| *b += c);
            }
            Op::Mul => {
                let Some(c) = constant() else { break };
                for ((a, b), c) in scale.iter_mut().zip(&mut shift).zip(c) {
                    (*a, *b) = (*a * c, *b * c);
                }
            }
            Op::Elementwise(f) => {
                let Some(p) = f.polynomial().filter(|p| p.degree() < 2) else {
                    break;
                };
                let line = p.to_monomial();
                let factor = line.get(1).copied().unwrap_or(0.0);
                for (a, b) in scale.iter_mut().zip(&mut shift) {
                    (*a, *b) = (*a * factor, *b * factor + line[0]);
                }
            }
            // its statistics are of what it was trained on
            Op::BatchNorm(n) => {
                let each = n.mean.values().iter().zip(n.variance.values());
                let of_input = |((&mean, &variance), (a, b)): ((&f32, &f32), (&f64, &f64))| {
                    ((f64::from(mean) - b) / a, f64::from(variance).sqrt() / a)
                };
                let lines: Vec<_> = each.zip(scale.iter().zip(&shift)).map(of_input).collect();
                return match fits(&lines) {
                    Some(pixels) if pixels.deviation[0] != 1.0 || is_known(&lines) => {
                        Begins::Normalising(pixels)
                    }
                    _ => Begins::WithBatchNorm(lines),
                };
            }
            _ => break,
        }
        at = next;
    }
    let lines = scale.iter().zip(&shift).map(|(a, b)| (-b / a, 1.0 / a));
    fits(&lines.collect::<Vec<_>>()).map_or(Begins::Plainly, Begins::Normalising)
}

/// Whether statistics are those of a set whose normalisation has a name: no other pixels than v/255 have them.
fn is_known(lines: &[(f64, f64)]) -> bool {
    let of = |name: &str, channels| {
        let named = Stated {
            channels,
            ..Stated::named(name)
        };
        let Ok(known) = named.normalization(lines.len()) else {
            return false;
        };
        let near = |((m, d), (mean, deviation)): (&(f64, f64), (&f64, &f64))| {
            f64::max((m - mean).abs(), (d - deviation).abs()) < 5e-4
        };
        let known = known.mean.iter().zip(&known.deviation);
        lines.iter().zip(known).all(near)
    };
    ["imagenet", "cifar10"]
        .iter()
        .any(|name| of(name, Channels::Rgb) || of(name, Channels::Bgr))
}

/// One number for each channel, if the constant has no more.
fn by_channel(values: &[f32], channels: usize) -> Option<Vec<f64>> {
    let mut parts = values.chunks_exact(values.len() / channels.max(1));
    let same = parts.clone().all(|part| part.iter().all(|v| *v == part[0]));
    same.then(|| parts.by_ref().map(|part| f64::from(part[0])).collect())
}

/// The values of pixels that means and deviations fit, if they fit one kind only: 0 to 1, or 0 to 255.
fn fits(lines: &[(f64, f64)]) -> Option<Normalization> {
    let all = |mean: std::ops::RangeInclusive<f64>, deviation: std::ops::RangeInclusive<f64>| {
        lines
            .iter()
            .all(|(m, d)| mean.contains(m) && deviation.contains(d))
    };
    let channels = lines.len();
    let large = lines.iter().any(|&(m, d)| m >= 12.0 || d >= 12.0);
    let (unit, bytes) = (
        all(0.05..=1.0, 0.05..=1.0),
        all(0.0..=255.0, 1.0..=255.0) && large,
    );
    let scale = if bytes { 255.0 } else { 1.0 };
    // ImageNet's means the other way round
    let blue_first = Normalization::imagenet().mean.into_iter().rev();
    let near = |(line, mean): (&(f64, f64), f64)| (line.0 / scale - mean).abs() < 0.005;
    let order = match channels == 3 && lines.iter().zip(blue_first).all(near) {
        true => Channels::Bgr,
        false => Channels::Rgb,
    };
    (unit || bytes).then(|| Normalization {
        channels: order,
        ..Normalization::new(vec![0.0; channels], vec![1.0 / scale; channels])
    })
}

/// What the batch normalisation at a network's beginning tells of the pixels that it was trained on, under each normalisation that could have
/// given it such inputs. It does not tell which of them: bright pictures of little contrast under `half` look like others under `none`.
fn seen(lines: &[(f64, f64)]) -> String {
    let mean = |of: fn(&(f64, f64)) -> f64| lines.iter().map(of).sum::<f64>() / lines.len() as f64;
    let (m, d) = (mean(|l| l.0), mean(|l| l.1));
    let mut text = format!(
        "the batch normalisation at its beginning saw inputs of mean {m:.3} and deviation {d:.3}"
    );
    let channels = lines.len();
    for name in ["none", "imagenet", "cifar10", "half"] {
        let Ok(n) = Stated::named(name).normalization(channels) else {
            continue;
        };
        let average = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (shift, scale) = (average(&n.mean), average(&n.deviation));
        let (m, d) = (255.0 * (m * scale + shift), 255.0 * d * scale);
        // values between 0 and 255 deviate by no more than √(m(255 − m))
        if m > 0.0 && m < 255.0 && d * d <= m * (255.0 - m) {
            text += &format!(", under {name} pixels of {m:.0} ± {d:.0}");
        }
    }
    text
}

/// What a network is, as far as its inputs go.
pub(crate) struct Foreign<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    pub(crate) begins: Begins,
}

impl<'a> Foreign<'a> {
    pub(crate) fn of<N: ElementFunction>(network: &Network<N>, metadata: &'a Metadata) -> Self {
        Self {
            metadata,
            input: network.input().shape(),
            output: network.output().shape(),
            begins: begins(network),
        }
    }

    /// The network's task with the normalisation that is stated, or that its file or the network itself has; of rows that are at hand, the
    /// columns.
    ///
    /// # Errors
    /// Where nobody says how inputs are normalised; statements that do not fit.
    pub(crate) fn task(
        &self,
        stated: &Stated,
        rows: Option<&Vectors>,
        tell: Listener<'_>,
    ) -> Result<Task> {
        let outputs = Outputs::unsaid(self.output);
        let alone = stated.channels == Channels::Bgr && !stated.is_said();
        if alone && self.metadata.task.is_some() {
            return Err(Error::refused(
                "the network's file says how pixels become inputs, and an order of channels alone does not replace that",
                Help::NameNormalization,
            ));
        }
        let task = match (Task::of(self.metadata)?, self.input) {
            (Some(Task::Pictures(own)), Shape::Image { channels, .. }) if stated.is_said() => {
                let said = stated.normalization(channels)?;
                if said != *own.normalization() {
                    tell.note(format_args!(
                        "warning: the network's file says that pixels become {}; taken is what you say: {said}",
                        own.normalization()
                    ));
                }
                Task::Pictures(Pictures::new(own.shape(), said, own.outputs().clone())?)
            }
            (Some(Task::Vectors(own)), _) if stated.is_said() => {
                let said = rows_of(stated, own.shape(), rows, tell)?;
                let columns = own.columns().to_vec();
                let made = task::Vectors::new(columns, said, own.outputs().clone())?;
                Task::Vectors(made.shaped(own.shape())?)
            }
            (Some(task), _) => task,
            (None, shape) if rows.is_some() || shape.as_image().is_none() => {
                if !stated.is_said() {
                    return Err(Error::refused(
                        "the network's file does not say how rows are normalised",
                        Help::NameScaling,
                    ));
                }
                let numbered = || (1..=shape.len()).map(|i| i.to_string()).collect();
                // an array's columns have no names
                let named = rows.map(|r| r.columns().to_vec()).filter(|c| !c.is_empty());
                let columns = named.unwrap_or_else(numbered);
                let said = rows_of(stated, shape, rows, tell)?;
                let made = task::Vectors::new(columns, said, outputs)?;
                Task::Vectors(match shape {
                    Shape::Vector(_) => made,
                    shape => made.shaped(shape)?,
                })
            }
            (None, shape) => {
                let said = self.pixels(stated, shape.dims()[0], tell)?;
                Task::Pictures(Pictures::new(shape, said, outputs)?)
            }
        };
        task.check(self.input, self.output)?;
        Ok(task)
    }

    /// How pixels become inputs, of a network whose file does not say.
    fn pixels(
        &self,
        stated: &Stated,
        channels: usize,
        tell: Listener<'_>,
    ) -> Result<Normalization> {
        match (&self.begins, stated.is_said()) {
            (Begins::Normalising(own), true) => {
                let said = stated.normalization(channels)?;
                if (&said.mean, &said.deviation) != (&own.mean, &own.deviation) {
                    tell.note(format_args!(
                        "warning: the network begins with a normalisation of its own, which fits pixels as {own}; taken is what you say, before it: {said}"
                    ));
                }
                Ok(said)
            }
            (_, true) => Ok(stated.normalization(channels)?),
            (Begins::Normalising(own), false) => {
                let said = match stated.channels {
                    Channels::Rgb => own.clone(),
                    Channels::Bgr => stated.ordered(own.clone())?,
                };
                tell.note("the network normalises pixels itself");
                Ok(said)
            }
            (Begins::WithBatchNorm(lines), false) => Err(Error::refused(
                format!(
                    "the network's file does not say how pixels are normalised ({})",
                    seen(lines)
                ),
                Help::NameNormalization,
            )),
            (Begins::Plainly, false) => Err(unsaid()),
        }
    }
}

/// The refusal to guess how pixels are normalised.
pub(crate) fn unsaid() -> Error {
    Error::refused(
        "the network's file does not say how pixels are normalised",
        Help::NameNormalization,
    )
}

/// How rows are normalised: not at all, by what is measured on those at hand, or as is stated.
fn rows_of(
    stated: &Stated,
    input: Shape,
    rows: Option<&Vectors>,
    tell: Listener<'_>,
) -> Result<Option<Normalization>> {
    // a signal's numbers are normalised by channel
    let (channels, each) = match input {
        Shape::Vector(width) => (width, 1),
        Shape::Image { channels, .. } => (channels, input.len() / channels),
    };
    let spread = |list: Vec<f64>| -> Vec<f64> {
        let all = list.into_iter();
        all.flat_map(|v| std::iter::repeat_n(v, each)).collect()
    };
    let by_channel = |n: Normalization| Normalization::new(spread(n.mean), spread(n.deviation));
    if stated.range.is_some() || stated.channels == Channels::Bgr {
        return Err(Error::refused(
            "rows have no range and no order that is known",
            Help::NameScaling,
        ));
    }
    match (stated.name.as_deref(), rows) {
        (Some("none"), _) => Ok(None),
        (Some("measured"), Some(rows)) => {
            // a signal's time steps come first where its network was made for channels last
            if (2..channels).contains(&each) {
                tell.note(format_args!(
                    "warning: a mean and a deviation are measured for each of {channels} channels, over {each} values of it; if these are {channels} time steps of {each} channels, the network was trained on other statistics: state a mean and a deviation for each of the {channels}, or put those of the {each} into the network, a Sub and a Div by constants before its first layer"
                ));
            }
            Ok(Some(by_channel(rows.channel_statistics(channels))))
        }
        (Some("measured"), None) => Err("nothing is measured here, since these are not the rows that the network was trained on; say none, or a mean and a deviation for each column".into()),
        (Some(other), _) => Err(Error::refused(
            format!("rows know no normalisation {other} here"),
            Help::NameScaling,
        )),
        (None, _) => match stated.normalization(channels) {
            Ok(said) => Ok(Some(by_channel(said))),
            Err(e @ task::Error::Count { .. }) if input.as_image().is_some() => {
                Err(Error::refused(
                    format!(
                        "inputs of shape {} are normalised by their first axis ({e}); a mean and a deviation along another go into the network, a Sub and a Div by constants before its first layer",
                        lengths(input)
                    ),
                    Help::NameScaling,
                ))
            }
            Err(e) => Err(e.into()),
        },
    }
}
