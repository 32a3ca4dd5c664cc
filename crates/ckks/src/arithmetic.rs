//! The one trait over which every circuit is written.

use crate::coefficients::Parts;
use crate::typing::{self, Info};
use crate::{
    BlockMap, Bootstrap, Coefficients, Complex64, Context, Convolution, Descent, Error,
    HalfBootstrap, Level, Parameters, Polynomial, WeightRows, packing,
};
use std::sync::Arc;

/// The primitives of CKKS and the circuits provided on top of them.
///
/// An override of a provided method may only be faster: it never changes levels, scales or rotation keys.
/// Rotations are to the left: `rotate(x, k)[j] = x[j + k]`.
///
/// # Errors
/// Every operation refuses operands whose levels, scales, degrees or slots do not fit together, and a key that is missing: see [`Error`].
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Arithmetic: Sync {
    /// A ciphertext, a vector, or a record of what is known about one.
    type Value: Clone + Send + Sync;

    /// The parameters of this interpreter, with what is computed from them alone.
    fn context(&self) -> &Context;
    /// The parameters of this interpreter.
    fn parameters(&self) -> &Parameters {
        self.context().parameters()
    }
    /// Level, scale, period and degree of a value.
    fn info(&self, x: &Self::Value) -> Info;

    /// x + y, at the same level and scale. Period: the larger of both.
    fn add(&self, x: &Self::Value, y: &Self::Value) -> Result<Self::Value, Error>;
    /// x − y, at the same level and scale.
    fn sub(&self, x: &Self::Value, y: &Self::Value) -> Result<Self::Value, Error>;
    /// x + v, with v (length a power of two) encoded at x's level and scale.
    fn add_plain(&self, x: &Self::Value, v: &[Complex64]) -> Result<Self::Value, Error>;
    /// x ⊙ v with v encoded at `scale`; the result's scale is the product, its level unchanged.
    fn mul_plain(&self, x: &Self::Value, v: &[Complex64], scale: f64)
    -> Result<Self::Value, Error>;
    /// Σ cᵢ·xᵢ + c at `level` and `scale`: every xᵢ (at `level` or above, at any scale sᵢ) is multiplied by the
    /// integer round(cᵢ·scale/sᵢ). No level is consumed; rescaling afterwards is up to the caller.
    fn linear_combination(
        &self,
        terms: &[(f64, &Self::Value)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<Self::Value, Error>;
    /// k·x for an integer k, exactly: no level, same scale.
    fn mul_integer(&self, x: &Self::Value, k: i64) -> Result<Self::Value, Error>;
    /// x·m^−1 modulo the level's Q, exactly: no level, same scale. Where what is made of the result is a multiple of m, it is m times less than
    /// what is made of x; alone it is no small number. `m` is below every prime.
    fn divide_exactly(&self, x: &Self::Value, m: u64) -> Result<Self::Value, Error>;
    /// i·x: multiplication by X^(N/2), exact, no level.
    fn mul_i(&self, x: &Self::Value) -> Result<Self::Value, Error>;
    /// x·y, of degree 2, not relinearised, not rescaled; scales multiply.
    fn mul(&self, x: &Self::Value, y: &Self::Value) -> Result<Self::Value, Error>;
    /// Degree 2 → degree 1.
    fn relinearize(&self, x: &Self::Value) -> Result<Self::Value, Error>;
    /// Divide by the product of the level's primes and go down one level.
    fn rescale(&self, x: &Self::Value) -> Result<Self::Value, Error>;
    /// Drop limbs down to `level`; value and scale unchanged.
    fn drop_to(&self, x: &Self::Value, level: Level) -> Result<Self::Value, Error>;
    /// Read the same ciphertext at another scale: the value is multiplied by (old scale / new scale), exactly and for nothing.
    fn with_scale(&self, x: &Self::Value, scale: f64) -> Result<Self::Value, Error>;
    /// Rotate left by `by` slots (any integer, taken modulo N/2).
    fn rotate(&self, x: &Self::Value, by: i64) -> Result<Self::Value, Error>;
    /// Complex conjugate of every slot.
    fn conjugate(&self, x: &Self::Value) -> Result<Self::Value, Error>;
    /// Level 0 → `to`: the value becomes x + (q0/scale)·I in the coefficients, |I| ≤ K; the scale stays. Of that the sum of its rotations to the left by
    /// `by`, at least one, different modulo N/2: each has a key that leads from the sparse secret, and no decomposition.
    fn mod_raise(&self, x: &Self::Value, to: Level, by: &[usize]) -> Result<Self::Value, Error>;
    /// Declares that from here on the vector has a smaller period (the caller knows that it is so).
    fn with_slots(&self, x: &Self::Value, slots: usize) -> Result<Self::Value, Error>;

    /// The caller knows |x| ≤ bound (a Chebyshev polynomial stays in [−1, 1]): a hint for the meter, no work.
    fn assume_bound(&self, x: &Self::Value, bound: f64) -> Result<Self::Value, Error> {
        let _ = bound;
        Ok(x.clone())
    }
    /// The value at `level` (at or below its own) at that level's canonical scale: one multiplication by a constant where it moves.
    fn align(&self, x: &Self::Value, level: Level) -> Result<Self::Value, Error> {
        let parameters = self.parameters();
        let here = self.info(x);
        let scale = parameters.scale(level);
        if here.level == level {
            typing::scales("align", here.scale, scale)?;
            return Ok(x.clone());
        }
        typing::reaches("align", level, here.level)?;
        let above = parameters.above(level, here.level);
        let y =
            self.linear_combination(&[(1.0, x)], 0.0, above, scale * parameters.modulus(above))?;
        let y = self.rescale(&y)?;
        self.with_exact_scale(&y, scale)
    }
    /// Sets the scale to `scale`, from which it differs by rounding only.
    fn with_exact_scale(&self, x: &Self::Value, scale: f64) -> Result<Self::Value, Error> {
        let here = self.info(x).scale;
        typing::scales("with_exact_scale", here, scale)?;
        if here == scale {
            Ok(x.clone())
        } else {
            self.with_scale(x, scale)
        }
    }
    /// factor·x·y + Σ cᵢ·zᵢ + constant, of degree 2, at the product's level and scale; the factor is an integer. An override goes through memory once.
    fn mul_combination(
        &self,
        (factor, x, y): (f64, &Self::Value, &Self::Value),
        terms: &[(f64, &Self::Value)],
        constant: f64,
    ) -> Result<Self::Value, Error> {
        let product = self.mul(x, y)?;
        let here = self.info(&product);
        let all: Vec<(f64, &Self::Value)> = std::iter::once((factor, &product))
            .chain(terms.iter().copied())
            .collect();
        self.linear_combination(&all, constant, here.level, here.scale)
    }
    /// Degree 2 → degree 1 and one level down. An override divides by P and the level's primes at once.
    fn relinearize_rescale(&self, x: &Self::Value) -> Result<Self::Value, Error> {
        self.rescale(&self.relinearize(x)?)
    }
    /// x·y relinearised and rescaled.
    fn mul_rescale(&self, x: &Self::Value, y: &Self::Value) -> Result<Self::Value, Error> {
        self.relinearize_rescale(&self.mul(x, y)?)
    }
    /// Several rotations of one value: one decomposition.
    fn rotate_many(&self, x: &Self::Value, by: &[i64]) -> Result<Vec<Self::Value>, Error> {
        by.iter().map(|&k| self.rotate(x, k)).collect()
    }
    /// A block map: many in, many out, one level; the result is at `scale` (after the rescale that it contains).
    fn linear(
        &self,
        xs: &[Self::Value],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Self::Value>, Error> {
        crate::linear::apply(self, xs, map, scale)
    }
    /// ModRaise to `to`, then a block map of one input: its baby steps are rotations of [`Arithmetic::mod_raise`].
    fn raise_linear(
        &self,
        x: &Self::Value,
        to: Level,
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Self::Value>, Error> {
        crate::linear::apply_raised(self, x, to, map, scale)
    }
    /// p(x) for x in [−1, 1], at the canonical scale `p.depth()` levels below.
    fn polynomial(&self, x: &Self::Value, p: &Polynomial) -> Result<Self::Value, Error> {
        crate::polynomial::evaluate(self, x, p)
    }
    /// sin(2πv) for a bootstrap, from v/R: a cosine and its double angles.
    fn eval_mod(&self, x: &Self::Value, cosine: &Polynomial) -> Result<Self::Value, Error> {
        crate::bootstrap::eval_mod(self, x, cosine)
    }
    /// Refresh: see [`Bootstrap`].
    fn bootstrap(
        &self,
        x: &Parts<Self::Value>,
        b: &Bootstrap,
    ) -> Result<Parts<Self::Value>, Error> {
        b.apply(self, x)
    }
    /// Slots → coefficients: see [`Descent`].
    fn to_coefficients(
        &self,
        parts: &Parts<Self::Value>,
        d: &Descent,
    ) -> Result<Coefficients<Self::Value>, Error> {
        d.apply(self, parts)
    }
    /// x + Σ b[j modulo its length]·X^(gap·j): values in coefficients in their order, a power of two of them and at most all that x has.
    fn add_values(
        &self,
        x: &Coefficients<Self::Value>,
        b: &Arc<[f64]>,
    ) -> Result<Coefficients<Self::Value>, Error> {
        crate::coefficients::add_values(self, x, b)
    }
    /// Coefficients → slots, refreshed: see [`HalfBootstrap`].
    fn half_bootstrap(
        &self,
        x: &Coefficients<Self::Value>,
        h: &HalfBootstrap,
    ) -> Result<Parts<Self::Value>, Error> {
        h.apply(self, x)
    }

    /// X^exponent·x for any integer exponent: coefficients move, those that pass X^N change their sign. Exact, no level.
    fn shift(
        &self,
        x: &Coefficients<Self::Value>,
        exponent: i64,
    ) -> Result<Coefficients<Self::Value>, Error> {
        packing::shift(self, x, exponent)
    }
    /// The products of a linear layer for some of its outputs: for each the output's places at the coefficients that
    /// [`Convolution::leaves`] names, and what may be anything at all others.
    ///
    /// Weights are integers, `scale` times those that the layer is meant to have; scales multiply, the level stays. No key, no error of its own.
    fn weigh(
        &self,
        xs: &[Coefficients<Self::Value>],
        layer: &Convolution,
        outputs: std::ops::Range<usize>,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Coefficients<Self::Value>>, Error> {
        packing::weigh(self, xs, layer, outputs, weights, scale)
    }
    /// Many values in coefficients in one: see [`packing::pack`].
    fn pack(
        &self,
        leaves: &[(usize, usize, &Coefficients<Self::Value>)],
        spacing: usize,
    ) -> Result<Coefficients<Self::Value>, Error> {
        packing::pack(self, leaves, spacing)
    }
    /// One value in coefficients as its classes modulo `spacing`: see [`packing::unpack`].
    fn unpack(
        &self,
        x: &Coefficients<Self::Value>,
        spacing: usize,
    ) -> Result<Vec<Coefficients<Self::Value>>, Error> {
        packing::unpack(self, x, spacing)
    }
    /// A linear layer in coefficients: products, then packing ([`packing::convolve`]). Nothing where no channel of the output lies. At the operands' level,
    /// at the product of both scales; integers and scale as for [`Arithmetic::weigh`].
    fn convolve(
        &self,
        xs: &[Coefficients<Self::Value>],
        layer: &Convolution,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Option<Coefficients<Self::Value>>>, Error> {
        packing::convolve(self, xs, layer, weights, scale)
    }

    /// This interpreter in the small ring, where it has one: what [`Arithmetic::narrow`] gives belongs to it.
    fn small(&self) -> Option<&Self> {
        None
    }
    /// To the small ring: the classes of the coefficients modulo N/N', in order, each a value of [`Arithmetic::small`] at the same level and scale. One
    /// switch of keys; see [`crate::ring_switch`].
    fn narrow(
        &self,
        x: &Coefficients<Self::Value>,
    ) -> Result<Vec<Coefficients<Self::Value>>, Error> {
        let _ = x;
        typing::small_ring(self.parameters(), None)
    }
    /// Back from the small ring: the value whose classes these are; nothing stands for a class of zeros, of which there may be all but one. One switch
    /// of keys.
    fn widen(
        &self,
        classes: &[Option<Coefficients<Self::Value>>],
    ) -> Result<Coefficients<Self::Value>, Error> {
        let _ = classes;
        typing::small_ring(self.parameters(), None)
    }
}
