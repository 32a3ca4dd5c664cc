//! Where tensors lie in the coefficients of polynomials, and what a linear layer on them multiplies by: numbers only, no polynomial.
//!
//! A product of x(X) with Σ w·X^(−e) has at coefficient j the sum Σ w·x[j + e]: one polynomial of weights per output and input
//! ciphertext is a whole convolution, for every place at once. Channels lie in the low bits of a coefficient's number and places in the
//! high ones, so that packing, whose trace leaves the multiples of a power of two, keeps all places of an output. What a product
//! has at other coefficients is of no use, may be anything, and is gone after packing.
//!
//! Convolutions of any kernel, padding, stride and groups are said here, and with them dense layers (places of a kernel of 1×1),
//! pooling (a depthwise kernel) and global pooling with a dense layer (a kernel as large as the picture). Zeros around a picture
//! are shared by both sides of a row and by the last and the first row, since the ring wraps around (the sign of what wraps does not matter).

use crate::Error;
use rayon::prelude::*;
use std::any::Any;
use std::ops::{Add, Mul, Neg, Range};
use std::sync::Arc;

/// How channels × height × width lie in coefficients: channel c at place x + pitch·y has the coefficient
/// gap·(c mod C) + spacing·place of ciphertext ⌊c/C⌋, with C = spacing/gap channels per ciphertext.
///
/// With [`Folded::narrowed`] every ciphertext is seen as its t residue classes, ciphertexts of a ring of degree N/t: class i of ciphertext k
/// is number t·k + i.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    n: usize,
    spacing: usize,
    gap: usize,
    pitch: usize,
    shape: [usize; 3],
    classes: usize,
}

/// How far apart rows of a picture lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pitch {
    /// As near as the padding allows.
    Tight,
    /// A power of two: strides by more leaves need it.
    Power,
}

fn refuse<T>(object: &'static str, reason: String) -> Result<T, Error> {
    Err(Error::conformance(object, reason))
}

