//! The meter: what a circuit costs and how precise it is, from levels, scales and noise formulas alone.
//!
//! Errors are modelled as independent Gaussians: `deviation` is the root mean square of |error| over the slots, in the value's
//! units. A coefficient error of deviation e is a slot error of e·√N/scale. Rounding by a division of a ciphertext has
//! variance (1 + 2N/3)/12 in the coefficients (dense ternary secret); key switching adds N·σ²·Σ_d(Q_d/P)²/12 before it.

use crate::keys::{KeyName, KeyRequest, KeyUse, conjugation_element, galois_element};
use crate::typing::{self, Info};
use crate::{Arithmetic, BlockMap, Complex64, Context, Error, Level, Polynomial};
use serde::{Deserialize, Serialize};
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

/// Counts of work; limb counts are in units of N coefficients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// NTTs of one limb of N (smaller ones count by their size).
    pub ntts: f64,
    /// Lazy multiply-adds of one limb by one limb (inner products with keys and diagonals).
    pub multiply_adds: f64,
    /// Multiply-adds of basis conversion: (source limb, target limb) pairs.
    pub conversions: f64,
    /// Passes of additions, scalar products, permutations over one limb.
    pub passes: f64,
    /// Limbs of key expanded from seeds.
    pub expansions: f64,
    /// Encoded slots times log2(slots): butterflies of the f64 transform.
    pub encodes: f64,
    /// Decompositions into digits.
    pub decompositions: f64,
    /// Inner products with a key.
    pub key_switches: f64,
    /// Bootstraps.
    pub bootstraps: f64,
}

impl Cost {
    fn fields(&mut self) -> [&mut f64; 9] {
        [
            &mut self.ntts,
            &mut self.multiply_adds,
            &mut self.conversions,
            &mut self.passes,
            &mut self.expansions,
            &mut self.encodes,
            &mut self.decompositions,
            &mut self.key_switches,
            &mut self.bootstraps,
        ]
    }
    /// Sum.
    #[must_use]
    pub fn plus(mut self, mut other: Self) -> Self {
        for (a, b) in self.fields().into_iter().zip(other.fields()) {
            *a += *b;
        }
        self
    }
    /// Difference: the work between two readings.
    #[must_use]
    pub fn since(mut self, mut earlier: Self) -> Self {
        for (a, b) in self.fields().into_iter().zip(earlier.fields()) {
            *a -= *b;
        }
        self
    }
    /// By primitive: (name, count, CPU seconds); the seconds add up to [`Cost::seconds`].
    pub fn primitives(&self, table: &CostTable) -> Vec<(&'static str, f64, f64)> {
        [
            ("NTT", self.ntts, table.ntt),
            ("inner products", self.multiply_adds, table.multiply_add),
            ("basis conversion", self.conversions, table.conversion),
            ("additions, permutations", self.passes, table.pass),
            ("key expansion", self.expansions, table.expansion),
            ("encoding", self.encodes, table.encode),
        ]
        .into_iter()
        .map(|(name, count, each)| (name, count, count * each))
        .collect()
    }
    /// CPU seconds.
    pub fn seconds(&self, table: &CostTable) -> f64 {
        self.primitives(table).iter().map(|x| x.2).sum()
    }
}

/// CPU seconds of one unit of each kind of work, for one ring degree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// One NTT of one limb.
    pub ntt: f64,
    /// One lazy multiply-add of a limb.
    pub multiply_add: f64,
    /// One (source, target) limb pair of basis conversion.
    pub conversion: f64,
    /// One pass over a limb.
    pub pass: f64,
    /// One limb expanded from a seed.
    pub expansion: f64,
    /// One butterfly of the encoder.
    pub encode: f64,
}

impl Default for CostTable {
    /// Shipped default: N = 2^16 on an AMD EPYC (Zen 4), as fitted by `polyveil bench --save --with-network`.
    fn default() -> Self {
        Self {
            ntt: 0.094e-3,
            multiply_add: 24.7e-6,
            conversion: 8.75e-6,
            pass: 38e-6,
            expansion: 47.7e-6,
            encode: 1.105e-9,
        }
    }
}

