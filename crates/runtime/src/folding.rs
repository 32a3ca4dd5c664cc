//! Operations on values in coefficients: the way down from slots, linear layers, the way up.
//!
//! A plan holds numbers: layouts, kernels, and integer weights, each once. Polynomials of weights exist one at a time while a layer is carried out.

use crate::{Integers, Register};
use ckks::coefficients::{Parts, slot_of};
use ckks::folded::{Convolution, Folded, Shared, WeightRows};
use ckks::{
    Arithmetic, Coefficients, Descent, Error, HalfBootstrap, Level, MeterValue, Parameters, memory,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Largest magnitude of an integer weight: 2^8 as a weight, in plan units.
pub fn largest_weight(parameters: &Parameters) -> u32 {
    let bits = parameters.spec().weight_bits();
    1 << (8 + bits.unwrap_or(0))
}

/// The ring that a linear layer's products and packing are carried out in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Within {
    /// That of the ciphertexts.
    #[default]
    Whole,
    /// The small one that the parameters name ([`ckks::ring_switch`]): two switches of keys more for every ciphertext, cheaper ones for every channel.
    Small,
}

impl Within {
    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
    /// Ciphertexts of that ring for each.
    fn classes(self, parameters: &Parameters) -> Result<usize, Error> {
        match (self, parameters.bottoms()) {
            (Self::Whole, _) => Ok(1),
            (Self::Small, Some([wide, small])) => Ok(wide.n() / small.n()),
            (Self::Small, None) => {
                let name = &parameters.spec().name;
                let reason = format!("parameters `{name}` name no small ring");
                Err(Error::conformance("linear layer", reason))
            }
        }
    }
}

/// How channels × height × width lie in coefficients, in a ring whose degree is the parameters': see [`Folded`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Folding {
    /// Coefficients from one place to the next.
    pub spacing: usize,
    /// Coefficients from one channel to the next.
    pub gap: usize,
    /// Places from one row to the next.
    pub pitch: usize,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

impl From<&Folded> for Folding {
    fn from(f: &Folded) -> Self {
        Self {
            spacing: f.spacing(),
            gap: f.gap(),
            pitch: f.pitch(),
            shape: f.shape(),
        }
    }
}

impl Folding {
    /// The layout in a ring of degree n.
    ///
    /// # Errors
    /// [`Error::Conformance`] unless it fits.
    pub fn folded(&self, n: usize) -> Result<Folded, Error> {
        Folded::new(n, self.spacing, self.gap, self.pitch, self.shape)
    }
    /// Slots of its ciphertexts in a ring of degree n.
    pub const fn slots(&self, n: usize) -> usize {
        match self.gap {
            0 => 0,
            gap => n / 2 / gap,
        }
    }
    /// Whether every place has a value.
    fn full(&self, n: usize) -> bool {
        let [_, height, width] = self.shape;
        n / self.spacing == height * width && self.pitch == width
    }
    /// For each part in slots ([`Parts`]) ones where a value lies and zeros elsewhere, in their shortest period; none where every place has a value.
    pub fn masks(&self, n: usize) -> Vec<Arc<[f32]>> {
        if self.full(n) {
            return Vec::new();
        }
        let [_, height, width] = self.shape;
        let half = self.slots(n);
        // the values of a ciphertext are `gap` coefficients apart
        let each = self.spacing / self.gap;
        let valid = |v: usize| {
            let place = v / each;
            (place / self.pitch < height && place % self.pitch < width) as u8 as f32
        };
        let mut both = [vec![0.0; half], vec![0.0; half]];
        for (part, values) in both.iter_mut().enumerate() {
            for j in 0..half {
                values[slot_of(j, half)] = valid(part * half + j);
            }
        }
        let [first, second] = both;
        if self.gap == 1 {
            let period = shortest(&first).max(shortest(&second));
            [first, second].map(|v| v[..period].into()).into()
        } else {
            vec![[first, second].concat().into()]
        }
    }
}

/// The shortest period of `v`, a power of two.
fn shortest(v: &[f32]) -> usize {
    let mut period = v.len();
    while period > 1 && v[..period / 2] == v[period / 2..period] {
        period /= 2;
    }
    period
}

