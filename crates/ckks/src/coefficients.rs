//! Values in coefficients: what lies below SlotToCoeff ([`crate::parameters`]), where a product with a polynomial is a matrix or a
//! convolution.
//!
//! A ciphertext's phase is scale·Σ xᵢ·X^(gap·i) with 2n real values xᵢ, gap = N/2n. Slots and coefficients are the same ciphertexts read in two
//! ways; the type keeps them apart, so that no circuit for slots compiles on coefficients. [`Descent`] leads down to them,
//! [`crate::HalfBootstrap`] up again. The n slots that [`crate::Info::slots`] speaks of are those of the same polynomial.

use crate::map::{Term, Values};
use crate::typing::{self, Info};
use crate::{Arithmetic, BlockMap, Ciphertext, Complex64, Error, Form, Level, Parameters};
use std::sync::Arc;

/// Real values in the coefficients of what an interpreter computes with, at a level below SlotToCoeff, of degree 1.
///
/// ```compile_fail,E0308
/// fn mixed<A: ckks::Arithmetic>(a: &A, slots: &A::Value, low: &ckks::Coefficients<A::Value>) {
///     let _ = a.add(slots, low);
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficients<V = Ciphertext>(V);

impl<V: Clone + Send + Sync> Coefficients<V> {
    /// Reads the coefficients of a value: what lay in its slots is left behind.
    ///
    /// # Errors
    /// [`Error::Degree`], or [`Error::Levels`] where the level is above SlotToCoeff's end.
    pub fn of<A: Arithmetic<Value = V> + ?Sized>(a: &A, x: V) -> Result<Self, Error> {
        let here = a.info(&x);
        typing::linear_degree("coefficients", &here)?;
        typing::in_coefficients(a.parameters(), "coefficients", here.level)?;
        Ok(Self(x))
    }
    /// The value, whose slots mean nothing.
    pub fn value(&self) -> &V {
        &self.0
    }
    /// The value, whose slots mean nothing.
    pub fn into_value(self) -> V {
        self.0
    }
    /// What becomes of them where an operation means the same for slots and coefficients.
    pub(crate) fn with(&self, f: impl FnOnce(&V) -> Result<V, Error>) -> Result<Self, Error> {
        Ok(Self(f(&self.0)?))
    }
    /// Distance of two values in the exponent of X.
    pub fn gap<A: Arithmetic<Value = V> + ?Sized>(&self, a: &A) -> usize {
        a.parameters().max_slots() / a.info(&self.0).slots
    }
    /// The caller needs only every `gap`-th coefficient (a power of two, at most N/2), whatever the others hold.
    ///
    /// # Errors
    /// [`Error::Slots`].
    pub fn spaced<A: Arithmetic<Value = V> + ?Sized>(
        &self,
        a: &A,
        gap: usize,
    ) -> Result<Self, Error> {
        let slots = a.parameters().max_slots().checked_div(gap).unwrap_or(0);
        self.with(|x| a.with_slots(x, slots))
    }
    /// The same at another scale: every value times (old scale / new scale), exactly and for nothing.
    ///
    /// # Errors
    /// As [`Arithmetic::with_scale`].
    pub fn with_scale<A: Arithmetic<Value = V> + ?Sized>(
        &self,
        a: &A,
        scale: f64,
    ) -> Result<Self, Error> {
        self.with(|x| a.with_scale(x, scale))
    }
    /// x + y, at the same level and scale.
    ///
    /// # Errors
    /// As [`Arithmetic::add`].
    pub fn plus<A: Arithmetic<Value = V> + ?Sized>(&self, a: &A, y: &Self) -> Result<Self, Error> {
        self.with(|x| a.add(x, &y.0))
    }
    /// Divided by the level's primes, one level down.
    ///
    /// # Errors
    /// As [`Arithmetic::rescale`].
    pub fn rescale<A: Arithmetic<Value = V> + ?Sized>(&self, a: &A) -> Result<Self, Error> {
        self.with(|x| a.rescale(x))
    }
    /// The same at a lower level.
    ///
    /// # Errors
    /// As [`Arithmetic::drop_to`].
    pub fn drop_to<A: Arithmetic<Value = V> + ?Sized>(
        &self,
        a: &A,
        level: Level,
    ) -> Result<Self, Error> {
        self.with(|x| a.drop_to(x, level))
    }
}

