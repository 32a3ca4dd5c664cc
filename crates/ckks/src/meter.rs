//! The meter: what a circuit costs and how precise it is, from levels, scales and noise formulas alone.
//!
//! Errors are modelled as independent Gaussians: `deviation` is the root mean square of |error| over the slots, in the value's
//! units. A coefficient error of deviation e is a slot error of e·√N/scale. Rounding by a division of a ciphertext has
//! variance (1 + 2N/3)/12 in the coefficients (dense ternary secret); key switching adds N·σ²·Σ_d(Q_d/P)²/12 before it.

use crate::keys::{KeyName, KeyRequest, KeyUse, conjugation_element, galois_element};
use crate::typing::{self, Info};
use crate::work::{At, Cost, MapSize, division, passes};
use crate::{Arithmetic, BlockMap, Complex64, Context, Error, Level, Polynomial};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known about a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterValue {
    /// Level.
    pub level: Level,
    /// Scale.
    pub scale: f64,
    /// Period of its slots.
    pub slots: usize,
    /// Bound on |x| over the slots.
    pub bound: f64,
    /// Estimate from above of the root mean square of |x| over the slots: what a factor's error is multiplied by.
    pub rms: f64,
    /// Root mean square of |error| over the slots.
    pub deviation: f64,
    /// Largest deviation of a single slot's error, relative to the root mean square: rows of a matrix and slopes of a
    /// polynomial differ. A matrix mixes many slots, so what came before it counts by its mean.
    pub peak: f64,
    /// 1, or 2 before relinearisation.
    pub degree: usize,
}

/// How many deviations the largest error over the slots stays within. A rounding error e₁·s has in slot j the magnitude |e₁(ζ_j)|·|s(ζ_j)|, a
/// product of two Gaussians: P(> t deviations) ≈ exp(−2t), 2^−77 over 2^15 slots for t = 32. The rest is for what the model leaves out and what averages over slots do not diminish: correlations between slots and
/// the bias of the bootstrap's sine. On ResNet-20's logits, averages of 64 positions, errors of up to 28 deviations were seen.
const TAIL: f64 = 48.0;

impl MeterValue {
    /// The same, where `info` says.
    fn at(&self, info: Info) -> Self {
        Self {
            level: info.level,
            scale: info.scale,
            slots: info.slots,
            degree: info.degree,
            ..*self
        }
    }
    /// Bound on the largest |error| over the slots. The bias of a bootstrap's sine (see [`crate::bootstrap`]) is in it by the margin
    /// of the tail only.
    pub fn error_bound(&self) -> f64 {
        TAIL * self.peak * self.deviation
    }
}

#[derive(Debug, Default)]
struct State {
    cost: Cost,
    keys: KeyRequest,
    uses: KeyUse,
}

/// Interprets circuits on what is known about values; counts work and collects the keys needed.
#[derive(Debug)]
pub struct Meter {
    context: Context,
    state: Mutex<State>,
}

