//! Linear maps on tokens as products in coefficients: a matrix for every token, a 1×1 convolution of a picture of one row. One that makes a token alone of a sequence
//! reads its place there: what the product has at other coefficients, packing leaves out.

use super::attention::chosen;
use super::vectors::Low as Lies;
use crate::Error;
use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp, chain_row};
use crate::normal::{Id, Quantity};
use crate::units::Units;
use ckks::Parameters;
use runtime::folding::{Folding, Term, Within, largest_weight};
use runtime::{Integers, Operation, Register};
use std::sync::Arc;

/// Whether weights are looked at, or what they cost alone.
#[derive(Clone, Copy)]
pub(crate) enum Scaled<'a> {
    /// In the result's units.
    By(&'a Units),
    /// Their number alone.
    Nothing,
}

/// Where a source's values lie in coefficients, and network value / plan value.
pub(crate) type Low = (Vec<Register>, f64);

/// A weight as a plan holds it, from its value in units of the parameters' ([`Parameters::weight_unit`]).
pub(crate) fn integer(layer: &str, weight: f64, parameters: &Parameters) -> Result<i32, Error> {
    let (weight, most) = (weight.round(), f64::from(largest_weight(parameters)));
    if weight.abs() <= most {
        #[expect(clippy::cast_possible_truncation, reason = "within 2^28")]
        return Ok(weight as i32);
    }
    let (layer, value) = (layer.into(), weight / parameters.weight_unit());
    match value.is_finite() {
        true => Err(Error::Integer {
            layer,
            value,
            most: most / parameters.weight_unit(),
        }),
        false => Err(Error::Weight { layer, value }),
    }
}

/// How a layout's values lie in coefficients, of a map that was chosen to be there.
fn lies(q: &Quantity, layout: &Layout, n: usize) -> Result<Lies, Error> {
    Lies::of(layout, n).ok_or_else(|| Error::Unsupported {
        layer: q.layer.clone(),
        operator: "linear layer".into(),
        reason: "its values do not lie in coefficients".into(),
        remedy: "compile it with linear layers in slots",
    })
}

/// The layer of a quantity, whose sources lie in these layouts and have these registers.
pub(crate) fn operation<'a>(
    q: &Quantity,
    (terms, bias): (&[(Id, Chain)], &[f64]),
    layout: impl Fn(Id) -> &'a Layout,
    low: impl Fn(Id) -> Low,
    scaled: Scaled<'_>,
    (outputs, parameters): (Vec<Register>, &Parameters),
) -> Result<Operation, Error> {
    let n = parameters.n();
    let Lies {
        leaves: rows,
        folding: to,
        ..
    } = lies(q, &q.layout, n)?;
    let length = q.shape.columns();
    let mut made = Vec::new();
    for source in q.sources() {
        let from = layout(source);
        let below = lies(q, from, n)?;
        let columns = below.leaves;
        let (inputs, unit) = low(source);
        let chains: Vec<&Chain> = (terms.iter().filter(|t| t.0 == source).map(|t| &t.1)).collect();
        let factor = match scaled {
            Scaled::By(units) => unit * units.scale * parameters.weight_unit(),
            Scaled::Nothing => 0.0,
        };
        let rounded = |w: f64| integer(&q.layer, w, parameters);
        let times = |chain: &&Chain| {
            let each = chain.iter().map(|l| l.op.scalar());
            each.product::<Option<f64>>()
        };
        let multiple: Option<f64> = chains.iter().map(times).sum();
        if let (Some(w), true) = (multiple, *from == q.layout) {
            let factor = rounded(w * factor)?;
            made.push(Term::Multiple { inputs, factor });
            continue;
        }
        let (from, kernel, wide) = match q.layout.is_table() || !from.is_table() {
            true => (below.folding, [1, 1], length),
            false => {
                let place = chosen(&chains, from.shape()).ok_or_else(|| apart(q))?;
                let (folding, kernel) = one_place(below.folding, place);
                (folding, kernel, from.shape().columns())
            }
        };
        let size = to.shape[0] * from.shape[0] * kernel[0];
        let weights = match scaled {
            Scaled::Nothing => Integers::made(size, 0, |_, out| out.fill(0)),
            Scaled::By(_) => {
                let places = (&rows[..], &columns[..], from.shape[0]);
                let matrix = Matrix::new(&chains, places, [length, wide], factor, kernel[0]);
                let largest = matrix.largest();
                let largest = rounded(largest)?.unsigned_abs();
                Integers::made(size, largest, move |first, out| matrix.read(first, out))
            }
        };
        made.push(Term::Kernel {
            inputs,
            from,
            kernel,
            before: [0, 0],
            stride: 1,
            groups: 1,
            flat: false,
            weights,
        });
    }
    let bias = biases(&to, &rows, outputs.len(), |o| match scaled {
        Scaled::By(units) => units.scale * (bias[o * length] + units.shift),
        Scaled::Nothing => 0.0,
    });
    Ok(Operation::Weigh {
        outputs,
        to,
        terms: made,
        bias,
        within: Within::Whole,
    })
}