/// Where coefficient j of n complex ones lies in slots, and the other way round: its bits reversed.
pub fn slot_of(j: usize, n: usize) -> usize {
    // of n = 1 there is no bit
    let bits = n.trailing_zeros();
    if bits == 0 {
        0
    } else {
        j.reverse_bits() >> (usize::BITS - bits)
    }
}

/// One or two real vectors in slots: those that a [`crate::Bootstrap`] refreshes together, or that hold the values of a ciphertext in coefficients,
/// in bit-reversed order ([`slot_of`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Parts<V> {
    /// Of N/2 slots: coefficients 0 to N/2. Of 2n slots, n < N/2: the values 0 to n, then n to 2n.
    pub first: V,
    /// Of N/2 slots: coefficients N/2 to N.
    pub second: Option<V>,
}

/// The way down: SlotToCoeff, whose first map also multiplies by masks.
///
/// The operands are [`Parts`] at the canonical scale of [`crate::Parameters::floor`] or above; imaginary parts of slots count as an error.
#[derive(Clone, Debug)]
pub struct Descent {
    /// The result has 2·slots values.
    pub slots: usize,
    /// Scale of the result, at level [`crate::Parameters::products`].
    pub scale: f64,
    /// None, or one for each part: every slot is multiplied by its value. A power of two of values, repeated over the slots.
    pub masks: Vec<Arc<[f32]>>,
}

impl Descent {
    /// Refuses so many operands, or masks, that do not fit each other.
    pub(crate) fn check(&self, p: &Parameters, operands: usize) -> Result<(), Error> {
        typing::bootstrapping(p)?;
        let masked = !self.masks.is_empty();
        let fits = |m: &Arc<[f32]>| m.len().is_power_of_two() && m.len() <= 2 * self.slots;
        if (operands > 1 && self.slots < p.max_slots())
            || (masked && (self.masks.len() != operands || !self.masks.iter().all(fits)))
        {
            let reason = format!(
                "{operands} parts and {} masks for 2^{} values",
                self.masks.len(),
                self.slots.max(1).ilog2() + 1
            );
            return Err(Error::conformance("way down to coefficients", reason));
        }
        typing::slots(p, "way down to coefficients", self.slots)
    }

    /// Carries it out.
    ///
    /// # Errors
    /// If the parameters have no level in coefficients, the operands do not fit each other, or the masks do not fit them.
    pub fn apply<A: Arithmetic + ?Sized>(
        &self,
        a: &A,
        parts: &Parts<A::Value>,
    ) -> Result<Coefficients<A::Value>, Error> {
        self.check(a.parameters(), parts.count())?;
        let floor = a.parameters().floor();
        let masked = !self.masks.is_empty();
        let operands = std::iter::once(&parts.first).chain(&parts.second);
        let maps = &a
            .context()
            .transforms(self.slots, Form::Real)?
            .slot_to_coeff;
        let low: Vec<A::Value> = operands
            .map(|x| a.align(x, floor))
            .collect::<Result<_, _>>()?;
        let y = match &low[..] {
            [re, im] if !masked => vec![a.add(re, &a.mul_i(im)?)?],
            _ => low,
        };
        let first = match masked {
            true => {
                let make = || self.masked(&maps[0]);
                Some(a.context().masked(self.slots, &self.masks, make)?)
            }
            false => None,
        };
        let y = slot_to_coeff(a, y, first.as_deref(), maps, self.scale)?;
        let y = a.with_slots(&y, self.slots)?;
        Coefficients::of(a, a.with_exact_scale(&y, self.scale)?)
    }
    /// D·(μ₀⊙x₀) + i·D·(μ₁⊙x₁) for the map D: the same offsets, one input for each mask.
    fn masked(&self, map: &BlockMap) -> Result<BlockMap, Error> {
        let turns = [Complex64::new(1.0, 0.0), Complex64::new(0.0, 1.0)];
        let inputs = self.masks.len();
        let terms = map.terms().iter().flat_map(|t| {
            let parts = self.masks.iter().zip(turns).enumerate();
            parts.map(|(input, (mask, turn))| {
                let offset = t.giant + t.baby;
                let values = (0..t.values.len().max(mask.len()))
                    .map(|j| t.values.at(j) * turn * f64::from(mask[(j + offset) % mask.len()]));
                Term {
                    input,
                    output: 0,
                    giant: t.giant,
                    baby: t.baby,
                    values: Values::Complex(values.collect()),
                }
            })
        });
        BlockMap::new(map.slots(), inputs, 1, terms.collect(), Vec::new())
    }
}