impl Folded {
    /// The layout of `[channels, height, width]` in a ring of degree n with `n/spacing` places a channel.
    ///
    /// # Errors
    /// [`Error::Conformance`] unless n, spacing and gap are powers of two, each dividing the one before, and the rows fit.
    pub fn new(
        n: usize,
        spacing: usize,
        gap: usize,
        pitch: usize,
        shape: [usize; 3],
    ) -> Result<Self, Error> {
        let powers = [n, spacing, gap].iter().all(|x| x.is_power_of_two());
        if !powers || gap > spacing || spacing > n {
            let reason = format!(
                "degree {n}, places {spacing} and channels {gap} coefficients apart must be powers of two, none above the one before"
            );
            return refuse("layout", reason);
        }
        let [channels, height, width] = shape;
        if channels == 0 || height == 0 || width == 0 || width > pitch || pitch > n {
            let reason =
                format!("{channels} channels of {height}×{width} in rows of {pitch} places");
            return refuse("layout", reason);
        }
        let places = (height - 1).checked_mul(pitch);
        let places = places.and_then(|p| p.checked_add(width));
        if places.is_none_or(|p| p > n / spacing) {
            let reason = format!(
                "{height} rows of {pitch} places do not fit the {} of a channel: take a smaller spacing",
                n / spacing
            );
            return refuse("layout", reason);
        }
        Ok(Self {
            n,
            spacing,
            gap,
            pitch,
            shape,
            classes: 1,
        })
    }
    /// The densest layout with zeros for kernels that look up to `pad` rows and columns beyond the picture. A tensor that fills less than
    /// a ciphertext is spread over it.
    ///
    /// # Errors
    /// [`Error::Conformance`] if one channel does not fit a ring of degree n.
    pub fn fitting(
        n: usize,
        shape: [usize; 3],
        pad: [usize; 2],
        pitch: Pitch,
    ) -> Result<Self, Error> {
        let [channels, height, width] = shape;
        let tight = width.saturating_add(pad[1]);
        let pitch = match pitch {
            Pitch::Tight => tight,
            Pitch::Power => tight.checked_next_power_of_two().unwrap_or(tight),
        };
        let rows = height.saturating_sub(1).saturating_add(pad[0]);
        let places = rows
            .saturating_mul(pitch)
            .saturating_add(width)
            .saturating_add(pad[1]);
        if places > n || !n.is_power_of_two() {
            let reason = format!(
                "{places} places of a channel of {height}×{width} do not fit a ring of degree {n}"
            );
            return refuse("layout", reason);
        }
        let spacing = n / places.next_power_of_two();
        let gap = (spacing / channels.max(1).next_power_of_two()).max(1);
        Self::new(n, spacing, gap, pitch, shape)
    }
    /// The same values after a change to the ring of degree N/t, t a power of two.
    ///
    /// # Errors
    /// [`Error::Conformance`] if places are less than t coefficients apart: their classes would not be whole channels.
    pub fn narrowed(&self, t: usize) -> Result<Self, Error> {
        if !t.is_power_of_two() || t > self.spacing {
            let reason = format!(
                "{t} residue classes of places that are {} coefficients apart",
                self.spacing
            );
            return refuse("layout", reason);
        }
        Ok(Self {
            classes: t,
            ..self.clone()
        })
    }
    /// The same places for another number of channels, which are spread where they fill less than a ciphertext.
    ///
    /// # Errors
    /// [`Error::Conformance`] for none.
    pub fn with_channels(&self, channels: usize) -> Result<Self, Error> {
        let [_, height, width] = self.shape;
        let gap = (self.spacing / channels.max(1).next_power_of_two()).max(1);
        let shape = [channels, height, width];
        Self::new(self.n, self.spacing, gap, self.pitch, shape)?.narrowed(self.classes)
    }
    /// Channels, height and width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }
    /// The degree of the ring that the ciphertexts lie in.
    pub fn degree(&self) -> usize {
        self.n / self.classes
    }
    /// Coefficients from one place to the next, in that ring.
    pub fn spacing(&self) -> usize {
        self.spacing / self.classes
    }
    /// Coefficients from one channel to the next, in that ring.
    pub fn gap(&self) -> usize {
        (self.gap / self.classes).max(1)
    }
    /// Places from one row to the next.
    pub fn pitch(&self) -> usize {
        self.pitch
    }
    /// Channels that a ciphertext of the large ring holds.
    pub fn channels_each(&self) -> usize {
        self.spacing / self.gap
    }
    /// Residue classes that a ciphertext of the large ring is seen as.
    pub fn classes(&self) -> usize {
        self.classes
    }
    /// The number of ciphertexts, classes that hold no channel included.
    pub fn ciphertexts(&self) -> usize {
        self.shape[0].div_ceil(self.channels_each()) * self.classes
    }
    /// The ciphertext of a channel, and the coefficient of its first place.
    pub fn channel(&self, c: usize) -> (usize, usize) {
        let (big, leaf) = (
            c / self.channels_each(),
            c % self.channels_each() * self.gap,
        );
        let t = self.classes;
        (big * t + leaf % t, leaf / t)
    }
    /// The ciphertext and the coefficient of a value.
    pub fn at(&self, c: usize, y: usize, x: usize) -> (usize, usize) {
        let (ciphertext, first) = self.channel(c);
        (ciphertext, first + self.spacing() * (x + self.pitch * y))
    }
    /// The coefficients of all ciphertexts from values in the order channel, row, column; zero where there is none.
    ///
    /// # Errors
    /// [`Error::Conformance`] for another number of values.
    pub fn place<T: Copy + Default>(&self, values: &[T]) -> Result<Vec<Vec<T>>, Error> {
        let mut out = vec![vec![T::default(); self.degree()]; self.ciphertexts()];
        let needed: usize = self.shape.iter().product();
        if values.len() != needed {
            let reason = format!("{} values, but its shape has {needed}", values.len());
            return refuse("layout", reason);
        }
        for ((ciphertext, coefficient), v) in self.all().zip(values) {
            out[ciphertext][coefficient] = *v;
        }
        Ok(out)
    }
    /// The values, in the order channel, row, column, from the coefficients of all ciphertexts.
    ///
    /// # Errors
    /// [`Error::Conformance`] for other ciphertexts than these.
    pub fn read<T: Copy>(&self, ciphertexts: &[Vec<T>]) -> Result<Vec<T>, Error> {
        self.check(ciphertexts)?;
        Ok(self.all().map(|(k, at)| ciphertexts[k][at]).collect())
    }
    fn check<T>(&self, ciphertexts: &[Vec<T>]) -> Result<(), Error> {
        let (count, degree) = (self.ciphertexts(), self.degree());
        if ciphertexts.len() == count && ciphertexts.iter().all(|c| c.len() == degree) {
            return Ok(());
        }
        let reason = format!(
            "{} polynomials, but {count} of {degree} coefficients are needed",
            ciphertexts.len()
        );
        refuse("layout", reason)
    }
    /// Where the values lie, in the order channel, row, column.
    fn all(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let [channels, height, width] = self.shape;
        (0..channels).flat_map(move |c| {
            (0..height).flat_map(move |y| (0..width).map(move |x| self.at(c, y, x)))
        })
    }
}