impl Meter {
    /// For a context's parameters.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            state: Mutex::default(),
        }
    }
    /// A fresh encryption of values up to `bound` at a residual level.
    ///
    /// # Errors
    /// If the slot count does not fit.
    pub fn input(&self, level: Level, slots: usize, bound: f64) -> Result<MeterValue, Error> {
        let info = typing::input(self.parameters(), level, slots)?;
        // seeded symmetric encryption: one Gaussian, and the encoder's rounding
        let deviation =
            self.slot_error(ring::GAUSSIAN_SIGMA * ring::GAUSSIAN_SIGMA + 1.0 / 12.0) / info.scale;
        Ok(MeterValue {
            level,
            scale: info.scale,
            slots,
            bound,
            rms: bound,
            deviation,
            peak: 1.0,
            degree: 1,
        })
    }
    /// The result of a circuit that computes `polynomial` of one operand on [−1, 1]: the circuit's own errors on an exact operand, then
    /// the operand's by the derivative, which the products inside of the circuit cannot see.
    ///
    /// # Errors
    /// What the circuit refuses.
    pub fn through(
        &self,
        x: &MeterValue,
        polynomial: &Polynomial,
        circuit: impl FnOnce(&MeterValue) -> Result<MeterValue, Error>,
    ) -> Result<MeterValue, Error> {
        let exact = MeterValue {
            deviation: 0.0,
            bound: x.bound.min(1.0),
            rms: x.rms.min(1.0),
            ..*x
        };
        let y = circuit(&exact)?;
        let (slope, steepest) = polynomial.slope();
        // a slot whose error is largest may also lie where the slope is
        let peak = if slope > 0.0 {
            x.peak * steepest / slope
        } else {
            1.0
        };
        let bound = polynomial.sup();
        Ok(MeterValue {
            peak: peak.max(1.0),
            bound,
            rms: bound,
            ..self.with_error(&y, x.deviation * slope)
        })
    }
    /// Work so far.
    pub fn cost(&self) -> Cost {
        self.state().cost
    }
    /// Keys needed so far.
    pub fn keys(&self) -> KeyRequest {
        self.state().keys.clone()
    }
    /// How keys were used so far.
    pub fn key_use(&self) -> KeyUse {
        self.state().uses.clone()
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn spend(&self, cost: Cost) {
        let mut state = self.state();
        state.cost = state.cost.plus(cost);
    }
    fn n(&self) -> f64 {
        self.parameters().n() as f64
    }
    fn slot_error(&self, coefficient_variance: f64) -> f64 {
        (self.n() * coefficient_variance).sqrt()
    }
    /// Slot error (times scale) of dividing a ciphertext with rounding.
    fn rounding(&self) -> f64 {
        self.slot_error((1.0 + 2.0 * self.n() / 3.0) / 12.0)
    }
    /// Slot error (times scale) of an inner product with a key, before the division by P.
    fn switching(&self, level: Level) -> f64 {
        let p = self.parameters();
        let kept = p.limbs(level);
        let sum: f64 = p
            .digits()
            .iter()
            .map(|d| {
                let log: f64 = kept
                    .iter()
                    .filter(|k| d.contains(k))
                    .map(|&k| (p.prime(k).value() as f64).log2())
                    .sum();
                if log == 0.0 {
                    0.0
                } else {
                    (2.0 * (log - p.log_p())).exp2()
                }
            })
            .sum();
        self.slot_error(self.n() * ring::GAUSSIAN_SIGMA * ring::GAUSSIAN_SIGMA * sum / 12.0)
    }
    /// Slot error (times scale) of a key switch.
    fn switched(&self, level: Level) -> f64 {
        self.rounding().hypot(self.switching(level))
    }
    /// A key, used once.
    fn need(&self, name: KeyName, level: Level) {
        let limit = self.parameters().key_limit(level);
        let mut state = self.state();
        state.keys.need(name, limit);
        *state.uses.times.entry(name).or_insert(0) += 1;
    }
    fn rotated(&self, x: &MeterValue, g: u64, decomposed: bool) -> Result<MeterValue, Error> {
        typing::linear_degree("rotate", &self.info(x))?;
        self.need(KeyName::Galois(g), x.level);
        let at = self.at(x.level);
        self.spend(at.rotation());
        if !decomposed {
            self.spend(at.decomposition());
        }
        Ok(self.with_error(x, self.switched(x.level) / x.scale))
    }
    /// The work at a level.
    fn at(&self, level: Level) -> At<'_> {
        At::new(self.parameters(), level)
    }
    fn with_error(&self, x: &MeterValue, deviation: f64) -> MeterValue {
        MeterValue {
            deviation: x.deviation.hypot(deviation),
            ..*x
        }
    }
    fn pair(
        &self,
        operation: &'static str,
        x: &MeterValue,
        y: &MeterValue,
    ) -> Result<MeterValue, Error> {
        let info = typing::sum(operation, &self.info(x), &self.info(y))?;
        let kept = self.at(x.level).kept;
        self.spend(passes(kept * (x.degree.max(y.degree) as f64 + 1.0)));
        Ok(MeterValue {
            bound: x.bound + y.bound,
            rms: x.rms + y.rms,
            deviation: x.deviation.hypot(y.deviation),
            peak: x.peak.max(y.peak),
            ..x.at(info)
        })
    }
    /// Error of a plaintext's rounding, in slots.
    fn plain_error(len: usize, scale: f64) -> f64 {
        (2.0 * len as f64 / 12.0).sqrt() / scale
    }
    fn magnitude(v: &[Complex64]) -> f64 {
        v.iter().map(|x| x.norm()).fold(0.0, f64::max)
    }
}

