//! The meter: what a circuit costs and how precise it is, from levels, scales and noise formulas alone.
//!
//! Errors are modelled as sums of independent Gaussians, one for each rounding, switch of keys or encryption. A value knows its share of each
//! of them, and what two values share adds linearly (`errors`). A deviation is the root mean square of |error| over the
//! slots, in the value's units. A coefficient error of deviation e is a slot error of e·√N/scale. Rounding by a division of a ciphertext has
//! variance (1 + 2N/3)/12 in the coefficients (dense ternary secret); key switching adds N·σ²·Σ_d(Q_d/P)²/12 before it.

use crate::coefficients::Parts;
use crate::errors::{Errors, Mixing, Place, ROUNDED, UNIQUE};
use crate::folded::Shared;
use crate::gains::{Gain, Known, MIXING_TERMS, ReadWeights};
use crate::keys::{KeyName, KeyRequest, KeyUse, conjugation_element, galois_element};
use crate::ring_switch::{RingSwitch, Small};
use crate::typing::{self, Info};
use crate::work::{At, Cost, Hoisting, division, passes};
use crate::{
    Arithmetic, BlockMap, Bootstrap, Coefficients, Complex64, Context, Convolution, Descent, Error,
    HalfBootstrap, Level, Polynomial, WeightRows, packing,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known about a value.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterValue {
    /// What its ciphertext says of itself; of degree 2 before relinearisation.
    pub info: Info,
    /// Bound on |x| over the slots.
    pub bound: f64,
    /// Estimate from above of the root mean square of |x| over the slots: what a factor's error is multiplied by.
    pub rms: f64,
    errors: Errors,
    /// Largest deviation of a single slot's error, relative to the root mean square: rows of a matrix and slopes of a
    /// polynomial differ. A matrix mixes many slots, so what came before it counts by its mean.
    pub peak: f64,
    /// Whether slots may be complex numbers: a product then turns errors.
    complex: bool,
}

/// What a map's weights are to those of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The same.
    Exact,
    /// Rounded to single precision.
    Rounded,
}

/// How many deviations the largest error over the slots stays within. A rounding error e₁·s has in slot j the magnitude |e₁(ζ_j)|·|s(ζ_j)|, a
/// product of two Gaussians: P(> t deviations) ≈ exp(−2t), 2^−77 over 2^15 slots for t = 32. The rest is for what the model leaves out and what averages over slots do not diminish: correlations between slots and
/// the bias of the bootstrap's sine. On ResNet-20's logits, averages of 64 positions, errors of up to 28 deviations were seen.
const TAIL: f64 = 48.0;

/// The same of what rounded weights change: sums of errors that are uniform in an interval stay within t deviations but for 2·exp(−t²/6) of them
/// (Hoeffding), 2^−60 for t = 16.
const ROUNDED_TAIL: f64 = 16.0;

impl MeterValue {
    /// The same, where `info` says.
    fn at(&self, info: Info) -> Self {
        Self {
            info,
            ..self.clone()
        }
    }
    /// k·x, k ≥ 0.
    fn times(&self, k: f64) -> Self {
        Self {
            bound: self.bound * k,
            rms: self.rms * k,
            errors: self.errors.clone().times(k),
            ..self.clone()
        }
    }
    /// Root mean square over the slots of the error that encryption adds.
    pub fn deviation(&self) -> f64 {
        self.errors.deviation()
    }
    /// The same without any error.
    #[must_use]
    pub fn exact(&self) -> Self {
        Self {
            errors: Errors::default(),
            peak: 1.0,
            ..self.clone()
        }
    }
    /// The same, known to stay within `bound`.
    #[must_use]
    pub fn within(self, bound: f64) -> Self {
        Self {
            bound: self.bound.min(bound),
            rms: self.rms.min(bound),
            ..self
        }
    }
    fn spread(&self) -> Self {
        Self {
            errors: self.errors.clone().spread(),
            ..self.clone()
        }
    }
    /// What circuits see of an operand in [−1, 1].
    fn exact_operand(&self) -> Self {
        let complex = false;
        Self {
            complex,
            ..self.exact().within(1.0)
        }
    }
    /// Bound on what rounded weights ([`Weights::Rounded`]) change in any slot.
    pub fn weights_bound(&self) -> f64 {
        ROUNDED_TAIL * self.peak * self.errors.of_weights()
    }
    /// Bound on the largest |error| over the slots that encryption adds. The bias of a bootstrap's sine (see [`crate::bootstrap`]) is in it by the margin
    /// of the tail only.
    pub fn error_bound(&self) -> f64 {
        TAIL * self.peak * self.deviation()
    }
}

/// What a key of the small ring is called outside of it.
fn outside(name: KeyName) -> KeyName {
    match name {
        KeyName::Galois(g) => KeyName::Small(g),
        other => other,
    }
}

#[derive(Debug, Default)]
struct State {
    cost: Cost,
    keys: KeyRequest,
    uses: KeyUse,
    sources: u64,
    weights: Known,
    layers: HashMap<LayerKey, KnownRows>,
    sines: HashMap<SineKey, Arc<Remembered>>,
    /// Largest magnitudes, by address; kept alive, so that no others have it.
    values: HashMap<(usize, usize), KnownBias>,
}

/// Weights, kept alive, and what is known of their rows.
type KnownRows = (Shared, Arc<[Rows]>);

/// Values, kept alive, and their largest magnitude.
type KnownBias = (Arc<[f64]>, f64);

/// What EvalMod's result depends on: the address of the cosine, the operand's level, slots, scale, bound and root mean square, the latter two on a
/// [`grid`].
type SineKey = (usize, Level, usize, [u64; 3]);