/// The integer weights of a layer: a row per output, in the order of the outputs, each in the order channel of the group, row of the kernel, column.
///
/// They are read in this order, whole rows at a time, into buffers that are used again: a file read by position is enough.
pub trait WeightRows: Sync {
    /// Writes the rows of these outputs, one after the other.
    ///
    /// # Errors
    /// What the reader refuses.
    fn read(&self, outputs: Range<usize>, rows: &mut [i32]) -> Result<(), Error>;
    /// How many weights of a row, one after the other, are always alike: all of a kernel, or one.
    fn times(&self) -> usize {
        1
    }
    /// Writes the row of an output with each of those once.
    ///
    /// # Errors
    /// As [`WeightRows::read`].
    fn read_once(&self, output: usize, row: &mut [i32]) -> Result<(), Error> {
        self.read(output..output + 1, row)
    }
    /// Whether all of them are the same number, as where their number alone is known: one row tells of all.
    fn uniform(&self) -> bool {
        false
    }
    /// What they are read from, where other layers may read the same.
    fn shared(&self) -> Option<Shared> {
        None
    }
}

/// Where rows are read from, kept alive: equal where other rows are read from the same place.
#[derive(Clone, Debug)]
pub struct Shared(Arc<dyn Any + Send + Sync>, u64);

impl Shared {
    /// What lies from this place of an owner on.
    pub fn new<T: Any + Send + Sync>(owner: Arc<T>, place: u64) -> Self {
        Self(owner, place)
    }
    /// What tells it from others as long as it lives.
    pub(crate) fn identity(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.0).cast::<()>() as usize, self.1)
    }
}

/// Rows in memory, all of one length.
impl WeightRows for Vec<i32> {
    fn read(&self, outputs: Range<usize>, rows: &mut [i32]) -> Result<(), Error> {
        let row = rows.len() / outputs.len().max(1);
        let from = self.get(outputs.start * row..outputs.end * row);
        match from {
            Some(from) if from.len() == rows.len() => rows.copy_from_slice(from),
            _ => {
                let reason = format!(
                    "{} weights do not hold the rows {outputs:?} of {row}",
                    self.len()
                );
                return refuse("weights", reason);
            }
        }
        Ok(())
    }
}

