//! Linear maps on tokens as products in coefficients: a matrix for every token, a 1×1 convolution of a picture of one row.

use super::tokens::Tokens;
use crate::Error;
use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp, chain_row};
use crate::normal::{Id, Quantity};
use crate::units::Units;
use runtime::folding::{Folding, LARGEST_WEIGHT, Term, WEIGHT_BITS, Within};
use runtime::{Operation, Register};
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

/// The layer of a quantity, whose sources lie in these layouts and have these registers.
pub(crate) fn operation<'a>(
    q: &Quantity,
    (terms, bias): (&[(Id, Chain)], &[f64]),
    layout: impl Fn(Id) -> &'a Layout,
    low: impl Fn(Id) -> Low,
    scaled: Scaled<'_>,
    outputs: Vec<Register>,
) -> Result<Operation, Error> {
    let rows = Tokens::leaves(&q.layout).unwrap_or_default();
    let to = Tokens::folding(&q.layout, &rows);
    let length = q.shape.columns();
    let mut made = Vec::new();
    for source in q.sources() {
        let from = layout(source);
        let columns = Tokens::leaves(from).unwrap_or_default();
        let (inputs, unit) = low(source);
        let chains: Vec<&Chain> = (terms.iter().filter(|t| t.0 == source).map(|t| &t.1)).collect();
        let factor = match scaled {
            Scaled::By(units) => unit * units.scale * f64::from(WEIGHT_BITS).exp2(),
            Scaled::Nothing => 0.0,
        };
        let integer = |w: f64| {
            let w = (w * factor).round();
            if w.abs() <= f64::from(LARGEST_WEIGHT) {
                #[expect(clippy::cast_possible_truncation, reason = "within 2^24")]
                return Ok(w as i32);
            }
            Err(Error::Weight {
                layer: q.layer.clone(),
                value: w / f64::from(WEIGHT_BITS).exp2(),
            })
        };
        let times = |chain: &&Chain| {
            let each = chain.iter().map(|l| l.op.scalar());
            each.product::<Option<f64>>()
        };
        let multiple: Option<f64> = chains.iter().map(times).sum();
        if let (Some(w), true) = (multiple, *from == q.layout) {
            let factor = integer(w)?;
            made.push(Term::Multiple { inputs, factor });
            continue;
        }
        let from = Tokens::folding(from, &columns);
        let wide = from.shape[0];
        let mut weights = vec![0; to.shape[0] * wide];
        if let Scaled::By(_) = scaled {
            let matrix = matrix(&chains, rows.len(), columns.len(), length);
            for (row, leaf) in matrix.chunks(columns.len()).zip(&rows) {
                let to = &mut weights[leaf * wide..][..wide];
                for (w, column) in row.iter().zip(&columns) {
                    to[*column] = integer(*w)?;
                }
            }
        }
        made.push(Term::Kernel {
            inputs,
            from,
            kernel: [1, 1],
            before: [0, 0],
            stride: 1,
            groups: 1,
            flat: false,
            weights: weights.into(),
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

/// The sum of chains for one token, row by row.
fn matrix(chains: &[&Chain], rows: usize, columns: usize, length: usize) -> Vec<f64> {
    let mut all = vec![0.0; rows * columns];
    for chain in chains {
        // a mean that is taken off last is one of each column
        let (inner, centred) = match chain.split_last() {
            Some((last, inner)) if matches!(last.op, LinearOp::Centre { .. }) => (inner, true),
            _ => (&chain[..], false),
        };
        let mut means = vec![0.0; columns];
        for (o, row) in all.chunks_mut(columns).enumerate() {
            chain_row(inner, o * length, 1.0, &mut |c, w| {
                row[c / length] += w;
                means[c / length] += w / rows as f64;
            });
        }
        for row in all.chunks_mut(columns).filter(|_| centred) {
            row.iter_mut().zip(&means).for_each(|(w, mean)| *w -= mean);
        }
    }
    all
}

/// What is added to each ciphertext, for every token the same.
fn biases(
    to: &Folding,
    rows: &[usize],
    ciphertexts: usize,
    value: impl Fn(usize) -> f64,
) -> Vec<Option<Arc<[f64]>>> {
    let mut all = vec![vec![0.0; to.spacing]; ciphertexts];
    for (o, leaf) in rows.iter().enumerate() {
        if let Some(of) = all.get_mut(leaf / to.spacing) {
            of[leaf % to.spacing] = value(o);
        }
    }
    let some = |b: Vec<f64>| b.iter().any(|v| *v != 0.0).then(|| b.into());
    all.into_iter().map(some).collect()
}