impl CostTable {
    /// For a machine (or a ring) that is `factor` times slower.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            ntt: self.ntt * factor,
            multiply_add: self.multiply_add * factor,
            conversion: self.conversion * factor,
            pass: self.pass * factor,
            expansion: self.expansion * factor,
            encode: self.encode * factor,
        }
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
    /// A key, used once.
    fn need(&self, name: KeyName, level: Level) {
        let limit = self.parameters().key_limit(level);
        let mut state = self.state();
        state.keys.need(name, limit);
        *state.uses.times.entry(name).or_insert(0) += 1;
    }
    /// (limbs of the level, special limbs, digits' sizes).
    fn shape(&self, level: Level) -> (f64, f64, Vec<f64>) {
        let p = self.parameters();
        let kept = p.limbs(level);
        let digits = p
            .digits()
            .iter()
            .map(|d| kept.iter().filter(|k| d.contains(k)).count() as f64)
            .filter(|&c| c > 0.0)
            .collect();
        (kept.len() as f64, p.special().len() as f64, digits)
    }
    fn decomposition(&self, level: Level) -> Cost {
        let (kept, _, _) = self.shape(level);
        Cost {
            ntts: kept,
            conversions: kept,
            passes: kept,
            decompositions: 1.0,
            ..Cost::default()
        }
    }
    /// Digits of all limbs: what `Scratch::fill` does over the extended limbs.
    fn digit_limbs(&self, level: Level) -> Cost {
        let (kept, special, digits) = self.shape(level);
        let all = kept + special;
        Cost {
            ntts: digits.iter().map(|d| all - d).sum(),
            conversions: digits.iter().map(|d| (all - d) * d).sum(),
            passes: kept,
            ..Cost::default()
        }
    }
    fn times_key(&self, level: Level) -> Cost {
        let (kept, special, digits) = self.shape(level);
        let d = digits.len() as f64;
        Cost {
            multiply_adds: 2.0 * d * (kept + special),
            expansions: d * (kept + special),
            key_switches: 1.0,
            ..Cost::default()
        }
    }
    /// Dividing one polynomial with `keep + drop` limbs by `drop`.
    fn division(&self, keep: f64, drop: f64) -> Cost {
        Cost {
            ntts: keep + drop,
            conversions: drop + drop * keep,
            passes: 2.0 * keep + drop,
            ..Cost::default()
        }
    }
    fn switch(&self, level: Level) -> Cost {
        let (kept, special, _) = self.shape(level);
        let two = self.division(kept, special);
        self.decomposition(level)
            .plus(self.digit_limbs(level))
            .plus(self.times_key(level))
            .plus(two)
            .plus(two)
    }
    fn rotated(&self, x: &MeterValue, g: u64, decomposed: bool) -> Result<MeterValue, Error> {
        typing::linear_degree("rotate", &self.info(x))?;
        self.need(KeyName::Galois(g), x.level);
        let (kept, special, _) = self.shape(x.level);
        let two = self.division(kept, special);
        let mut cost = self
            .times_key(x.level)
            .plus(two)
            .plus(two)
            .plus(self.digit_limbs(x.level));
        cost.passes += 3.0 * kept;
        if !decomposed {
            cost = cost.plus(self.decomposition(x.level));
        }
        self.spend(cost);
        Ok(self.with_error(
            x,
            (self.rounding().hypot(self.switching(x.level))) / x.scale,
        ))
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
        let (kept, _, _) = self.shape(x.level);
        self.spend(Cost {
            passes: kept * (x.degree.max(y.degree) as f64 + 1.0),
            ..Cost::default()
        });
        Ok(MeterValue {
            bound: x.bound + y.bound,
            rms: x.rms + y.rms,
            deviation: x.deviation.hypot(y.deviation),
            peak: x.peak.max(y.peak),
            ..x.at(info)
        })
    }
    fn encoding(&self, len: usize, limbs: f64) -> Cost {
        let words = (2 * len).max(8) as f64;
        Cost {
            encodes: len as f64 * (len as f64).log2().max(1.0),
            ntts: limbs * words / self.n(),
            passes: limbs * words / self.n(),
            ..Cost::default()
        }
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
        let (kept, _, _) = self.shape(x.level);
        let mut cost = self.encoding(v.len(), kept);
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
        let (kept, _, _) = self.shape(x.level);
        let mut cost = self.encoding(v.len(), kept);
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
        let (kept, _, _) = self.shape(level);
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
        self.spend(Cost {
            passes: kept * polynomials as f64,
            ..Cost::default()
        });
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
        let (kept, _, _) = self.shape(x.level);
        self.spend(Cost {
            passes: 2.0 * kept,
            ..Cost::default()
        });
        let k = (k as f64).abs();
        Ok(MeterValue {
            bound: x.bound * k,
            rms: x.rms * k,
            deviation: x.deviation * k,
            ..*x
        })
    }
    fn mul_i(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        let (kept, _, _) = self.shape(x.level);
        self.spend(Cost {
            passes: 4.0 * kept,
            ..Cost::default()
        });
        Ok(*x)
    }
    fn mul(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        let info = typing::product(&self.info(x), &self.info(y))?;
        let (kept, _, _) = self.shape(x.level);
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
        let (kept, _, _) = self.shape(x.level);
        let mut cost = self.switch(x.level);
        cost.passes += 2.0 * kept;
        self.spend(cost);
        let y = self.with_error(x, self.rounding().hypot(self.switching(x.level)) / x.scale);
        Ok(MeterValue { degree: 1, ..y })
    }
    fn rescale(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        let info = typing::rescaled(self.parameters(), &self.info(x))?;
        let (kept, _, _) = self.shape(info.level);
        let one = self.division(kept, self.parameters().group(x.level).len() as f64);
        for _ in 0..=x.degree {
            self.spend(one);
        }
        let y = self.with_error(x, self.rounding() / info.scale);
        Ok(y.at(info))
    }
    fn relinearize_rescale(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        if x.degree == 1 {
            return self.rescale(x);
        }
        let info = typing::rescaled(self.parameters(), &self.info(x))?;
        self.need(KeyName::Relinearization, x.level);
        let (kept, special, _) = self.shape(x.level);
        let (low, _, _) = self.shape(info.level);
        let two = self.division(low, special + self.parameters().group(x.level).len() as f64);
        let mut cost = self
            .decomposition(x.level)
            .plus(self.digit_limbs(x.level))
            .plus(self.times_key(x.level))
            .plus(two)
            .plus(two);
        cost.passes += 2.0 * kept;
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
        let (kept, _, _) = self.shape(to);
        let mut cost = self
            .switch(to)
            .plus(self.division(1.0, 1.0))
            .plus(self.division(1.0, 1.0));
        cost.ntts += 2.0 * kept;
        cost.passes += 4.0 * kept;
        cost.bootstraps += 1.0;
        self.spend(cost);
        let base = p.modulus(Level::new(0));
        let ratio = base / p.prime(p.encapsulation_prime()).value() as f64;
        let sparse = self.slot_error(
            self.n() * (ring::GAUSSIAN_SIGMA * ratio).powi(2) / 12.0
                + (1.0 + spec.hamming_weight as f64) / 12.0,
        );
        // every digit of a lifted polynomial is that polynomial: uniform modulo q0, not modulo the digit
        let (_, _, digits) = self.shape(to);
        let digit = base / p.log_p().exp2();
        let switching = self.slot_error(
            self.n() * (ring::GAUSSIAN_SIGMA * digit).powi(2) * digits.len() as f64 / 12.0,
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
        let (kept, special, _) = self.shape(level);
        let special = if map.moves() { special } else { 0.0 };
        let all = kept + special;
        let slots = map.slots();
        let mut cost = Cost::default();
        let mut held = BTreeSet::new();
        for i in 0..map.inputs() {
            let babies = map.babies(i);
            cost.passes += 2.0 * kept;
            let moving: Vec<usize> = babies.into_iter().filter(|b| b % slots != 0).collect();
            if !moving.is_empty() {
                cost = cost
                    .plus(self.decomposition(level))
                    .plus(self.digit_limbs(level));
            }
            for b in moving {
                held.insert(KeyName::Galois(galois_element(p, b as i64)));
                cost = cost.plus(self.times_key(level));
                cost.passes += 2.0 * all + kept;
            }
        }
        for &key in &held {
            self.need(key, level);
        }
        if held.len() > 1 {
            self.state()
                .uses
                .together
                .insert(held.into_iter().collect());
        }
        let mut row = vec![0usize; map.outputs()];
        map.terms().iter().for_each(|t| row[t.output] += 1);
        let per_row = row.into_iter().max().unwrap_or(0);
        for o in 0..map.outputs() {
            for g in map.giants(o) {
                if g % slots == 0 {
                    cost.passes += 2.0 * all;
                    continue;
                }
                self.need(KeyName::Galois(galois_element(p, g as i64)), level);
                cost = cost
                    .plus(self.division(kept, special))
                    .plus(self.decomposition(level))
                    .plus(self.digit_limbs(level))
                    .plus(self.times_key(level));
                cost.passes += 3.0 * all;
            }
        }
        for t in map.terms() {
            cost = cost.plus(self.encoding(t.values.len(), all));
            cost.multiply_adds += 2.0 * all;
        }
        let (low, _, _) = self.shape(below);
        let group = p.group(level).len() as f64;
        self.spend(cost);
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
        // every output is divided, and folded, by itself; their errors are alike
        for o in 0..map.outputs() {
            if map.folds().is_empty() {
                let one = self.division(low, group + special);
                self.spend(one.plus(one));
                continue;
            }
            let one = self.division(kept, special);
            let last = self.division(low, group);
            self.spend(one.plus(one).plus(last).plus(last));
            for &f in map.folds() {
                let r = self.rotate(&y, f as i64)?;
                if o == 0 {
                    y.deviation = y
                        .deviation
                        .hypot((r.deviation.powi(2) - y.deviation.powi(2)).max(0.0).sqrt());
                }
                self.spend(Cost {
                    passes: 2.0 * kept,
                    ..Cost::default()
                });
            }
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