/// A linear layer: channels × height × width to channels × height × width, both folded into the same ring.
///
/// out\[o, y, x\] = Σ over channels c of o's group and (j, i) of the kernel: w\[o, c, j, i\]·in\[c, s·y + j − a, s·x + i − b\] with stride s and
/// `before` = \[a, b\], zero outside of the picture.
#[derive(Clone, Debug)]
pub struct Convolution {
    input: Folded,
    output: Folded,
    stride: usize,
    groups: usize,
    /// X^(−this) moves a place's neighbour to it, for every place of the kernel in order.
    taps: Vec<i64>,
    kept: Kept,
    /// For each group the ciphertexts that it reads, ascending.
    reads: Vec<Vec<Read>>,
}

/// What of a product is packed: coefficients that are `spacing` apart, from one or more first ones on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// All places: the output's are the input's, or every so many of them.
    All { spacing: usize },
    /// All rows; columns one by one.
    Rows { spacing: usize },
    /// Every value by itself.
    Values,
}

/// Channels of a group in one ciphertext: their numbers within the group, and their first coefficients.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) ciphertext: usize,
    channels: Vec<(usize, usize)>,
}

/// A coefficient class of a product, and where packing puts it: coefficients `from + k·spacing` go to `to + k·spacing` of the packed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The output that it is of.
    pub output: usize,
    /// Its first coefficient in the product.
    pub from: usize,
    /// Its first coefficient in the packed polynomial, below the spacing.
    pub to: usize,
}