/// [`Arithmetic::add_values`] by a plaintext in slots.
pub(crate) fn add_values<A: Arithmetic + ?Sized>(
    a: &A,
    x: &Coefficients<A::Value>,
    b: &[f64],
) -> Result<Coefficients<A::Value>, Error> {
    let count = 2 * a.info(x.value()).slots;
    if !b.len().is_power_of_two() || b.len() > count {
        let reason = format!("{} values for {count}", b.len());
        return Err(Error::conformance("values in coefficients", reason));
    }
    let values: Vec<f64> = (0..count).map(|j| b[j % b.len()]).collect();
    let v = a.context().encoder().decode(&values)?;
    x.with(|x| a.add_plain(x, &v))
}

/// SlotToCoeff from [`crate::Parameters::floor`], to `scale`; `first` in the place of the first map, if given. Only the first map's plaintexts, of
/// short period, see the scale: the others are the same for all and are kept encoded once.
pub(crate) fn slot_to_coeff<A: Arithmetic + ?Sized>(
    a: &A,
    mut xs: Vec<A::Value>,
    first: Option<&BlockMap>,
    maps: &[BlockMap],
    scale: f64,
) -> Result<A::Value, Error> {
    let p = a.parameters();
    let ratio = scale / p.scale(p.products());
    let maps = first
        .into_iter()
        .chain(&maps[usize::from(first.is_some())..]);
    for map in maps {
        let below = typing::below(p, "SlotToCoeff", a.info(&xs[0]).level)?;
        xs = a.linear(&xs, map, p.scale(below) * ratio)?;
    }
    Ok(xs.swap_remove(0))
}

impl<V: Clone> Parts<V> {
    /// Of one vector.
    pub fn one(first: V) -> Self {
        Self {
            first,
            second: None,
        }
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        1 + usize::from(self.second.is_some())
    }
    /// Both, in order.
    pub fn into_vec(self) -> Vec<V> {
        std::iter::once(self.first).chain(self.second).collect()
    }
    /// Where they stand.
    pub(crate) fn infos<A: Arithmetic<Value = V> + ?Sized>(
        &self,
        a: &A,
    ) -> impl Iterator<Item = Info> {
        let all = std::iter::once(&self.first).chain(&self.second);
        all.map(|x| a.info(x)).collect::<Vec<_>>().into_iter()
    }
    /// first + i·second.
    pub(crate) fn joined<A: Arithmetic<Value = V> + ?Sized>(&self, a: &A) -> Result<V, Error> {
        match &self.second {
            Some(second) => a.add(&self.first, &a.mul_i(second)?),
            None => Ok(self.first.clone()),
        }
    }
    /// The same of each part.
    ///
    /// # Errors
    /// What `f` refuses.
    pub fn each<W>(&self, f: impl Fn(&V) -> Result<W, Error>) -> Result<Parts<W>, Error> {
        Ok(Parts {
            first: f(&self.first)?,
            second: self.second.as_ref().map(f).transpose()?,
        })
    }
}