/// A summand of a linear layer, generic in how weights are held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermOn<Rows> {
    /// A convolution of a folded tensor.
    Kernel {
        /// The tensor's ciphertexts.
        inputs: Vec<Register>,
        /// How it lies.
        from: Folding,
        /// Rows and columns.
        kernel: [usize; 2],
        /// Rows above and columns to the left of its place where an output begins to look.
        before: [usize; 2],
        /// Rows and columns from one output to the next.
        stride: usize,
        /// Groups of channels.
        groups: usize,
        /// Whether each weight stands for all rows and columns.
        flat: bool,
        /// In the order output, channel of its group, row, column.
        weights: Rows,
    },
    /// A tensor that lies as the output, times an integer.
    Multiple {
        /// The tensor's ciphertexts.
        inputs: Vec<Register>,
        /// In units of the parameters' ([`Parameters::weight_unit`]).
        factor: i32,
    },
}

/// A summand with its weights.
pub type Term = TermOn<Integers>;

impl<Rows> TermOn<Rows> {
    /// Operands.
    pub fn inputs(&self) -> &[Register] {
        match self {
            Self::Kernel { inputs, .. } | Self::Multiple { inputs, .. } => inputs,
        }
    }
    /// The same with its weights held otherwise.
    pub(crate) fn try_map<R, E>(
        self,
        rows: impl FnOnce(Rows) -> Result<R, E>,
    ) -> Result<TermOn<R>, E> {
        Ok(match self {
            Self::Kernel {
                inputs,
                from,
                kernel,
                before,
                stride,
                groups,
                flat,
                weights,
            } => TermOn::Kernel {
                inputs,
                from,
                kernel,
                before,
                stride,
                groups,
                flat,
                weights: rows(weights)?,
            },
            Self::Multiple { inputs, factor } => TermOn::Multiple { inputs, factor },
        })
    }
}

/// Rows of which each weight is repeated.
struct Repeated<'a> {
    weights: &'a Integers,
    times: usize,
}

impl WeightRows for Repeated<'_> {
    fn read(&self, outputs: Range<usize>, rows: &mut [i32]) -> Result<(), Error> {
        let each = rows.len() / outputs.len().max(1) / self.times;
        let from = outputs.start * each;
        if self.times == 1 {
            return self.weights.read(from, rows);
        }
        let mut once = vec![0; rows.len() / self.times];
        self.weights.read(from, &mut once)?;
        let repeated = rows.chunks_exact_mut(self.times);
        repeated.zip(once).for_each(|(to, w)| to.fill(w));
        Ok(())
    }
    fn times(&self) -> usize {
        self.times
    }
    fn read_once(&self, output: usize, row: &mut [i32]) -> Result<(), Error> {
        self.weights.read(output * row.len(), row)
    }
    fn uniform(&self) -> bool {
        self.weights.uniform()
    }
    fn shared(&self) -> Option<Shared> {
        Some(self.weights.shared())
    }
}

impl Term {
    /// The convolution onto `to` in a ring of degree n, of whose ciphertexts each is seen as so many classes; none for a multiple.
    ///
    /// # Errors
    /// [`Error::Conformance`] where layouts, kernel and weights do not fit each other.
    pub fn layer(
        &self,
        to: &Folding,
        n: usize,
        classes: usize,
    ) -> Result<Option<Convolution>, Error> {
        let Self::Kernel {
            inputs,
            from,
            kernel,
            before,
            stride,
            groups,
            flat,
            weights,
        } = self
        else {
            return Ok(None);
        };
        let given = from.folded(n)?.ciphertexts();
        let [from, to] = [from, to].map(|f| f.folded(n)?.narrowed(classes));
        let (from, to) = (from?, to?);
        let taps = kernel[0].saturating_mul(kernel[1]);
        if taps == 0 || taps > n {
            return Err(Error::conformance("kernel", format!("of {kernel:?}")));
        }
        // before anything of their size is made
        let [[channels, ..], [outputs, ..]] = [from.shape(), to.shape()];
        let row = channels.checked_div(*groups).unwrap_or(0);
        let row = row.checked_mul(if *flat { 1 } else { taps });
        let needed = row.and_then(|row| row.checked_mul(outputs));
        if inputs.len() != given || Some(weights.len()) != needed {
            let reason = format!(
                "{} ciphertexts and {} weights for {channels} channels in {} ciphertexts, {outputs} outputs and kernels of {kernel:?}",
                inputs.len(),
                weights.len(),
                given
            );
            return Err(Error::conformance("linear layer", reason));
        }
        Convolution::new(&from, &to, *kernel, *before, *stride, *groups).map(Some)
    }
}