impl Convolution {
    /// A layer with a kernel of `[rows, columns]`, `before` = zero rows above and zero columns to the left that the first output
    /// looks at, one stride for both directions, and groups of channels.
    ///
    /// # Errors
    /// [`Error::Conformance`] if groups do not divide the channels, layouts lie in different rings, or the input's layout has too few zeros
    /// around the picture for what outputs look at.
    pub fn new(
        input: &Folded,
        output: &Folded,
        kernel: [usize; 2],
        before: [usize; 2],
        stride: usize,
        groups: usize,
    ) -> Result<Self, Error> {
        let refuse = |reason: String| refuse("convolution", reason);
        if input.degree() != output.degree() || input.classes != output.classes {
            return refuse("input and output lie in different rings".into());
        }
        let ([channels, ..], [outputs, ..]) = (input.shape, output.shape);
        if groups == 0 || channels % groups != 0 || outputs % groups != 0 {
            return refuse(format!(
                "{groups} groups of {channels} channels and {outputs} outputs"
            ));
        }
        if before[0] >= kernel[0] || before[1] >= kernel[1] || stride == 0 || stride > input.n {
            return refuse(format!(
                "a kernel of {kernel:?} that begins {before:?} before its place, stride {stride}: every output must look at its own place or beyond"
            ));
        }
        let zeros = Zeros::needed(input, output, kernel, before, stride);
        zeros.check(input)?;
        let taps = (0..kernel[0])
            .flat_map(|j| (0..kernel[1]).map(move |i| (j, i)))
            .map(|(j, i)| {
                let row = j as i64 - before[0] as i64;
                let column = i as i64 - before[1] as i64;
                input.spacing() as i64 * (column + input.pitch as i64 * row)
            })
            .collect();
        let per = channels / groups;
        let reads = (0..groups).map(|g| {
            let mut reads: Vec<Read> = Vec::new();
            let mut at: Vec<(usize, usize, usize)> = (0..per)
                .map(|c| (input.channel(g * per + c), c))
                .map(|((ciphertext, first), c)| (ciphertext, c, first))
                .collect();
            at.sort_unstable();
            for (ciphertext, c, first) in at {
                match reads.last_mut().filter(|r| r.ciphertext == ciphertext) {
                    Some(r) => r.channels.push((c, first)),
                    None => reads.push(Read {
                        ciphertext,
                        channels: vec![(c, first)],
                    }),
                }
            }
            reads
        });
        Ok(Self {
            kept: Kept::of(input, output, stride),
            input: input.clone(),
            output: output.clone(),
            stride,
            groups,
            taps,
            reads: reads.collect(),
        })
    }
    /// Where the input lies.
    pub fn input(&self) -> &Folded {
        &self.input
    }
    /// Where the output lies.
    pub fn output(&self) -> &Folded {
        &self.output
    }
    /// Outputs, each with a row of weights.
    pub fn outputs(&self) -> usize {
        self.output.shape[0]
    }
    /// Weights in a row.
    pub fn row(&self) -> usize {
        self.input.shape[0] / self.groups * self.taps.len()
    }
    /// Weights of a row for each channel.
    pub(crate) fn taps(&self) -> usize {
        self.taps.len()
    }
    /// Products of an input ciphertext with a polynomial of weights.
    pub fn pairs(&self) -> usize {
        (0..self.outputs()).map(|o| self.reads(o).len()).sum()
    }
    /// How far apart the coefficients are that packing keeps of a product: as many leaves a packed polynomial has room for.
    pub fn spacing(&self) -> usize {
        match self.kept {
            Kept::All { spacing } | Kept::Rows { spacing } => spacing,
            Kept::Values => self.input.degree(),
        }
    }
    /// Columns and rows of an output that are leaves of their own.
    fn apart(&self) -> (usize, usize) {
        let [_, height, width] = self.output.shape;
        match self.kept {
            Kept::All { .. } => (1, 1),
            Kept::Rows { .. } => (width, 1),
            Kept::Values => (width, height),
        }
    }
    /// Leaves of all ciphertexts together.
    pub fn leaf_count(&self) -> usize {
        let (columns, rows) = self.apart();
        self.outputs() * columns * rows
    }
    /// What is packed into the output's ciphertext `number`.
    pub fn leaves(&self, number: usize) -> Vec<Leaf> {
        let (columns, rows) = self.apart();
        let mut leaves = Vec::new();
        for output in self.outputs_in(number) {
            let (_, first) = self.output.channel(output);
            for y in 0..rows {
                for x in 0..columns {
                    let place = self.stride * (x + self.input.pitch * y);
                    leaves.push(Leaf {
                        output,
                        from: self.input.spacing() * place,
                        to: first + self.output.spacing() * (x + self.output.pitch * y),
                    });
                }
            }
        }
        leaves
    }
    /// The outputs that lie in the output's ciphertext `number`, ascending.
    pub fn outputs_in(&self, number: usize) -> impl Iterator<Item = usize> + '_ {
        let (each, t) = (self.output.channels_each(), self.output.classes);
        let first = number / t * each;
        (first..self.outputs().min(first + each))
            .filter(move |&o| self.output.channel(o).0 == number)
    }
    /// The ciphertexts that an output reads, ascending.
    pub(crate) fn reads(&self, output: usize) -> &[Read] {
        &self.reads[self.group(output)]
    }
    /// The weights of a row for one input ciphertext as coefficients, divided by `scale`.
    pub(crate) fn polynomial(&self, read: &Read, row: &[i32], scale: f64) -> Vec<f64> {
        let n = self.input.degree();
        let mut out = vec![0.0; n];
        self.terms(read, row, |e, w| {
            let at = (-e).rem_euclid(2 * n as i64) as usize;
            let w = f64::from(w) / scale;
            out[at % n] += if at < n { w } else { -w };
        });
        out
    }
    /// The polynomial of weights that one input ciphertext is multiplied by for a row: calls `f(e, w)` for each term w·X^(−e); the same e may come again.
    pub(crate) fn terms(&self, read: &Read, row: &[i32], mut f: impl FnMut(i64, i32)) {
        for &(c, first) in &read.channels {
            let weights = &row[c * self.taps.len()..][..self.taps.len()];
            for (tap, w) in self.taps.iter().zip(weights) {
                f(first as i64 + tap, *w);
            }
        }
    }
    /// The group of channels that an output reads.
    fn group(&self, output: usize) -> usize {
        output * self.groups / self.outputs()
    }
    /// What every coefficient of the packed output is, garbage included, from the coefficients of the input's ciphertexts.
    ///
    /// Exactly what products and packing compute, by sums over the kernel: the meaning of a convolution on folded values.
    ///
    /// # Errors
    /// [`Error::Conformance`] for other inputs than the layout's, or weights of another shape.
    pub fn evaluate<T>(
        &self,
        inputs: &[Vec<T>],
        weights: &dyn WeightRows,
    ) -> Result<Vec<Vec<T>>, Error>
    where
        T: Copy
            + Default
            + From<i32>
            + Add<Output = T>
            + Mul<Output = T>
            + Neg<Output = T>
            + Send
            + Sync,
    {
        self.input.check(inputs)?;
        let planes = Planes::new(self, inputs);
        (0..self.output.ciphertexts())
            .into_par_iter()
            .map(|number| {
                let mut out = vec![T::default(); self.input.degree()];
                let outputs: Vec<usize> = self.outputs_in(number).collect();
                for alike in outputs.chunk_by(|a, b| self.group(*a) == self.group(*b)) {
                    let (blocks, rest) = alike.as_chunks::<TOGETHER>();
                    for block in blocks {
                        planes.add(block, weights, &mut out)?;
                    }
                    for one in rest {
                        planes.add(&[*one], weights, &mut out)?;
                    }
                }
                Ok(out)
            })
            .collect()
    }
}