/// The next number up, or the same, of those 1/64 of a power of two apart. A bootstrap's gain moves its sine's operand by next to nothing, and a plan of
/// many gains would have as many sines to remember.
fn grid(x: f64) -> f64 {
    let below = (1_u64 << (f64::MANTISSA_DIGITS - 1 - 6)) - 1;
    f64::from_bits((x.to_bits() + below) & !below)
}

/// A circuit's result on an operand without an error, and what it took.
#[derive(Debug)]
struct Remembered {
    result: MeterValue,
    cost: Cost,
    keys: KeyRequest,
    uses: KeyUse,
}

/// What the rows of a linear layer in coefficients depend on: what tells its weights from others, their scale, the lengths of a row and of a kernel,
/// and which of them are of one ciphertext: outputs, channels of a ciphertext, classes.
type LayerKey = ((usize, u64), u64, [usize; 5]);

/// The rows of one output ciphertext: the largest and the mean sum of squares, the largest sum of magnitudes, and whether many entries of each count.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    most: f64,
    mean: f64,
    sum: f64,
    mixes: bool,
    /// The mean of what errors grow by that may be one for all places of a channel: squares of each kernel's sum, or the sum of squares if more.
    shared: f64,
    /// The most weights of a row, of m equal ones of a kernel m²: they are off by the same.
    alike: f64,
}

/// Of m equal numbers m² for each kind; zeros are mostly exact, and only one that stands for a whole kernel counts as its other weights do.
fn alike(taps: &mut [i32]) -> f64 {
    taps.sort_unstable();
    let kinds = taps.chunk_by(|a, b| a == b);
    let squares = kinds.map(|k| k.len() as f64 * if k[0] == 0 { 1.0 } else { k.len() as f64 });
    squares.sum()
}

/// Interprets circuits on what is known about values; counts work and collects the keys needed.
#[derive(Debug)]
pub struct Meter {
    context: Context,
    state: Mutex<State>,
    small: Option<Small<Meter>>,
}