/// A linear layer: Σ terms + bias, at level 0. A bias is of the values of a ciphertext, in the order of their coefficients, repeated.
///
/// # Errors
/// What the interpreter refuses.
pub(crate) fn weigh<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[A::Value],
    (to, terms, within): (&Folding, &[Term], Within),
    bias: &[Option<Arc<[f64]>>],
) -> Result<Vec<A::Value>, Error> {
    let n = a.parameters().n();
    let unit = a.parameters().weight_unit();
    let classes = within.classes(a.parameters())?;
    let small = a.small().filter(|_| within == Within::Small);
    let mut xs = xs.iter();
    let mut sums: Vec<Option<Coefficients<A::Value>>> = vec![None; bias.len()];
    // of the kernels, in the ring that they are carried out in
    let mut inner = vec![None; bias.len() * classes];
    for term in terms {
        let operands = xs.by_ref().take(term.inputs().len());
        let operands: Vec<_> = operands
            .map(|x| Coefficients::of(a, x.clone()))
            .collect::<Result<_, _>>()?;
        match term {
            Term::Kernel {
                weights,
                flat,
                kernel,
                ..
            } => {
                let Some(layer) = term.layer(to, n, classes)? else {
                    continue;
                };
                let times = if *flat { kernel[0] * kernel[1] } else { 1 };
                let rows = Repeated { weights, times };
                match small {
                    None => {
                        let packed = a.convolve(&operands, &layer, &rows, unit)?;
                        add(a, &mut inner, packed)?;
                    }
                    Some(small) => {
                        let narrowed = operands.iter().map(|x| a.narrow(x));
                        let narrowed: Vec<Vec<_>> = narrowed.collect::<Result<_, _>>()?;
                        drop(operands);
                        let packed = small.convolve(&narrowed.concat(), &layer, &rows, unit)?;
                        add(small, &mut inner, packed)?;
                    }
                }
            }
            Term::Multiple { factor, .. } => {
                let times = operands.iter().map(|x| {
                    let y = a.mul_integer(x.value(), i64::from(*factor))?;
                    let scale = a.info(&y).scale * unit;
                    Ok(Some(Coefficients::of(a, a.with_scale(&y, scale)?)?))
                });
                add(a, &mut sums, times.collect::<Result<Vec<_>, Error>>()?)?;
            }
        }
    }
    let whole: Vec<Option<Coefficients<A::Value>>> = match within {
        Within::Whole => inner,
        Within::Small => (inner.chunks(classes))
            .map(|c| match c.iter().any(Option::is_some) {
                true => Ok(Some(a.widen(c)?)),
                false => Ok(None),
            })
            .collect::<Result<_, Error>>()?,
    };
    add(a, &mut sums, whole)?;
    let (base, slots) = (a.parameters().scale(Level::new(0)), to.slots(n));
    let result = |sum: Option<Coefficients<A::Value>>, bias: &Option<Arc<[f64]>>| {
        let sum =
            sum.ok_or_else(|| Error::conformance("linear layer", "an output without terms"))?;
        let y = a.with_exact_scale(&a.rescale(sum.value())?, base)?;
        let y = a.with_slots(&y, slots)?;
        match bias {
            None => Ok(y),
            Some(b) => Ok(a.add_values(&Coefficients::of(a, y)?, b)?.into_value()),
        }
    };
    let outputs = sums.into_iter().zip(bias);
    outputs.map(|(sum, bias)| result(sum, bias)).collect()
}

/// Adds to sums what is there.
fn add<A: Arithmetic + ?Sized>(
    a: &A,
    sums: &mut [Option<Coefficients<A::Value>>],
    values: Vec<Option<Coefficients<A::Value>>>,
) -> Result<(), Error> {
    for (sum, y) in sums.iter_mut().zip(values) {
        *sum = match (sum.take(), y) {
            (Some(sum), Some(y)) => Some(sum.plus(a, &y)?),
            (sum, y) => sum.or(y),
        };
    }
    Ok(())
}

