//! Block maps carried out: their definition over any interpreter, and where operands and results stand.

use crate::map::GiantRotation;
use crate::typing::{self, Info};
use crate::{Arithmetic, BlockMap, Error, Level, Parameters};
use std::collections::BTreeMap;

/// The definition: rotations, products, sums, one rescale. Interpreters may be faster, never different.
///
/// # Errors
/// If the operands do not match the map, or no level is left.
pub fn apply<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[A::Value],
    map: &BlockMap,
    scale: f64,
) -> Result<Vec<A::Value>, Error> {
    let plain_scale = typed(a, xs, map, scale)?.plain_scale;
    let rotated = (0..map.inputs())
        .map(|i| {
            let babies = map.babies(i);
            let by: Vec<i64> = babies.iter().map(|&b| b as i64).collect();
            Ok(babies
                .into_iter()
                .zip(a.rotate_many(&xs[i], &by)?)
                .collect())
        })
        .collect::<Result<Vec<_>, Error>>()?;
    of_rotated(a, &rotated, map, (plain_scale, scale))
}

/// The definition of [`Arithmetic::raise_linear`].
///
/// # Errors
/// As [`apply`] and [`Arithmetic::mod_raise`].
pub fn apply_raised<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    to: Level,
    map: &BlockMap,
    scale: f64,
) -> Result<Vec<A::Value>, Error> {
    let raised = |b: usize| Ok((b, a.mod_raise(x, to, &[b])?));
    let rotated: Vec<_> = (map.babies(0).into_iter().map(raised)).collect::<Result<_, Error>>()?;
    let first: Vec<A::Value> = rotated.iter().take(1).map(|(_, x)| x.clone()).collect();
    let plain_scale = typed(a, &first, map, scale)?.plain_scale;
    of_rotated(a, &[rotated], map, (plain_scale, scale))
}

/// A map of inputs whose rotations by their baby steps are there, in order.
fn of_rotated<A: Arithmetic + ?Sized>(
    a: &A,
    rotated: &[Vec<(usize, A::Value)>],
    map: &BlockMap,
    (plain_scale, scale): (f64, f64),
) -> Result<Vec<A::Value>, Error> {
    let n = map.slots();
    let plus = |sum: Option<A::Value>, y: A::Value| match sum {
        None => Ok(y),
        Some(sum) => a.add(&sum, &y),
    };
    let mut outs = Vec::with_capacity(map.outputs());
    for (o, giant_rotations) in map.giant_rotations().into_iter().enumerate() {
        let mut sums: BTreeMap<usize, A::Value> = BTreeMap::new();
        for g in map.giants(o) {
            let mut inner: Option<A::Value> = None;
            for t in map.terms().iter().filter(|t| t.output == o && t.giant == g) {
                // rot_g(rot_{-g}(v) ⊙ rot_b(x)) = v ⊙ rot_{g+b}(x)
                let v = t.values.rotated(g);
                let x = &rotated[t.input]
                    .iter()
                    .find(|(b, _)| *b == t.baby)
                    .expect("every baby step was rotated")
                    .1;
                let p = a.mul_plain(x, &v, plain_scale)?;
                inner = Some(plus(inner, p)?);
            }
            sums.insert(g, inner.expect("a giant step has a term"));
        }
        let mut total: Option<A::Value> = None;
        for g in map.giants(o).iter().filter(|&&g| g % n == 0) {
            total = (sums.remove(g))
                .map(|sum| plus(total.take(), sum))
                .transpose()?;
        }
        for GiantRotation { giant, onto, by } in giant_rotations {
            let Some(sum) = sums.remove(&giant) else {
                continue;
            };
            let y = a.rotate(&sum, by as i64)?;
            match onto {
                None => total = Some(plus(total, y)?),
                Some(onto) => {
                    let sum = plus(sums.remove(&onto), y)?;
                    sums.insert(onto, sum);
                }
            }
        }
        let mut y = total.expect("an output has a term");
        for &f in map.folds() {
            y = a.add(&y, &a.rotate(&y, f as i64)?)?;
        }
        let y = a.rescale(&y)?;
        outs.push(a.with_slots(&a.with_exact_scale(&y, scale)?, n)?);
    }
    Ok(outs)
}

/// Where a map and its plaintexts stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Typed {
    /// The operands' level.
    pub level: Level,
    /// Scale at which the diagonals are encoded.
    pub plain_scale: f64,
    /// Of every output.
    pub result: Info,
}

/// Checks the operands of a map whose result is wanted at `scale`.
///
/// # Errors
/// If the operands do not match the map or each other, or no level is left.
pub fn typed<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[A::Value],
    map: &BlockMap,
    scale: f64,
) -> Result<Typed, Error> {
    let infos: Vec<Info> = xs.iter().map(|x| a.info(x)).collect();
    typed_at(a.parameters(), &infos, map, scale)
}

/// [`typed`] of operands that stand there.
pub(crate) fn typed_at(
    p: &Parameters,
    operands: &[Info],
    map: &BlockMap,
    scale: f64,
) -> Result<Typed, Error> {
    let Some(first) = operands.first().filter(|_| operands.len() == map.inputs()) else {
        let reason = format!("{} inputs given, {} needed", operands.len(), map.inputs());
        return Err(Error::conformance("block map", reason));
    };
    for here in operands {
        typing::sum("linear", first, here)?;
        typing::linear_degree("linear", here)?;
        if here.slots > map.slots() {
            return Err(Error::Slots {
                operation: "linear",
                slots: here.slots,
                most: map.slots(),
            });
        }
    }
    Ok(Typed {
        level: first.level,
        plain_scale: p.modulus(first.level) * scale / first.scale,
        result: Info {
            level: typing::below(p, "linear", first.level)?,
            scale,
            slots: map.slots(),
            degree: 1,
        },
    })
}