/// Outputs that are computed together: sums of so many, and of as many places, stay in registers.
const TOGETHER: usize = 4;

/// The values of each channel in runs that outputs read in order: places that what packing keeps is apart, the ring's continuation behind them.
struct Planes<'a, T> {
    layer: &'a Convolution,
    values: Vec<T>,
    /// Runs of a channel.
    runs: usize,
    /// Values of a run that are the ring's.
    length: usize,
}

impl<'a, T> Planes<'a, T>
where
    T: Copy + Default + From<i32> + Add<Output = T> + Mul<Output = T> + Neg<Output = T>,
{
    fn new(layer: &'a Convolution, inputs: &[Vec<T>]) -> Self {
        let (input, apart) = (&layer.input, layer.spacing());
        let (runs, length) = (apart / input.spacing(), input.degree() / apart);
        let channels = input.shape[0];
        let mut values = Vec::with_capacity(3 * channels * runs * length);
        for c in 0..channels {
            let (ciphertext, first) = input.channel(c);
            for run in 0..runs {
                let from = first + run * input.spacing();
                let own = || inputs[ciphertext].iter().skip(from).step_by(apart).copied();
                // X^n = −1
                values.extend(own().chain(own().map(|v| -v)).chain(own()));
            }
        }
        Self {
            layer,
            values,
            runs,
            length,
        }
    }
    /// Adds some outputs of one group to their ciphertext.
    fn add<const B: usize>(
        &self,
        outputs: &[usize; B],
        weights: &dyn WeightRows,
        out: &mut [T],
    ) -> Result<(), Error> {
        let layer = self.layer;
        let (row, taps) = (layer.row(), layer.taps.len());
        let mut read = vec![0; row];
        let mut rows = vec![[T::default(); B]; row];
        for (b, &o) in outputs.iter().enumerate() {
            weights.read(o..o + 1, &mut read)?;
            (rows.iter_mut().zip(&read)).for_each(|(to, w)| to[b] = T::from(*w));
        }
        let per = layer.input.shape[0] / layer.groups;
        let channel = layer.group(outputs[0]) * per;
        let each = 3 * self.length;
        let (columns, lines) = layer.apart();
        let mut at = vec![0; taps];
        for (y, x) in (0..lines).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let place = (layer.stride * (x + layer.input.pitch * y)) as i64;
            for (at, tap) in at.iter_mut().zip(&layer.taps) {
                let place = place + tap / layer.input.spacing() as i64;
                let (runs, around) = (self.runs as i64, 2 * self.length as i64);
                let within = place.div_euclid(runs).rem_euclid(around);
                *at = place.rem_euclid(runs) as usize * each + within as usize;
            }
            let first = channel * self.runs * each;
            let sums = Sums {
                rows: &rows,
                at: &at,
                values: &self.values[first..],
                channel: self.runs * each,
            };
            let to = outputs.map(|o| {
                let (_, first) = layer.output.channel(o);
                first + layer.output.spacing() * (x + layer.output.pitch * y)
            });
            match self.length {
                length if length.is_multiple_of(TOGETHER) => {
                    for k in (0..length).step_by(TOGETHER) {
                        sums.write::<TOGETHER>(k, to, layer.spacing(), out);
                    }
                }
                length => (0..length).for_each(|k| sums.write::<1>(k, to, layer.spacing(), out)),
            }
        }
        Ok(())
    }
}