/// The way up, and an integer multiple of what comes. To a lower target values are multiplied by [`HalfBootstrap::ratio`] as well.
///
/// # Errors
/// What the interpreter refuses.
pub(crate) fn rise<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    target: usize,
    gain: u32,
) -> Result<Vec<A::Value>, Error> {
    let x = Coefficients::of(a, x.clone())?;
    let (half, p) = (HalfBootstrap { target }, a.parameters());
    let x = match Level::new(target) < p.residual() {
        true => x.with_scale(a, p.base_scale(Level::new(target)))?,
        false => x,
    };
    let Parts { first, second } = a.half_bootstrap(&x, &half)?;
    let times = |v: A::Value| match gain {
        1 => Ok(v),
        gain => a.mul_integer(&v, i64::from(gain)),
    };
    [Some(first), second]
        .into_iter()
        .flatten()
        .map(times)
        .collect()
}

/// The way down, with zeros where `from` has no value.
///
/// # Errors
/// What the interpreter refuses.
pub(crate) fn descend<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[A::Value],
    from: &Folding,
) -> Result<A::Value, Error> {
    masked(a, xs, from, from.masks(a.parameters().n()))
}

/// The same for bounds: zeros let nothing grow, so ones are in their place, which are the same for all layouts.
///
/// # Errors
/// What the interpreter refuses.
pub(crate) fn descend_bounded<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[A::Value],
    from: &Folding,
) -> Result<A::Value, Error> {
    let masks = match from.full(a.parameters().n()) {
        true => 0,
        false => xs.len(),
    };
    masked(a, xs, from, vec![[1.0].into(); masks])
}

fn masked<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[A::Value],
    from: &Folding,
    masks: Vec<Arc<[f32]>>,
) -> Result<A::Value, Error> {
    let p = a.parameters();
    let descent = Descent {
        slots: from.slots(p.n()),
        scale: p.scale(p.products()),
        masks,
    };
    let [first, rest @ ..] = xs else {
        return Err(Error::conformance("way down to coefficients", "no operand"));
    };
    let parts = Parts {
        first: first.clone(),
        second: rest.first().cloned(),
    };
    Ok(a.to_coefficients(&parts, &descent)?.into_value())
}

/// How the meter tells layers of the same weights from each other: the lengths of a row and of a kernel, outputs, channels of a ciphertext, classes.
type Grouping = [usize; 5];

/// What looking at layers in coefficients may take, in numbers that are looked at: kernels, leaves and other groupings of the same weights are
/// written in few bytes, and a plan that somebody else made must not take longer than its bytes pay for.
pub(crate) struct Allowance {
    left: usize,
    /// What tells weights from others, and how their rows are grouped, if that was looked at.
    seen: BTreeSet<((usize, u64), Option<Grouping>)>,
    layouts: BTreeSet<Folding>,
}

impl Default for Allowance {
    fn default() -> Self {
        // about as long as the tables of a bootstrap
        let left = 1 << 24;
        let (seen, layouts) = (BTreeSet::new(), BTreeSet::new());
        Self {
            left,
            seen,
            layouts,
        }
    }
}

impl Allowance {
    /// What a step's own bytes pay for.
    const STEP: usize = 1 << 12;

    fn spend(&mut self, numbers: usize) -> Result<(), String> {
        self.left = self.left.checked_sub(numbers).ok_or(
            "its layers in coefficients, or its sums of squares, would take far longer to check than its size allows",
        )?;
        Ok(())
    }
    /// For so many squares of a sum, each a handful of operations on values whose errors have many sources.
    pub(crate) fn squares(&mut self, count: usize) -> Result<(), String> {
        self.left = self.left.saturating_add(Self::STEP);
        self.spend(count.saturating_mul(500))
    }
    /// For so many products beside the first, each of which a plan writes in a few bytes.
    pub(crate) fn products(&mut self, count: usize) -> Result<(), String> {
        self.left = self.left.saturating_add(Self::STEP);
        self.spend(count.saturating_mul(50))
    }
    /// For the masks of a way down, made once for each layout.
    pub(crate) fn descend(&mut self, to: &Folding, n: usize) -> Result<(), String> {
        if !self.layouts.contains(to) {
            self.spend(n)?;
            self.layouts.insert(to.clone());
        }
        Ok(())
    }
    /// Whether weights were not seen in this grouping before; what is in the file pays for itself once.
    fn is_new(&mut self, weights: &Integers, grouping: Grouping) -> Result<bool, String> {
        let own = weights.identity();
        if self.seen.insert((own, None)) {
            self.left = self.left.saturating_add(weights.len());
        }
        let new = self.seen.insert((own, Some(grouping)));
        if new {
            self.spend(weights.len())?;
        }
        Ok(new)
    }
}