impl Meter {
    /// For a context's parameters.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            state: Mutex::default(),
            small: RingSwitch::of(context).map(Self::within),
        }
    }
    /// With what others read of weights, which have what it reads, too.
    #[must_use]
    pub fn sharing(self, read: &ReadWeights) -> Self {
        self.state().weights.read = read.clone();
        self
    }
    /// With a small ring; what is done there is counted there ([`Arithmetic::small`]), and in [`Meter::cost`] by its size.
    #[must_use]
    pub fn with_small(mut self, switch: &RingSwitch) -> Self {
        self.small = Some(Self::within(switch.clone()));
        self
    }
    fn within(switch: RingSwitch) -> Small<Self> {
        let inner = Self::new(switch.small());
        Small::new(switch, inner)
    }
    /// Between the rings: one switch of keys to a secret that is a polynomial in X^gap.
    fn between(&self, x: &MeterValue, info: Info, switch: &RingSwitch, gap: usize) -> MeterValue {
        let wide = Self::new(switch.wide());
        let key = match gap {
            1 => KeyName::RingUp,
            _ => KeyName::RingDown,
        };
        self.need(key, info.level);
        let at = wide.at(info.level);
        let mut cost = at.switch();
        // both polynomials to coefficients, and their classes back
        cost.ntts += 4.0 * at.kept;
        cost.passes += 2.0 * at.kept;
        self.spend(cost);
        // a rounding error times the secret, of N/gap coefficients
        let rounding = self.slot_error((1.0 + 2.0 * self.n() / 3.0 / gap as f64) / 12.0);
        let error = wide.switching(info.level).hypot(rounding);
        self.with_error(x, error / info.scale)
    }
    /// The same value with an error of this deviation more that comes of rounded weights.
    #[must_use]
    pub fn rounded(&self, x: &MeterValue, deviation: f64) -> MeterValue {
        let lost = Errors::new(self.source() | ROUNDED, deviation);
        MeterValue {
            errors: x.errors.clone().plus(&lost),
            ..x.clone()
        }
    }
    /// Errors that are new to whatever they meet: of encryption, and of rounded weights.
    fn renewed(&self, deviation: f64, of_weights: f64) -> Errors {
        let lost = Errors::new(self.source() | ROUNDED, of_weights);
        Errors::new(self.source(), deviation).plus(&lost)
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
            info,
            bound,
            rms: bound,
            errors: Errors::new(self.source(), deviation),
            peak: 1.0,
            complex: false,
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
        let y = circuit(&x.exact_operand())?;
        // the slope at a complex number turns errors
        let x = match x.complex {
            true => x.spread(),
            false => x.clone(),
        };
        let crate::chebyshev::Range {
            most: bound,
            steepest,
            slope,
            rms,
        } = polynomial.range();
        // a slot whose error is largest may also lie where the slope is
        let peak = if slope > 0.0 {
            x.peak * steepest / slope
        } else {
            1.0
        };
        Ok(MeterValue {
            peak: peak.max(1.0),
            bound,
            rms,
            ..self.carrying(y, &x, slope)
        })
    }
    /// The result of a circuit on an exact operand, with the operand's own error times `slope`. What arose in the circuit is one source from
    /// here on.
    fn carrying(&self, y: MeterValue, x: &MeterValue, slope: f64) -> MeterValue {
        let passed = x.errors.clone().times(slope);
        MeterValue {
            errors: passed.plus(&y.errors.as_source(self.source())),
            peak: x.peak.max(y.peak),
            complex: x.complex,
            ..y
        }
    }
    /// x + v, with `len` values v of which only the largest magnitude is given.
    ///
    /// # Errors
    /// As [`Arithmetic::add_plain`].
    pub fn add_up_to(&self, x: &MeterValue, len: usize, most: f64) -> Result<MeterValue, Error> {
        let here = x.info;
        let info = typing::plain(self.parameters(), "add_plain", &here, len, 1.0)?;
        let at = self.at(x.info.level);
        let (kept, mut cost) = (at.kept, at.encoding(len));
        cost.passes += 2.0 * kept;
        self.spend(cost);
        let y = self.with_error(x, Self::plain_error(len, x.info.scale));
        Ok(MeterValue {
            bound: x.bound + most,
            rms: x.rms + most,
            ..y.at(info)
        })
    }
    /// A new source of errors.
    fn source(&self) -> u64 {
        let mut state = self.state();
        state.sources += 1;
        state.sources
    }
    /// As [`Arithmetic::linear`], counting what weights may have lost, too.
    ///
    /// # Errors
    /// As [`Arithmetic::linear`].
    pub fn mapped(
        &self,
        xs: &[MeterValue],
        map: &BlockMap,
        scale: f64,
        weights: Weights,
    ) -> Result<Vec<MeterValue>, Error> {
        let typed = crate::linear::typed(self, xs, map, scale)?;
        let (p, level) = (self.parameters(), typed.level);
        let gain = self.state().weights.gain(map);
        self.spend(self.at(level).map(&gain.size));
        let galois = |by: usize| KeyName::Galois(galois_element(p, by as i64));
        self.need_together(gain.babies.iter().copied().map(galois).collect(), level);
        // of the rotated inputs
        let inputs = match self.at(level).hoisting(&gain.size) {
            Hoisting::Double => self.switching(level),
            Hoisting::Single if gain.size.babies > 0 => self.switched(level),
            Hoisting::Single => 0.0,
        };
        Ok(self.summed(xs, map, (typed, &gain, inputs), weights))
    }
    /// What a map makes of rotated inputs with a deviation of `inputs` more (times scale); its work and the keys of baby steps are counted.
    fn summed(
        &self,
        xs: &[MeterValue],
        map: &BlockMap,
        (typed, gain, inputs): (crate::linear::Typed, &Arc<Gain>, f64),
        weights: Weights,
    ) -> Vec<MeterValue> {
        let crate::linear::Typed {
            level,
            plain_scale,
            result,
        } = typed;
        let (p, scale) = (self.parameters(), result.scale);
        for &step in &gain.others {
            self.need(KeyName::Galois(galois_element(p, step as i64)), level);
        }
        let most = |of: fn(&MeterValue) -> f64| xs.iter().map(of).fold(0.0, f64::max);
        let (bound, rms) = (most(|x| x.bound), most(|x| x.rms));
        let scale_before = xs[0].info.scale * plain_scale;
        let folded = (1usize << map.folds().len()) as f64;
        let plain = rms
            * Self::plain_error(gain.longest, plain_scale)
            * (gain.terms_of_a_row as f64 * folded).sqrt();
        // the error of a fold is folded by those after it
        let folds = self.switched(level) / scale_before * (folded - 1.0).sqrt();
        let lost = match weights {
            Weights::Exact => 0.0,
            // at most half a unit in the last of 24 places, uniform
            Weights::Rounded => {
                gain.mean.sqrt() * rms * f64::from(f32::EPSILON) / 2.0 / 3f64.sqrt()
            }
        };
        let before = (inputs / xs[0].info.scale * gain.mean.sqrt())
            .hypot(plain)
            .hypot(folds);
        let after = self.rounding() / scale;
        let uneven = if gain.mean > 0.0 {
            (gain.most / gain.mean).sqrt().max(1.0)
        } else {
            1.0
        };
        let y = MeterValue {
            info: result,
            bound: bound * gain.row_sum,
            // Σ √Eᵢ of the inputs' parts is at most √(inputs · Σ Eᵢ)
            rms: (rms * (gain.mean * xs.len() as f64).sqrt()).min(bound * gain.row_sum),
            errors: Errors::default(),
            peak: uneven,
            complex: gain.turns() || xs.iter().any(|x| x.complex),
        };
        let (mixer, period) = (self.source(), gain.period(UNIQUE));
        let outputs = gain.blocks.iter().enumerate().map(|(output, blocks)| {
            let place = Place::new(mixer, output);
            let inputs: Vec<(&Errors, f64, Option<Place>)> = (blocks.iter())
                .map(|b| (&xs[b.input].errors, b.energy, b.mixes.then_some(place)))
                .collect();
            // what many slots are summed of counts by their mean
            let kept = blocks.iter().filter(|b| !b.mixes);
            let peak = kept.map(|b| xs[b.input].peak).fold(1.0, f64::max);
            let folded = Errors::new(self.source(), before).repeated(period);
            let lost = Errors::new(self.source() | ROUNDED, lost).repeated(period);
            MeterValue {
                errors: Errors::mapped(&inputs, &**gain)
                    .plus(&folded)
                    .plus(&lost)
                    .plus(&Errors::new(self.source(), after)),
                peak: peak * uneven,
                ..y.clone()
            }
        });
        outputs.collect()
    }
    /// Twice the real and the imaginary part of z, from what a circuit made of z without its error.
    fn parts(&self, z: &MeterValue, exact: [MeterValue; 2]) -> [MeterValue; 2] {
        let [real, imaginary] = exact;
        let of = |y: MeterValue, errors: Errors| MeterValue {
            errors: errors.real_twice().plus(&y.errors),
            peak: z.peak.max(y.peak),
            complex: false,
            ..y
        };
        [
            of(real, z.errors.clone()),
            of(imaginary, z.errors.clone().turned()),
        ]
    }
    /// Work so far.
    pub fn cost(&self) -> Cost {
        let own = self.state().cost;
        self.small.as_ref().map_or(own, |s| {
            let log = |m: &Self| m.parameters().spec().log_n;
            own.plus(s.inner.cost().in_ring(log(&s.inner), log(self)))
        })
    }
    /// Keys needed so far.
    pub fn keys(&self) -> KeyRequest {
        let mut keys = self.state().keys.clone();
        if let Some(small) = &self.small {
            for (name, limit) in small.inner.keys().0 {
                keys.need(outside(name), limit);
            }
        }
        keys
    }
    /// How keys were used so far.
    pub fn key_use(&self) -> KeyUse {
        let mut uses = self.state().uses.clone();
        if let Some(small) = &self.small {
            let inner = small.inner.key_use().times;
            let named = inner
                .into_iter()
                .map(|(name, times)| (outside(name), times));
            uses.times.extend(named);
        }
        uses
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
    /// log2 of the special primes' product that is divided by at a level.
    fn log_special(&self, level: Level) -> f64 {
        let p = self.parameters();
        let primes = p.special_at(level).iter();
        primes.map(|&k| (p.prime(k).value() as f64).log2()).sum()
    }
    /// Slot error (times scale) of an inner product with a key, before the division by P.
    fn switching(&self, level: Level) -> f64 {
        let p = self.parameters();
        let kept = p.limbs(level);
        let log_p = self.log_special(level);
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
                    (2.0 * (log - log_p)).exp2()
                }
            })
            .sum();
        self.slot_error(self.n() * ring::GAUSSIAN_SIGMA * ring::GAUSSIAN_SIGMA * sum / 12.0)
    }
    /// Slot error (times scale) of a key switch.
    fn switched(&self, level: Level) -> f64 {
        self.rounding().hypot(self.switching(level))
    }
    /// Slot error (times scale) of an inner product of a raised polynomial, uniform modulo q0, with a key, divided by its special prime.
    fn imaged(&self) -> f64 {
        let p = self.parameters();
        let digit = p.modulus(Level::new(0)) / p.prime(p.raising_prime()).value() as f64;
        self.slot_error(self.n() * (ring::GAUSSIAN_SIGMA * digit).powi(2) / 12.0)
    }
    /// A value raised to a level, still under the sparse secret.
    fn raised(&self, x: &MeterValue, to: Level, rotations: usize) -> Result<MeterValue, Error> {
        let p = self.parameters();
        let info = typing::raised(p, &x.info, to, rotations)?;
        let spec = typing::bootstrapping(p)?;
        self.need(KeyName::DenseToSparse, Level::new(0));
        self.spend(self.at(to).raised());
        let base = p.modulus(Level::new(0));
        let ratio = base / p.prime(p.encapsulation_prime()).value() as f64;
        let sparse = self.slot_error(
            self.n() * (ring::GAUSSIAN_SIGMA * ratio).powi(2) / 12.0
                + (1.0 + spec.hamming_weight as f64) / 12.0,
        );
        let wraps =
            ((spec.hamming_weight as f64 + 1.0) / 12.0 * self.n()).sqrt() * base / x.info.scale;
        let y = self.with_error(x, sparse / x.info.scale);
        Ok(MeterValue {
            bound: x.bound + 6.0 * wraps,
            rms: x.rms.hypot(wraps),
            ..y.at(info)
        })
    }
    /// A key, used once.
    fn need(&self, name: KeyName, level: Level) {
        self.need_often(name, level, 1);
    }
    /// Keys that an operation holds together, each used once.
    fn need_together(&self, keys: BTreeSet<KeyName>, level: Level) {
        keys.iter().for_each(|&key| self.need(key, level));
        if keys.len() > 1 {
            let keys = keys.into_iter().collect();
            self.state().uses.together.insert(keys);
        }
    }
    fn need_often(&self, name: KeyName, level: Level, times: u64) {
        let limit = self.parameters().key_limit(level);
        let mut state = self.state();
        state.keys.need(name, limit);
        *state.uses.times.entry(name).or_insert(0) += times;
    }
    fn rotated(
        &self,
        x: &MeterValue,
        by: usize,
        g: u64,
        decomposed: bool,
    ) -> Result<MeterValue, Error> {
        typing::linear_degree("rotate", &x.info)?;
        self.need(KeyName::Galois(g), x.info.level);
        let at = self.at(x.info.level);
        self.spend(at.rotation());
        if !decomposed {
            self.spend(at.decomposition());
        }
        let slots = self.parameters().max_slots();
        let errors = x.errors.clone().rotated(by, slots);
        let x = MeterValue {
            errors,
            ..x.clone()
        };
        Ok(self.with_error(&x, self.switched(x.info.level) / x.info.scale))
    }
    /// The work at a level.
    fn at(&self, level: Level) -> At<'_> {
        At::new(self.parameters(), level)
    }
    fn with_error(&self, x: &MeterValue, deviation: f64) -> MeterValue {
        MeterValue {
            errors: (x.errors.clone()).plus(&Errors::new(self.source(), deviation)),
            ..x.clone()
        }
    }
    fn pair(
        &self,
        operation: &'static str,
        x: &MeterValue,
        y: &MeterValue,
    ) -> Result<MeterValue, Error> {
        let info = typing::sum(operation, &x.info, &y.info)?;
        let kept = self.at(x.info.level).kept;
        self.spend(passes(
            kept * (x.info.degree.max(y.info.degree) as f64 + 1.0),
        ));
        Ok(MeterValue {
            bound: x.bound + y.bound,
            rms: x.rms + y.rms,
            errors: x.errors.clone().plus(&y.errors),
            peak: x.peak.max(y.peak),
            complex: x.complex || y.complex,
            ..x.at(info)
        })
    }
    /// What is known of a layer's rows, by output ciphertext: of weights that several layers share, read once.
    fn rows(
        &self,
        layer: &Convolution,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Arc<[Rows]>, Error> {
        let (to, shared) = (layer.output(), weights.shared());
        let key = shared.as_ref().map(|w| {
            let (each, classes) = (to.channels_each(), to.classes());
            let lengths = [layer.row(), layer.taps(), layer.outputs(), each, classes];
            (w.identity(), scale.to_bits(), lengths)
        });
        if let Some((_, known)) = key.and_then(|k| self.state().layers.get(&k).cloned()) {
            return Ok(known);
        }
        // of those that stand for all places of a kernel each once
        let times = weights.times().max(1);
        let mut row = vec![0; layer.row() / times];
        let (taps, times) = ((layer.taps() / times).max(1), times as f64);
        let mut rows = |number| {
            let mut all = 0.0;
            let mut of = Rows {
                mixes: true,
                ..Rows::default()
            };
            for output in layer.outputs_in(number) {
                weights.read_once(output, &mut row)?;
                let each = || row.iter().map(|&w| f64::from(w) / scale);
                let energy = times * each().map(|w| w * w).sum::<f64>();
                of.most = of.most.max(energy);
                let size = times * each().map(f64::abs).sum::<f64>();
                of.mixes &= size * size >= MIXING_TERMS * energy;
                of.sum = of.sum.max(size);
                (of.mean, all) = (of.mean + energy, all + 1.0);
                let kernels = row.chunks(taps);
                let sums = kernels.map(|k| k.iter().map(|&w| f64::from(w) / scale).sum::<f64>());
                let squares = times * times * sums.map(|s| s * s).sum::<f64>();
                of.shared += squares.max(energy);
                let equal: f64 = row.chunks_mut(taps).map(alike).sum();
                of.alike = of.alike.max(times * times * equal);
                if weights.uniform() {
                    break;
                }
            }
            of.mean /= f64::max(all, 1.0);
            of.shared /= f64::max(all, 1.0);
            Ok(of)
        };
        let rows: Arc<[Rows]> = (0..to.ciphertexts())
            .map(&mut rows)
            .collect::<Result<_, Error>>()?;
        if let (Some(key), Some(w)) = (key, shared) {
            (self.state().layers).insert(key, (w, rows.clone()));
        }
        Ok(rows)
    }
    /// A linear layer in coefficients, without walking through it: an output's error is its inputs' times the root of its row's squares, and
    /// that of packing ([`packing`]). Its weights are the nearest integers: each is off by half of one at most, uniform, and by the same at all
    /// places, so that what this changes may be one error for all places of a channel.
    fn convolved(
        &self,
        xs: &[Coefficients<MeterValue>],
        layer: &Convolution,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Option<Coefficients<MeterValue>>>, Error> {
        packing::fits(self, xs, layer, &(0..layer.outputs()))?;
        let (p, spacing) = (self.parameters(), layer.spacing());
        let here = self.info(xs[0].value());
        for x in xs.iter().map(|x| self.info(x.value())) {
            typing::levels("convolve", here.level, x.level)?;
            typing::scales("convolve", here.scale, x.scale)?;
        }
        let kept = self.at(here.level).kept;
        let pairs = layer.pairs() as f64 * kept;
        self.spend(Cost {
            ntts: pairs,
            multiply_adds: 2.0 * pairs,
            passes: pairs,
            ..Cost::default()
        });
        let info = Info {
            scale: here.scale * scale,
            slots: p.max_slots(),
            ..here
        };
        let keys = packing::packing_keys(p, spacing);
        let one = self.switched(here.level) / info.scale;
        // the switch of each step is doubled at every later one
        let packing_error = one * ((spacing as f64).powi(2) / 3.0).sqrt();
        let rows = self.rows(layer, weights, scale)?;
        let outputs = rows.iter().enumerate().map(|(number, rows)| {
            let &Rows {
                most,
                mean,
                sum,
                mixes,
                shared,
                alike,
            } = rows;
            if layer.outputs_in(number).next().is_none() {
                return Ok(None);
            }
            let places: Vec<usize> = layer.leaves(number).iter().map(|l| l.to).collect();
            let at = self.at(here.level);
            let switches = packing::switches(&places, spacing);
            for (&name, &count) in keys.iter().zip(&switches) {
                self.need_often(name, here.level, count as u64);
            }
            let switches = switches.iter().sum::<usize>() as f64;
            self.spend(
                at.rotation()
                    .plus(at.decomposition())
                    .plus(passes(10.0 * kept))
                    .times(switches)
                    .plus(passes(4.0 * kept * places.len() as f64)),
            );
            let mean = mean.sqrt();
            let of =
                |f: fn(&MeterValue) -> f64| xs.iter().map(|x| f(x.value())).fold(0.0, f64::max);
            // inputs of a product are different coefficients, whose errors are independent: the mean over ciphertexts
            let over = |f: fn(&MeterValue) -> f64| {
                let each = xs.iter().map(|x| f(x.value()).powi(2));
                (each.sum::<f64>() / xs.len() as f64).sqrt()
            };
            let (deviation, lost) = (over(MeterValue::deviation), over(|x| x.errors.of_weights()));
            let uneven = (most.sqrt() / mean.max(f64::MIN_POSITIVE)).max(1.0);
            let rounded = of(|x| x.rms) * (alike / 12.0).sqrt() / scale;
            let lost = (shared.sqrt() * lost).hypot(rounded);
            let y = MeterValue {
                info,
                bound: of(|x| x.bound) * sum,
                rms: (of(|x| x.rms) * sum).min(of(|x| x.bound) * sum),
                errors: self.renewed((mean * deviation).hypot(packing_error), lost),
                // what many coefficients are summed of counts by their mean
                peak: uneven * if mixes { 1.0 } else { of(|x| x.peak) },
                complex: false,
            };
            Ok(Some(Coefficients::of(self, y)?))
        });
        outputs.collect()
    }
    /// A rotation to the left as a number of slots.
    fn left(&self, by: i64) -> usize {
        // below the slots, so it is the same number
        by.rem_euclid(self.parameters().max_slots() as i64)
            .unsigned_abs() as usize
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
        x.info
    }
    fn add(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        self.pair("add", x, y)
    }
    fn sub(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        self.pair("sub", x, y)
    }
    fn add_plain(&self, x: &MeterValue, v: &[Complex64]) -> Result<MeterValue, Error> {
        self.add_up_to(x, v.len(), Self::magnitude(v))
    }
    fn mul_plain(&self, x: &MeterValue, v: &[Complex64], scale: f64) -> Result<MeterValue, Error> {
        let here = x.info;
        let info = typing::plain(self.parameters(), "mul_plain", &here, v.len(), scale)?;
        let at = self.at(x.info.level);
        let (kept, mut cost) = (at.kept, at.encoding(v.len()));
        cost.multiply_adds += kept * (x.info.degree as f64 + 1.0);
        self.spend(cost);
        let magnitude = Self::magnitude(v);
        let turns = v.iter().any(|z| z.im != 0.0);
        let own = x.rms * Self::plain_error(v.len(), scale);
        let mut y = x.times(magnitude).at(info);
        if turns {
            (y.errors, y.complex) = (y.errors.blurred(), true);
        }
        Ok(self.with_error(&y, own))
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &MeterValue)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<MeterValue, Error> {
        let info = typing::combination(terms.iter().map(|(_, x)| x.info), level, scale)?;
        let kept = self.at(level).kept;
        let (mut bound, mut rms, mut variance, mut peak) =
            (constant.abs(), constant.abs(), 0.0, 1.0f64);
        let (mut errors, mut complex) = (Errors::default(), false);
        for (c, x) in terms {
            bound += c.abs() * x.bound;
            rms += c.abs() * x.rms;
            // the constant's own rounding to an integer k
            let k = c * (scale / x.info.scale);
            variance += (x.rms * (k - k.round()).abs() * x.info.scale / scale).powi(2);
            errors = errors.plus(&x.errors.clone().times(*c));
            peak = peak.max(x.peak);
            complex |= x.complex;
        }
        let polynomials: usize = terms.iter().map(|(_, x)| x.info.degree + 1).sum();
        self.spend(passes(kept * polynomials as f64));
        Ok(MeterValue {
            info,
            bound,
            rms,
            errors: errors.plus(&Errors::new(self.source(), variance.sqrt())),
            peak,
            complex,
        })
    }
    fn mul_integer(&self, x: &MeterValue, k: i64) -> Result<MeterValue, Error> {
        let kept = self.at(x.info.level).kept;
        self.spend(passes(2.0 * kept));
        Ok(x.times((k as f64).abs()))
    }
    fn divide_exactly(&self, x: &MeterValue, m: u64) -> Result<MeterValue, Error> {
        self.spend(passes(2.0 * self.at(x.info.level).kept));
        Ok(x.times(1.0 / m as f64))
    }
    fn shift(
        &self,
        x: &Coefficients<MeterValue>,
        _: i64,
    ) -> Result<Coefficients<MeterValue>, Error> {
        self.spend(passes(2.0 * self.at(x.value().info.level).kept));
        Ok(x.clone())
    }
    fn unpack(
        &self,
        x: &Coefficients<MeterValue>,
        spacing: usize,
    ) -> Result<Vec<Coefficients<MeterValue>>, Error> {
        let here = x.value();
        let classes = packing::unpack(self, x, spacing)?;
        // step by step errors are counted in the mean over all coefficients, but a class is read where they are largest: at its own, where a sum with an
        // image doubles them, as in packing
        let one = self.switched(here.info.level) / here.info.scale;
        let own = one * (((spacing as f64).powi(2) - 1.0) / 3.0).sqrt();
        let each = classes.into_iter().map(|class| {
            let errors = self.with_error(here, own).errors;
            class.with(|class| {
                Ok(MeterValue {
                    errors,
                    ..class.clone()
                })
            })
        });
        each.collect()
    }
    fn convolve(
        &self,
        xs: &[Coefficients<MeterValue>],
        layer: &Convolution,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Option<Coefficients<MeterValue>>>, Error> {
        self.convolved(xs, layer, weights, scale)
    }
    fn add_values(
        &self,
        x: &Coefficients<MeterValue>,
        b: &Arc<[f64]>,
    ) -> Result<Coefficients<MeterValue>, Error> {
        let key = (b.as_ptr() as usize, b.len());
        let known = self.state().values.get(&key).map(|known| known.1);
        let most = known.unwrap_or_else(|| {
            let most = b.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
            self.state().values.insert(key, (b.clone(), most));
            most
        });
        let slots = x.value().info.slots;
        // a slot is a sum over all of them
        let most = most * 2.0 * slots as f64;
        Coefficients::of(self, self.add_up_to(x.value(), slots, most)?)
    }
    fn small(&self) -> Option<&Self> {
        Some(&*self.small.as_ref()?.inner)
    }
    fn narrow(&self, x: &Coefficients<MeterValue>) -> Result<Vec<Coefficients<MeterValue>>, Error> {
        let Small { switch, inner } = typing::small_ring(self.parameters(), self.small.as_ref())?;
        let info = switch.narrowed(&x.value().info)?;
        let t = switch.classes();
        let y = self.between(x.value(), info, switch, t);
        (0..t)
            .map(|_| {
                // an error of e in a coefficient is one of e·√N' in slots
                let part = 1.0 / (t as f64).sqrt();
                let errors = inner.renewed(y.deviation() * part, y.errors.of_weights() * part);
                let class = MeterValue {
                    errors,
                    rms: y.rms * part,
                    ..y.at(info)
                };
                Coefficients::of(&**inner, class)
            })
            .collect()
    }
    fn widen(
        &self,
        classes: &[Option<Coefficients<MeterValue>>],
    ) -> Result<Coefficients<MeterValue>, Error> {
        let Small { switch, inner } = typing::small_ring(self.parameters(), self.small.as_ref())?;
        let info = |c: &Coefficients<_>| inner.info(c.value());
        let info = switch.widened(classes.iter().map(|c| c.as_ref().map(info)))?;
        let known = || classes.iter().flatten().map(Coefficients::value);
        let most = |of: fn(&MeterValue) -> f64| known().map(of).fold(0.0, f64::max);
        // the mean over coefficients is one over classes
        let root = |of: fn(&MeterValue) -> f64| known().map(|x| of(x).powi(2)).sum::<f64>().sqrt();
        let y = MeterValue {
            info,
            bound: most(|x| x.bound),
            rms: root(|x| x.rms),
            errors: self.renewed(root(MeterValue::deviation), root(|x| x.errors.of_weights())),
            peak: most(|x| x.peak),
            complex: false,
        };
        Coefficients::of(self, self.between(&y, info, switch, 1))
    }
    fn mul_i(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        let kept = self.at(x.info.level).kept;
        self.spend(passes(4.0 * kept));
        Ok(MeterValue {
            errors: x.errors.clone().turned(),
            complex: true,
            ..x.clone()
        })
    }
    fn mul(&self, x: &MeterValue, y: &MeterValue) -> Result<MeterValue, Error> {
        let info = typing::product(&x.info, &y.info)?;
        let kept = self.at(x.info.level).kept;
        self.spend(Cost {
            multiply_adds: 4.0 * kept,
            ..Cost::default()
        });
        let complex = x.complex || y.complex;
        let errors = (x.errors.clone().times(y.rms)).plus(&y.errors.clone().times(x.rms));
        Ok(MeterValue {
            bound: x.bound * y.bound,
            rms: (x.rms * y.bound).min(x.bound * y.rms),
            errors: if complex { errors.spread() } else { errors },
            peak: x.peak.max(y.peak),
            complex,
            ..x.at(info)
        })
    }
    fn relinearize(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        if x.info.degree == 1 {
            return Ok(x.clone());
        }
        self.need(KeyName::Relinearization, x.info.level);
        let at = self.at(x.info.level);
        let mut cost = at.switch();
        cost.passes += 2.0 * at.kept;
        self.spend(cost);
        let y = self.with_error(x, self.switched(x.info.level) / x.info.scale);
        Ok(y.at(Info {
            degree: 1,
            ..y.info
        }))
    }
    fn rescale(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        let info = typing::rescaled(self.parameters(), &x.info)?;
        self.spend(
            self.at(x.info.level)
                .rescale()
                .times(x.info.degree as f64 + 1.0),
        );
        let y = self.with_error(x, self.rounding() / info.scale);
        Ok(y.at(info))
    }
    fn relinearize_rescale(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        if x.info.degree == 1 {
            return self.rescale(x);
        }
        let info = typing::rescaled(self.parameters(), &x.info)?;
        self.need(KeyName::Relinearization, x.info.level);
        let at = self.at(x.info.level);
        let mut cost = at
            .decomposition()
            .plus(at.digit_limbs())
            .plus(at.times_key())
            .plus(at.down_and_rescale(at.special));
        cost.passes += 2.0 * at.kept;
        self.spend(cost);
        let y = self.with_error(x, self.switching(x.info.level) / x.info.scale);
        let y = self.with_error(&y, self.rounding() / info.scale);
        Ok(y.at(Info { degree: 1, ..info }))
    }
    fn drop_to(&self, x: &MeterValue, level: Level) -> Result<MeterValue, Error> {
        Ok(x.at(typing::dropped(&x.info, level)?))
    }
    fn with_scale(&self, x: &MeterValue, scale: f64) -> Result<MeterValue, Error> {
        let info = Info { scale, ..x.info };
        Ok(x.times(x.info.scale / scale).at(info))
    }
    fn with_exact_scale(&self, x: &MeterValue, scale: f64) -> Result<MeterValue, Error> {
        typing::scales("with_exact_scale", x.info.scale, scale)?;
        Ok(x.at(Info { scale, ..x.info }))
    }
    fn assume_bound(&self, x: &MeterValue, bound: f64) -> Result<MeterValue, Error> {
        // T_k(cos θ) = cos kθ has root mean square 1/√2
        Ok(MeterValue {
            bound: x.bound.min(bound),
            rms: x.rms.min(bound * std::f64::consts::FRAC_1_SQRT_2),
            ..x.clone()
        })
    }
    fn rotate(&self, x: &MeterValue, by: i64) -> Result<MeterValue, Error> {
        if by.rem_euclid(x.info.slots as i64) == 0 {
            return Ok(x.clone());
        }
        self.rotated(
            x,
            self.left(by),
            galois_element(self.parameters(), by),
            false,
        )
    }
    fn conjugate(&self, x: &MeterValue) -> Result<MeterValue, Error> {
        self.rotated(x, 0, conjugation_element(self.parameters()), false)
    }
    fn rotate_many(&self, x: &MeterValue, by: &[i64]) -> Result<Vec<MeterValue>, Error> {
        let mut decomposed = false;
        by.iter()
            .map(|&k| {
                if k.rem_euclid(x.info.slots as i64) == 0 {
                    return Ok(x.clone());
                }
                let g = galois_element(self.parameters(), k);
                let y = self.rotated(x, self.left(k), g, decomposed);
                decomposed = true;
                y
            })
            .collect()
    }
    fn mod_raise(&self, x: &MeterValue, to: Level, by: &[usize]) -> Result<MeterValue, Error> {
        let y = self.raised(x, to, by.len())?;
        let raise = |&by: &usize| KeyName::Raise(galois_element(self.parameters(), by as i64));
        self.need_together(by.iter().map(raise).collect(), to);
        let (at, count) = (self.at(to), by.len() as f64);
        self.spend(at.raised_image().times(count));
        self.spend(division(at.kept, 1.0).times(2.0));
        let slots = self.parameters().max_slots();
        let images = by.iter().map(|&by| y.errors.clone().rotated(by, slots));
        let errors = images.reduce(|sum, e| sum.plus(&e)).unwrap_or_default();
        let z = MeterValue {
            bound: y.bound * count,
            rms: y.rms * count,
            errors,
            ..y
        };
        let error = self.rounding().hypot(self.imaged() * count.sqrt());
        Ok(self.with_error(&z, error / x.info.scale))
    }
    fn raise_linear(
        &self,
        x: &MeterValue,
        to: Level,
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<MeterValue>, Error> {
        let y = self.raised(x, to, 1)?;
        let typed = crate::linear::typed(self, std::slice::from_ref(&y), map, scale)?;
        let gain = self.state().weights.gain(map);
        self.spend(self.at(to).raised_map(&gain.size));
        let raise = |by: usize| KeyName::Raise(galois_element(self.parameters(), by as i64));
        self.need_together(map.babies(0).into_iter().map(raise).collect(), to);
        Ok(self.summed(&[y], map, (typed, &gain, self.imaged()), Weights::Exact))
    }
    fn with_slots(&self, x: &MeterValue, slots: usize) -> Result<MeterValue, Error> {
        typing::slots(self.parameters(), "with_slots", slots)?;
        Ok(x.at(Info { slots, ..x.info }))
    }
    fn linear(
        &self,
        xs: &[MeterValue],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<MeterValue>, Error> {
        self.mapped(xs, map, scale, Weights::Exact)
    }
    fn bootstrap(&self, x: &Parts<MeterValue>, b: &Bootstrap) -> Result<Parts<MeterValue>, Error> {
        let y = b.apply(self, &x.each(|x| Ok(x.exact()))?)?;
        let (Some(imaginary), Some(second)) = (&x.second, &y.second) else {
            // imaginary parts of errors come back as real ones of other slots
            return y.each(|y| Ok(self.carrying(y.clone(), &x.first, b.gain)));
        };
        // of x + i·y: the imaginary part of one vector's error is in the other's
        let errors = (x.first.errors.clone()).plus(&imaginary.errors.clone().turned());
        let joined = MeterValue {
            errors: errors.times(0.5 * b.gain),
            peak: x.first.peak.max(imaginary.peak),
            ..x.first.clone()
        };
        let own = |y: &MeterValue| MeterValue {
            errors: y.errors.as_source(self.source()),
            ..y.clone()
        };
        let [first, second] = self.parts(&joined, [own(&y.first), own(second)]);
        Ok(Parts {
            first,
            second: Some(second),
        })
    }
    fn to_coefficients(
        &self,
        parts: &Parts<MeterValue>,
        d: &Descent,
    ) -> Result<Coefficients<MeterValue>, Error> {
        // an error of e in every coefficient counts as one of e·√N in slots; here e is in 2n of the N, whose slots have e·√(2n)
        let few = (self.parameters().max_slots() as f64 / d.slots.max(1) as f64).sqrt();
        d.apply(self, &parts.each(|x| Ok(x.times(few)))?)
    }
    fn half_bootstrap(
        &self,
        x: &Coefficients<MeterValue>,
        h: &HalfBootstrap,
    ) -> Result<Parts<MeterValue>, Error> {
        let exact = Coefficients::of(self, x.value().exact())?;
        // an error of e in every coefficient is one of e·√N in slots
        let slope = 1.0 / self.n().sqrt();
        let parts = h.apply(self, &exact)?;
        parts.each(|y| Ok(self.carrying(y.clone(), x.value(), slope)))
    }
    fn polynomial(&self, x: &MeterValue, polynomial: &Polynomial) -> Result<MeterValue, Error> {
        self.through(x, polynomial, |x| {
            crate::polynomial::evaluate(self, x, polynomial)
        })
    }
    fn eval_mod(&self, x: &MeterValue, cosine: &Polynomial) -> Result<MeterValue, Error> {
        let spec = typing::bootstrapping(self.parameters())?;
        let exact = x.exact_operand();
        let exact = MeterValue {
            bound: grid(exact.bound),
            rms: grid(exact.rms),
            ..exact
        };
        let Info { level, slots, .. } = exact.info;
        let numbers = [exact.info.scale, exact.bound, exact.rms].map(f64::to_bits);
        let key = (
            cosine.coefficients().as_ptr() as usize,
            level,
            slots,
            numbers,
        );
        let known = self.state().sines.get(&key).cloned();
        let sine = match known {
            Some(known) => known,
            None => {
                let apart = Self::new(&self.context);
                let result = crate::bootstrap::eval_mod(&apart, &exact, cosine)?;
                let State {
                    cost, keys, uses, ..
                } = std::mem::take(&mut *apart.state());
                let sine = Remembered {
                    result,
                    cost,
                    keys,
                    uses,
                };
                let sine = Arc::new(sine);
                self.state().sines.insert(key, sine.clone());
                sine
            }
        };
        let y = {
            let mut state = self.state();
            state.cost = state.cost.plus(sine.cost);
            (sine.keys.0.iter()).for_each(|(&key, &limit)| state.keys.need(key, limit));
            for (&key, times) in &sine.uses.times {
                *state.uses.times.entry(key).or_insert(0) += times;
            }
            (state.uses.together).extend(sine.uses.together.iter().cloned());
            sine.result.clone()
        };
        // v stays near integers, where the sine's slope in v is 2π
        let slope = 2.0 * std::f64::consts::PI * crate::dft::radius(spec.range);
        Ok(self.carrying(y, x, slope))
    }
}