impl Arithmetic for Meter {
    type Value = MeterValue;

    fn context(&self) -> &Context {
        &self.context
    }
    fn info(&self, x: &MeterValue) -> Info {
        Info {
            level: x.level,
            scale: x.scale,
            slots: x.slots,
            degree: x.degree,
        }
    }
    fn add(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        self.pair("add", x, y)
    }
    fn sub(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        self.pair("sub", x, y)
    }
    fn add_plain(&self, x: &MeterValue, v: &[Complex64]) -> Result<MeterValue, Error> {
        let here = self.info(x);
        let info = typing::plain(self.parameters(), "add_plain", &here, v.len(), 1.0)?;
        let at = self.at(x.level);
        let (kept, mut cost) = (at.kept, at.encoding(v.len()));
        cost.passes += 2.0 * kept;
        self.spend(cost);
        let y = self.with_error(x, Self::plain_error(v.len(), x.scale));
        let magnitude = Self::magnitude(v);
        Ok(MeterValue {
            bound: x.bound + magnitude,
            rms: x.rms + magnitude,
            ..y.at(info)
        })
    }
    fn mul_plain(&self, x: &MeterValue, v: &[Complex64], scale: f64) -> Result<MeterValue, Error> {
        let here = self.info(x);
        let info = typing::plain(self.parameters(), "mul_plain", &here, v.len(), scale)?;
        let at = self.at(x.level);
        let (kept, mut cost) = (at.kept, at.encoding(v.len()));
        cost.multiply_adds += kept * (x.degree as f64 + 1.0);
        self.spend(cost);
        let magnitude = Self::magnitude(v);
        let deviation = (x.deviation * magnitude).hypot(x.rms * Self::plain_error(v.len(), scale));
        Ok(MeterValue {
            bound: x.bound * magnitude,
            rms: x.rms * magnitude,
            deviation,
            ..x.at(info)
        })
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &MeterValue)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<MeterValue, Error> {
        let info = typing::combination(terms.iter().map(|(_, x)| self.info(x)), level, scale)?;
        let kept = self.at(level).kept;
        let (mut bound, mut rms, mut variance, mut peak) =
            (constant.abs(), constant.abs(), 0.0, 1.0f64);
        for (c, x) in terms {
            bound += c.abs() * x.bound;
            rms += c.abs() * x.rms;
            // the constant's own rounding to an integer k
            let k = c * (scale / x.scale);
            variance += (c * x.deviation).powi(2)
                + (x.rms * (k - k.round()).abs() * x.scale / scale).powi(2);
            peak = peak.max(x.peak);
        }
        let polynomials: usize = terms.iter().map(|(_, x)| x.degree + 1).sum();
        self.spend(passes(kept * polynomials as f64));
        Ok(MeterValue {
            level,
            scale,
            slots: info.slots,
            bound,
            rms,
            deviation: variance.sqrt(),
            peak,
            degree: info.degree,
        })
    }
    fn mul_integer(&self, x: &MeterValue, k: i64) -> Result<MeterValue, Error> {
        let kept = self.at(x.level).kept;
        self.spend(passes(2.0 * kept));
        let k = (k as f64).abs();
        Ok(MeterValue {
            bound: x.bound * k,
            rms: x.rms * k,
            deviation: x.deviation * k,
            ..*x
        })
    }
    fn mul_i(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        let kept = self.at(x.level).kept;
        self.spend(passes(4.0 * kept));
        Ok(*x)
    }
    fn mul(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        let info = typing::product(&self.info(x), &self.info(y))?;
        let kept = self.at(x.level).kept;
        self.spend(Cost {
            multiply_adds: 4.0 * kept,
            ..Cost::default()
        });
        Ok(MeterValue {
            bound: x.bound * y.bound,
            rms: (x.rms * y.bound).min(x.bound * y.rms),
            // errors of a square are the same error twice
            deviation: x.rms * y.deviation + y.rms * x.deviation,
            peak: x.peak.max(y.peak),
            ..x.at(info)
        })
    }
    fn relinearize(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        if x.degree == 1 {
            return Ok(*x);
        }
        self.need(KeyName::Relinearization, x.level);
        let at = self.at(x.level);
        let mut cost = at.switch();
        cost.passes += 2.0 * at.kept;
        self.spend(cost);
        let y = self.with_error(x, self.switched(x.level) / x.scale);
        Ok(MeterValue { degree: 1, ..y })
    }
    fn rescale(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        let info = typing::rescaled(self.parameters(), &self.info(x))?;
        self.spend(self.at(x.level).rescale().times(x.degree as f64 + 1.0));
        let y = self.with_error(x, self.rounding() / info.scale);
        Ok(y.at(info))
    }
    fn relinearize_rescale(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        if x.degree == 1 {
            return self.rescale(x);
        }
        let info = typing::rescaled(self.parameters(), &self.info(x))?;
        self.need(KeyName::Relinearization, x.level);
        let at = self.at(x.level);
        let mut cost = at
            .decomposition()
            .plus(at.digit_limbs())
            .plus(at.times_key())
            .plus(at.down_and_rescale(at.special));
        cost.passes += 2.0 * at.kept;
        self.spend(cost);
        let y = self.with_error(x, self.switching(x.level) / x.scale);
        let y = self.with_error(&y, self.rounding() / info.scale);
        Ok(MeterValue {
            degree: 1,
            ..y.at(info)
        })
    }
    fn drop_to(&self, x: &MeterValue, level: Level) -> Result<MeterValue, Error> {
        Ok(x.at(typing::dropped(&self.info(x), level)?))
    }
    fn with_scale(&self, x: &MeterValue, scale: f64) -> Result<MeterValue, Error> {
        let ratio = x.scale / scale;
        Ok(MeterValue {
            scale,
            bound: x.bound * ratio,
            rms: x.rms * ratio,
            deviation: x.deviation * ratio,
            ..*x
        })
    }
    fn with_exact_scale(&self, x: &MeterValue, scale: f64) -> Result<MeterValue, Error> {
        typing::scales("with_exact_scale", x.scale, scale)?;
        Ok(MeterValue { scale, ..*x })
    }
    fn assume_bound(&self, x: &MeterValue, bound: f64) -> Result<MeterValue, Error> {
        // T_k(cos θ) = cos kθ has root mean square 1/√2
        Ok(MeterValue {
            bound: x.bound.min(bound),
            rms: x.rms.min(bound * std::f64::consts::FRAC_1_SQRT_2),
            ..*x
        })
    }
    fn rotate(&self, x: &MeterValue, by: i64) -> Result<MeterValue, Error> {
        if by.rem_euclid(x.slots as i64) == 0 {
            return Ok(*x);
        }
        self.rotated(x, galois_element(self.parameters(), by), false)
    }
    fn conjugate(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        self.rotated(x, conjugation_element(self.parameters()), false)
    }
    fn rotate_many(&self, x: &MeterValue, by: &[i64]) -> Result<Vec<MeterValue>, Error> {
        let mut decomposed = false;
        by.iter()
            .map(|&k| {
                if k.rem_euclid(x.slots as i64) == 0 {
                    return Ok(*x);
                }
                let y = self.rotated(x, galois_element(self.parameters(), k), decomposed);
                decomposed = true;
                y
            })
            .collect()
    }
    fn mod_raise(&self, x: &MeterValue, to: Level) -> Result<MeterValue, Error> {
        let p = self.parameters();
        let info = typing::raised(p, &self.info(x), to)?;
        let spec = typing::bootstrapping(p)?;
        self.need(KeyName::DenseToSparse, Level::new(0));
        self.need(KeyName::SparseToDense, to);
        let at = self.at(to);
        let mut cost = at.switch().plus(division(1.0, 1.0).times(2.0));
        cost.ntts += 2.0 * at.kept;
        cost.passes += 4.0 * at.kept;
        cost.bootstraps += 1.0;
        self.spend(cost);
        let base = p.modulus(Level::new(0));
        let ratio = base / p.prime(p.encapsulation_prime()).value() as f64;
        let sparse = self.slot_error(
            self.n() * (ring::GAUSSIAN_SIGMA * ratio).powi(2) / 12.0
                + (1.0 + spec.hamming_weight as f64) / 12.0,
        );
        // every digit of a lifted polynomial is that polynomial: uniform modulo q0, not modulo the digit
        let digit = base / p.log_p().exp2();
        let switching = self.slot_error(
            self.n() * (ring::GAUSSIAN_SIGMA * digit).powi(2) * at.digits.len() as f64 / 12.0,
        );
        let back = self.rounding().hypot(switching);
        let wraps = ((spec.hamming_weight as f64 + 1.0) / 12.0 * self.n()).sqrt() * base / x.scale;
        let y = self.with_error(x, sparse.hypot(back) / x.scale);
        Ok(MeterValue {
            bound: x.bound + 6.0 * wraps,
            rms: x.rms.hypot(wraps),
            ..y.at(info)
        })
    }
    fn with_slots(&self, x: &MeterValue, slots: usize) -> Result<MeterValue, Error> {
        typing::slots(self.parameters(), "with_slots", slots)?;
        Ok(MeterValue { slots, ..*x })
    }
    fn linear(
        &self,
        xs: &[MeterValue],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<MeterValue>, Error> {
        let crate::map::Typed {
            level,
            plain_scale,
            result,
        } = crate::map::typed(self, xs, map, scale)?;
        let (p, below) = (self.parameters(), result.level);
        let slots = map.slots();
        self.spend(self.at(level).map(&MapSize::of(map)));
        let galois = |by: usize| KeyName::Galois(galois_element(p, by as i64));
        let moving = |steps: Vec<usize>| steps.into_iter().filter(|s| s % slots != 0);
        let babies = (0..map.inputs()).flat_map(|i| moving(map.babies(i)));
        let held: BTreeSet<KeyName> = babies.map(galois).collect();
        for &key in &held {
            self.need(key, level);
        }
        if held.len() > 1 {
            self.state()
                .uses
                .together
                .insert(held.into_iter().collect());
        }
        for o in 0..map.outputs() {
            for step in moving(map.giants(o)).chain(map.folds().iter().copied()) {
                self.need(galois(step), level);
            }
        }
        let mut row = vec![0usize; map.outputs()];
        map.terms().iter().for_each(|t| row[t.output] += 1);
        let per_row = row.into_iter().max().unwrap_or(0);
        let bound = xs.iter().map(|x| x.bound).fold(0.0, f64::max);
        let (mean, most) = map.row_energy();
        let rms = xs.iter().map(|x| x.rms).fold(0.0, f64::max);
        let deviation = xs.iter().map(|x| x.deviation).fold(0.0, f64::max);
        let input = deviation.hypot(self.switching(level) / xs[0].scale);
        let longest = map
            .terms()
            .iter()
            .map(|t| t.values.len())
            .max()
            .unwrap_or(1);
        let folded = (1usize << map.folds().len()) as f64;
        let plain =
            rms * Self::plain_error(longest, plain_scale) * (per_row as f64 * folded).sqrt();
        let mut y = MeterValue {
            level,
            scale: xs[0].scale * plain_scale,
            slots,
            bound: bound * map.row_sum(),
            rms: (rms * mean.sqrt() * xs.len() as f64).min(bound * map.row_sum()),
            deviation: (input * mean.sqrt()).hypot(plain),
            peak: if mean > 0.0 {
                (most / mean).sqrt()
            } else {
                1.0
            },
            degree: 1,
        };
        // every output is folded by itself; their errors are alike
        for _ in map.folds() {
            let r = self.with_error(&y, self.switched(level) / y.scale);
            y.deviation = y
                .deviation
                .hypot((r.deviation.powi(2) - y.deviation.powi(2)).max(0.0).sqrt());
        }
        let y = self.with_error(
            &MeterValue {
                level: below,
                scale,
                ..y
            },
            self.rounding() / scale,
        );
        Ok(vec![y; map.outputs()])
    }
    fn polynomial(&self, x: &MeterValue, polynomial: &Polynomial) -> Result<MeterValue, Error> {
        self.through(x, polynomial, |x| {
            crate::polynomial::evaluate(self, x, polynomial)
        })
    }
    fn eval_mod(&self, x: &MeterValue, cosine: &Polynomial) -> Result<MeterValue, Error> {
        let spec = typing::bootstrapping(self.parameters())?;
        let exact = MeterValue {
            deviation: 0.0,
            bound: x.bound.min(1.0),
            rms: x.rms.min(1.0),
            ..*x
        };
        let y = crate::bootstrap::eval_mod(self, &exact, cosine)?;
        // v stays near integers, where the sine's slope in v is 2π
        let slope = 2.0 * std::f64::consts::PI * crate::dft::radius(spec.range);
        Ok(self.with_error(&y, x.deviation * slope))
    }
}