/// What of an operation's shape the meter cannot see.
pub(crate) fn check_weigh(
    (to, terms, within): (&Folding, &[Term], Within),
    bias: &[Option<Arc<[f64]>>],
    parameters: &Parameters,
    allowed: &mut Allowance,
) -> Result<(), String> {
    allowed.left = allowed.left.saturating_add(Allowance::STEP);
    let text = |e: Error| e.to_string();
    let (n, classes) = (parameters.n(), within.classes(parameters).map_err(text)?);
    let count = to.folded(n).map_err(text)?.ciphertexts();
    let (slots, most) = (to.slots(n), largest_weight(parameters));
    if bias.len() != count || terms.is_empty() || slots < 4 {
        return Err(format!(
            "{} outputs of {} terms, {slots} slots each; the layout has {count}",
            bias.len(),
            terms.len()
        ));
    }
    for term in terms {
        match term {
            Term::Kernel {
                weights,
                from,
                kernel,
                ..
            } => {
                let taps = kernel[0].saturating_mul(kernel[1]);
                allowed.spend(
                    from.shape[0]
                        .saturating_add(to.shape[0])
                        .saturating_add(taps)
                        // values of the small ring
                        .saturating_add(classes * term.inputs().len()),
                )?;
                let Some(layer) = term.layer(to, n, classes).map_err(text)? else {
                    continue;
                };
                let packed = layer.output().ciphertexts() * layer.spacing();
                allowed.spend(layer.leaf_count() + packed)?;
                let (to, outputs) = (layer.output(), layer.outputs());
                let (each, classes) = (to.channels_each(), to.classes());
                let grouping = [layer.row(), taps, outputs, each, classes];
                if !allowed.is_new(weights, grouping)? {
                    continue;
                }
                let largest = weights.largest();
                if largest > most {
                    return Err(format!(
                        "a weight of {largest}, at most {most} is supported"
                    ));
                }
            }
            Term::Multiple { inputs, factor } => {
                let factor = factor.unsigned_abs();
                if inputs.len() != count || factor > most {
                    return Err(format!("{} ciphertexts times {factor}", inputs.len()));
                }
            }
        }
    }
    for b in bias.iter().flatten() {
        let fits = b.len().is_power_of_two() && b.len() <= 2 * slots;
        let own = (b.as_ptr() as usize, 0);
        let new = allowed.seen.insert((own, None));
        if !fits || (new && b.iter().any(|v| !v.is_finite())) {
            return Err(format!("a bias of length {}", b.len()));
        }
    }
    Ok(())
}

/// Bytes of what ways down to these layouts keep encoded: a first map with masks for each.
pub(crate) fn masked_bytes(parameters: &Parameters, layouts: &BTreeSet<&Folding>) -> u64 {
    let n = parameters.n();
    let masks = layouts.iter().filter_map(|to| {
        let masks = to.masks(n);
        let period = masks.first()?.len();
        Some((to.slots(n), masks.len(), period))
    });
    memory::masked_maps(parameters, masks)
}

/// Root mean square of what integers in the place of factors change: each is off by half a unit at most, uniform. Those of kernels the meter knows.
pub(crate) fn rounding(terms: &[Term], operands: &[MeterValue], parameters: &Parameters) -> f64 {
    let unit = 1.0 / parameters.weight_unit() / 12f64.sqrt();
    let mut operands = operands.iter();
    let squares = terms.iter().map(|term| {
        let rms = operands.by_ref().take(term.inputs().len()).map(|x| x.rms);
        match term {
            Term::Multiple { .. } => (rms.fold(0.0, f64::max) * unit).powi(2),
            Term::Kernel { .. } => rms.map(|_| 0.0).sum(),
        }
    });
    squares.sum::<f64>().sqrt()
}

/// Bytes that a linear layer needs beside its operands: products before they are packed, operands in the ring of the products, sums.
pub(crate) fn weigh_bytes(
    (to, terms, within): (&Folding, &[Term], Within),
    parameters: &Parameters,
    one: u64,
) -> u64 {
    let together = (to.spacing / to.gap.max(1)).min(to.shape[0]);
    let outputs = to.shape[0].div_ceil(to.spacing / to.gap.max(1));
    let reads = terms.iter().map(|t| t.inputs().len()).max().unwrap_or(0);
    let classes = within.classes(parameters).unwrap_or(1);
    one * (together.div_ceil(classes) + reads + 2 * outputs + 24 / classes + 8) as u64
}