/// A sequence seen as a picture of one column whose last row is this place, and the kernel that reads it there: rows may lie any number of places apart.
fn one_place(sequence: Folding, place: usize) -> (Folding, [usize; 2]) {
    let rows = 1 + usize::from(place > 0);
    let folding = Folding {
        pitch: place.max(1),
        shape: [sequence.shape[0], rows, 1],
        ..sequence
    };
    (folding, [rows, 1])
}

/// A token alone of more than one place of a sequence.
fn apart(q: &Quantity) -> Error {
    Error::Unsupported {
        layer: q.layer.clone(),
        operator: "linear layer".into(),
        reason: "it reads several places of a sequence".into(),
        remedy: "compile it with linear layers in slots",
    }
}

/// The sum of chains for one token as integers, made a few rows at a time: whole, it would be as large as the network.
struct Matrix {
    chains: Vec<Chain>,
    /// The output and the input of each row and column; none where there is no such one.
    rows: Vec<Option<usize>>,
    columns: Vec<Option<usize>>,
    /// Places of a channel of outputs and of inputs.
    lengths: [usize; 2],
    factor: f64,
    /// Weights of a kernel, of which the last counts and the others are zeros.
    taps: usize,
    /// Of each chain whose mean is taken off last, the mean of each column.
    means: Vec<Option<Vec<f64>>>,
}

impl Matrix {
    fn new(
        chains: &[&Chain],
        (rows, columns, wide): (&[usize], &[usize], usize),
        lengths: [usize; 2],
        factor: f64,
        taps: usize,
    ) -> Self {
        let places = |leaves: &[usize], count: usize| {
            let mut of = vec![None; count];
            leaves
                .iter()
                .enumerate()
                .for_each(|(i, leaf)| of[*leaf] = Some(i));
            of
        };
        let count = rows.iter().max().map_or(0, |l| l + 1);
        let mut all = Self {
            chains: Vec::new(),
            rows: places(rows, count),
            columns: places(columns, wide),
            lengths,
            factor,
            taps,
            means: Vec::new(),
        };
        let [length, from] = lengths;
        for chain in chains {
            // a mean that is taken off last is one of each column
            let (inner, centred) = match chain.split_last() {
                Some((last, inner)) if matches!(last.op, LinearOp::Centre { .. }) => (inner, true),
                _ => (&chain[..], false),
            };
            let means = centred.then(|| {
                let mut means = vec![0.0; columns.len()];
                for o in 0..rows.len() {
                    chain_row(inner, o * length, 1.0, &mut |c, w| {
                        means[c / from] += w / rows.len() as f64;
                    });
                }
                means
            });
            all.chains.push(inner.to_vec());
            all.means.push(means);
        }
        all
    }

    /// Row `o`, scaled, not rounded.
    fn row(&self, o: usize, row: &mut [f64]) {
        row.fill(0.0);
        let [length, from] = self.lengths;
        for (chain, means) in self.chains.iter().zip(&self.means) {
            chain_row(chain, o * length, self.factor, &mut |c, w| {
                row[c / from] += w
            });
            for (w, mean) in row.iter_mut().zip(means.iter().flatten()) {
                *w -= self.factor * mean;
            }
        }
    }

    fn inputs(&self) -> usize {
        self.columns.iter().flatten().count()
    }

    /// The largest magnitude of all, rounded.
    fn largest(&self) -> f64 {
        let mut row = vec![0.0; self.inputs()];
        self.rows.iter().flatten().fold(0.0f64, |most, o| {
            self.row(*o, &mut row);
            row.iter().fold(most, |m, w| m.max(w.round().abs()))
        })
    }

    /// Integers from a place on, row by row.
    fn read(&self, first: usize, out: &mut [i32]) {
        let wide = self.columns.len();
        let (mut row, mut made) = (vec![0.0; self.inputs()], None);
        for (at, w) in (first..).zip(out) {
            let (place, tap) = (at / self.taps, at % self.taps);
            let (o, column) = (self.rows[place / wide], self.columns[place % wide]);
            let (Some(o), Some(column), true) = (o, column, tap + 1 == self.taps) else {
                *w = 0;
                continue;
            };
            if made != Some(o) {
                self.row(o, &mut row);
                made = Some(o);
            }
            #[expect(clippy::cast_possible_truncation, reason = "within 2^28")]
            let integer = row[column].round() as i32;
            *w = integer;
        }
    }
}

/// What is added to each ciphertext, for every token the same.
fn biases(
    to: &Folding,
    rows: &[usize],
    ciphertexts: usize,
    value: impl Fn(usize) -> f64,
) -> Vec<Option<Arc<[f64]>>> {
    let each = to.spacing / to.gap;
    let mut all = vec![vec![0.0; each]; ciphertexts];
    for (o, leaf) in rows.iter().enumerate() {
        if let Some(of) = all.get_mut(leaf / each) {
            of[leaf % each] = value(o);
        }
    }
    let some = |b: Vec<f64>| b.iter().any(|v| *v != 0.0).then(|| b.into());
    all.into_iter().map(some).collect()
}