/// The rows of some outputs, and where the values lie that one leaf of each reads.
struct Sums<'a, T, const B: usize> {
    /// In the order channel, tap.
    rows: &'a [[T; B]],
    /// Of each tap.
    at: &'a [usize],
    /// From the group's first channel on.
    values: &'a [T],
    /// Values from one channel to the next.
    channel: usize,
}

impl<T, const B: usize> Sums<'_, T, B>
where
    T: Copy + Default + Add<Output = T> + Mul<Output = T>,
{
    /// Places k to k + C of each output.
    fn write<const C: usize>(&self, k: usize, to: [usize; B], apart: usize, out: &mut [T]) {
        let mut sums = [[T::default(); C]; B];
        let channels = self.values.chunks(self.channel);
        for (rows, values) in self.rows.chunks_exact(self.at.len()).zip(channels) {
            for (row, at) in rows.iter().zip(self.at) {
                let Some(x) = values[at + k..].first_chunk::<C>() else {
                    continue;
                };
                for (sums, w) in sums.iter_mut().zip(row) {
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = *sum + *w * *x;
                    }
                }
            }
        }
        for (sums, to) in sums.iter().zip(to) {
            for (l, sum) in sums.iter().enumerate() {
                out[to + apart * (k + l)] = *sum;
            }
        }
    }
}

impl Kept {
    fn of(input: &Folded, output: &Folded, stride: usize) -> Self {
        let (spacing, n) = (input.spacing(), input.degree());
        let row = spacing * input.pitch * stride;
        if output.spacing() == spacing * stride && output.pitch == input.pitch {
            // a power of two, as the output's spacing is one
            Self::All {
                spacing: output.spacing(),
            }
        } else if row.is_power_of_two() && row <= n && row == output.spacing() * output.pitch {
            Self::Rows { spacing: row }
        } else {
            Self::Values
        }
    }
}

/// How far outputs look beyond the picture.
struct Zeros {
    above: usize,
    left: usize,
    below: usize,
    right: usize,
}

impl Zeros {
    fn needed(
        input: &Folded,
        output: &Folded,
        kernel: [usize; 2],
        before: [usize; 2],
        stride: usize,
    ) -> Self {
        let after = |d: usize| {
            let last = (output.shape[1 + d] - 1) * stride + kernel[d] - 1;
            last.saturating_sub(before[d] + input.shape[1 + d] - 1)
        };
        Self {
            above: before[0],
            left: before[1],
            below: after(0),
            right: after(1),
        }
    }
    /// Whether all that is looked at outside of the picture is a place without a value, around the end of the ring as well.
    fn check(&self, input: &Folded) -> Result<(), Error> {
        let [_, height, width] = input.shape;
        let places = input.n / input.spacing;
        let used = (height - 1) * input.pitch + width;
        let columns = self.left.max(self.right);
        let above = self.above * input.pitch + self.left;
        let below = self.below * input.pitch + self.right;
        if width + columns > input.pitch || used + above > places || used + below > places {
            let reason = format!(
                "outputs look {} rows above, {} below and {columns} columns beside a picture of {height}×{width}, which lies in rows of {} and {places} places: not all of that is zero; leave more room",
                self.above, self.below, input.pitch
            );
            return refuse("convolution", reason);
        }
        Ok(())
    }
}
