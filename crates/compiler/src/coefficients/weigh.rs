//! Linear maps on tokens as products in coefficients: a matrix for every token, a 1×1 convolution of a picture of one row.

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
    let weight = weight.round();
    if weight.abs() <= f64::from(largest_weight(parameters)) {
        #[expect(clippy::cast_possible_truncation, reason = "within 2^28")]
        return Ok(weight as i32);
    }
    Err(Error::Weight {
        layer: layer.into(),
        value: weight / parameters.weight_unit(),
    })
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
        let from = below.folding;
        let size = to.shape[0] * from.shape[0];
        let weights = match scaled {
            Scaled::Nothing => Integers::made(size, 0, |_, out| out.fill(0)),
            Scaled::By(_) => {
                let matrix = Matrix::new(&chains, (&rows, &columns), length, factor, from.shape[0]);
                let largest = matrix.largest();
                let largest = rounded(largest)?.unsigned_abs();
                Integers::made(size, largest, move |first, out| matrix.read(first, out))
            }
        };
        made.push(Term::Kernel {
            inputs,
            from,
            kernel: [1, 1],
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

/// The sum of chains for one token as integers, made a few rows at a time: whole, it would be as large as the network.
struct Matrix {
    chains: Vec<Chain>,
    /// The output and the input of each row and column; none where there is no such one.
    rows: Vec<Option<usize>>,
    columns: Vec<Option<usize>>,
    length: usize,
    factor: f64,
    /// Of each chain whose mean is taken off last, the mean of each column.
    means: Vec<Option<Vec<f64>>>,
}

impl Matrix {
    fn new(
        chains: &[&Chain],
        (rows, columns): (&[usize], &[usize]),
        length: usize,
        factor: f64,
        wide: usize,
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
            length,
            factor,
            means: Vec::new(),
        };
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
                        means[c / length] += w / rows.len() as f64;
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
        for (chain, means) in self.chains.iter().zip(&self.means) {
            chain_row(chain, o * self.length, self.factor, &mut |c, w| {
                row[c / self.length] += w
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
        for (place, w) in (first..).zip(out) {
            let (o, column) = (self.rows[place / wide], self.columns[place % wide]);
            let (Some(o), Some(column)) = (o, column) else {
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
