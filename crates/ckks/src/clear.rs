//! The clear interpreter: what a circuit means, in f64. A bootstrap is what it means; its circuit can be run, too, ModRaise included.

use crate::coefficients::{Parts, slot_of};
use crate::ring_switch::{RingSwitch, Small};
use crate::typing::{self, Info};
use crate::{
    Arithmetic, BlockMap, Bootstrap, Coefficients, Complex64, Context, Convolution, Descent, Error,
    HalfBootstrap, Level, WeightRows, packing,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A vector of slots with the level and scale that its ciphertext has.
#[derive(Clone, Debug, PartialEq)]
pub struct ClearValue {
    /// One period of slots.
    pub values: Vec<Complex64>,
    /// What its ciphertext says of itself.
    pub info: Info,
}

impl ClearValue {
    fn new(values: Vec<Complex64>, info: Info) -> Self {
        Self { values, info }
    }
    fn at(&self, j: usize) -> Complex64 {
        self.values[j & (self.values.len() - 1)]
    }
}

/// Interprets circuits on f64 vectors.
#[derive(Debug)]
pub struct Clear {
    context: Context,
    /// State of the generator of ModRaise's I.
    state: AtomicU64,
    small: Option<Small<Clear>>,
}

/// What the state of [`split_mix`] grows by.
pub const SPLIT_MIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea, Flood 2014) in this state: for models, nothing secret.
pub const fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(SPLIT_MIX_STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Clear {
    /// For a context's parameters; `seed` fixes ModRaise's multiples of q0.
    pub fn new(context: &Context, seed: u64) -> Self {
        Self {
            context: context.clone(),
            state: AtomicU64::new(seed),
            small: RingSwitch::of(context).map(Self::within),
        }
    }
    /// With a small ring.
    #[must_use]
    pub fn with_small(mut self, switch: &RingSwitch) -> Self {
        self.small = Some(Self::within(switch.clone()));
        self
    }
    fn within(switch: RingSwitch) -> Small<Self> {
        let inner = Self::new(switch.small(), 0);
        Small::new(switch, inner)
    }
    /// Real values in all N coefficients, where `info` says.
    fn of_coefficients(&self, v: &[f64], info: Info) -> Result<Coefficients<ClearValue>, Error> {
        let values = self.context.encoder().decode(v)?;
        Coefficients::of(self, ClearValue::new(values, info))
    }
    /// The coefficients of a polynomial that may have a smaller period: all N of them.
    fn all(&self, x: &Coefficients<ClearValue>) -> Result<Vec<f64>, Error> {
        let slots = self.parameters().max_slots();
        self.read(&Coefficients::of(self, self.with_slots(x.value(), slots)?)?)
    }
    /// A vector (length a power of two) at a residual level and its canonical scale.
    ///
    /// # Errors
    /// If the vector does not fit.
    pub fn input(&self, v: &[Complex64], level: Level) -> Result<ClearValue, Error> {
        let info = typing::input(self.parameters(), level, v.len())?;
        Ok(ClearValue::new(v.to_vec(), info))
    }
    /// 2n real values at a level below SlotToCoeff and its canonical scale.
    ///
    /// # Errors
    /// If the values do not fit, or the level lies above.
    pub fn coefficients(&self, v: &[f64], level: Level) -> Result<Coefficients<ClearValue>, Error> {
        let slots = self.context.encoder().decode(v)?;
        Coefficients::of(self, self.input(&slots, level)?)
    }
    /// The 2n real values.
    ///
    /// # Errors
    /// None: what was encoded can be read.
    pub fn read(&self, x: &Coefficients<ClearValue>) -> Result<Vec<f64>, Error> {
        let mut w = x.value().values.clone();
        self.context.encoder().to_coefficients(&mut w)?;
        Ok((w.iter().map(|c| c.re).chain(w.iter().map(|c| c.im))).collect())
    }
    fn next(&self) -> u64 {
        // a model of I, nothing secret
        split_mix(self.state.fetch_add(SPLIT_MIX_STEP, Ordering::Relaxed))
    }
    /// `f` slot by slot; the result stands where `info` says.
    fn zip(
        x: &ClearValue,
        y: impl Fn(usize) -> Complex64,
        info: Info,
        f: impl Fn(Complex64, Complex64) -> Complex64,
    ) -> ClearValue {
        let values = (0..info.slots).map(|j| f(x.at(j), y(j))).collect();
        ClearValue::new(values, info)
    }
    fn map(x: &ClearValue, info: Info, f: impl Fn(Complex64) -> Complex64) -> ClearValue {
        ClearValue::new(x.values.iter().map(|&v| f(v)).collect(), info)
    }
}

impl Arithmetic for Clear {
    type Value = ClearValue;

    fn context(&self) -> &Context {
        &self.context
    }
    fn info(&self, x: &ClearValue) -> Info {
        x.info
    }
    fn add(&self, x: &ClearValue, y: &ClearValue) -> Result<ClearValue, Error> {
        let info = typing::sum("add", &x.info, &y.info)?;
        Ok(Self::zip(x, |j| y.at(j), info, |a, b| a + b))
    }
    fn sub(&self, x: &ClearValue, y: &ClearValue) -> Result<ClearValue, Error> {
        let info = typing::sum("sub", &x.info, &y.info)?;
        Ok(Self::zip(x, |j| y.at(j), info, |a, b| a - b))
    }
    fn add_plain(&self, x: &ClearValue, v: &[Complex64]) -> Result<ClearValue, Error> {
        let info = typing::plain(self.parameters(), "add_plain", &x.info, v.len(), 1.0)?;
        Ok(Self::zip(x, |j| v[j % v.len()], info, |a, b| a + b))
    }
    fn mul_plain(&self, x: &ClearValue, v: &[Complex64], scale: f64) -> Result<ClearValue, Error> {
        let info = typing::plain(self.parameters(), "mul_plain", &x.info, v.len(), scale)?;
        Ok(Self::zip(x, |j| v[j % v.len()], info, |a, b| a * b))
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &ClearValue)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<ClearValue, Error> {
        let info = typing::combination(terms.iter().map(|(_, x)| x.info), level, scale)?;
        let mut values = vec![Complex64::new(constant, 0.0); info.slots];
        for (c, x) in terms {
            for (j, v) in values.iter_mut().enumerate() {
                *v += x.at(j) * *c;
            }
        }
        Ok(ClearValue::new(values, info))
    }
    fn mul_integer(&self, x: &ClearValue, k: i64) -> Result<ClearValue, Error> {
        Ok(Self::map(x, x.info, |v| v * k as f64))
    }
    fn divide_exactly(&self, x: &ClearValue, m: u64) -> Result<ClearValue, Error> {
        Ok(Self::map(x, x.info, |v| v / m as f64))
    }
    fn convolve(
        &self,
        xs: &[Coefficients<ClearValue>],
        layer: &Convolution,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Option<Coefficients<ClearValue>>>, Error> {
        // by sums over the kernel: what stays of a product after packing is a small part of it
        packing::fits(self, xs, layer, &(0..layer.outputs()))?;
        let Some(here) = xs.first().map(|x| x.value().info) else {
            return Ok(Vec::new());
        };
        let inputs = xs
            .iter()
            .map(|x| {
                typing::levels("convolve", here.level, x.value().info.level)?;
                typing::scales("convolve", here.scale, x.value().info.scale)?;
                self.all(x)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let info = Info {
            scale: here.scale * scale,
            slots: self.parameters().max_slots(),
            ..here
        };
        let outputs = layer.evaluate(&inputs, weights)?;
        let outputs = outputs.into_iter().enumerate().map(|(number, mut out)| {
            if layer.outputs_in(number).next().is_none() {
                return Ok(None);
            }
            out.iter_mut().for_each(|v| *v /= scale);
            Ok(Some(self.of_coefficients(&out, info)?))
        });
        outputs.collect()
    }
    fn small(&self) -> Option<&Self> {
        Some(&*self.small.as_ref()?.inner)
    }
    fn narrow(&self, x: &Coefficients<ClearValue>) -> Result<Vec<Coefficients<ClearValue>>, Error> {
        let Small { switch, inner } = typing::small_ring(self.parameters(), self.small.as_ref())?;
        let (t, all) = (switch.classes(), self.all(x)?);
        let info = switch.narrowed(&x.value().info)?;
        let class = |i: usize| -> Vec<f64> { all.iter().skip(i).step_by(t).copied().collect() };
        (0..t)
            .map(|i| inner.of_coefficients(&class(i), info))
            .collect()
    }
    fn widen(
        &self,
        classes: &[Option<Coefficients<ClearValue>>],
    ) -> Result<Coefficients<ClearValue>, Error> {
        let Small { switch, inner } = typing::small_ring(self.parameters(), self.small.as_ref())?;
        let info = |c: &Coefficients<_>| inner.info(c.value());
        let info = switch.widened(classes.iter().map(|c| c.as_ref().map(info)))?;
        let t = switch.classes();
        let mut all = vec![0.0; self.parameters().n()];
        for (i, class) in classes.iter().enumerate() {
            let Some(class) = class else { continue };
            let to = all.iter_mut().skip(i).step_by(t);
            to.zip(inner.all(class)?).for_each(|(to, v)| *to = v);
        }
        self.of_coefficients(&all, info)
    }
    fn mul_i(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        Ok(Self::map(x, x.info, |v| v * Complex64::new(0.0, 1.0)))
    }
    fn mul(&self, x: &ClearValue, y: &ClearValue) -> Result<ClearValue, Error> {
        let info = typing::product(&x.info, &y.info)?;
        Ok(Self::zip(x, |j| y.at(j), info, |a, b| a * b))
    }
    fn relinearize(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        let info = Info {
            degree: 1,
            ..x.info
        };
        Ok(ClearValue::new(x.values.clone(), info))
    }
    fn rescale(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        let info = typing::rescaled(self.parameters(), &x.info)?;
        Ok(ClearValue::new(x.values.clone(), info))
    }
    fn drop_to(&self, x: &ClearValue, level: Level) -> Result<ClearValue, Error> {
        let info = typing::dropped(&x.info, level)?;
        Ok(ClearValue::new(x.values.clone(), info))
    }
    fn with_scale(&self, x: &ClearValue, scale: f64) -> Result<ClearValue, Error> {
        let ratio = x.info.scale / scale;
        let info = Info { scale, ..x.info };
        Ok(Self::map(x, info, |v| v * ratio))
    }
    fn with_exact_scale(&self, x: &ClearValue, scale: f64) -> Result<ClearValue, Error> {
        // a rounding difference of scales is not a change of value
        typing::scales("with_exact_scale", x.info.scale, scale)?;
        let info = Info { scale, ..x.info };
        Ok(ClearValue::new(x.values.clone(), info))
    }
    fn rotate(&self, x: &ClearValue, by: i64) -> Result<ClearValue, Error> {
        typing::linear_degree("rotate", &x.info)?;
        let by = by.rem_euclid(x.info.slots as i64) as usize;
        let values = (0..x.info.slots).map(|j| x.at(j + by)).collect();
        Ok(ClearValue::new(values, x.info))
    }
    fn conjugate(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        typing::linear_degree("conjugate", &x.info)?;
        Ok(Self::map(x, x.info, |v| v.conj()))
    }
    fn mod_raise(&self, x: &ClearValue, to: Level, by: &[usize]) -> Result<ClearValue, Error> {
        let p = self.parameters();
        let info = typing::raised(p, &x.info, to, by.len())?;
        let spec = typing::bootstrapping(p)?;
        let n = x.values.len();
        let most = info.slots;
        let mut w = x.values.clone();
        self.context.encoder().to_coefficients(&mut w)?;
        // the n-slot polynomial in Y = X^(N/2n) as one of N/2 slots, plus q0/scale times I on every coefficient
        let unit = p.modulus(Level::new(0)) / x.info.scale;
        let deviation = ((spec.hamming_weight as f64 + 1.0) / 12.0).sqrt();
        let gap = most / n;
        let integer = || {
            // sum of 12 uniforms: variance 1
            let sum: f64 = (0..12)
                .map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64)
                .sum::<f64>()
                - 6.0;
            (sum * deviation)
                .round()
                .clamp(-(spec.range as f64), spec.range as f64)
                * unit
        };
        let mut values: Vec<Complex64> = (0..most)
            .map(|_| Complex64::new(integer(), integer()))
            .collect();
        for (j, c) in w.iter().enumerate() {
            values[j * gap] += c;
        }
        self.context.encoder().to_slots(&mut values)?;
        let sum = |j: usize| by.iter().map(|b| values[(j + b) % most]).sum();
        Ok(ClearValue::new((0..most).map(sum).collect(), info))
    }
    fn raise_linear(
        &self,
        x: &ClearValue,
        to: Level,
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<ClearValue>, Error> {
        // all rotations are of one ModRaise, whose integers are drawn once
        self.linear(&[self.mod_raise(x, to, &[0])?], map, scale)
    }
    fn with_slots(&self, x: &ClearValue, slots: usize) -> Result<ClearValue, Error> {
        typing::slots(self.parameters(), "with_slots", slots)?;
        let values = (0..slots).map(|j| x.at(j)).collect();
        Ok(ClearValue::new(values, Info { slots, ..x.info }))
    }
    fn linear(
        &self,
        xs: &[ClearValue],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<ClearValue>, Error> {
        let to = crate::linear::typed(self, xs, map, scale)?.result;
        let n = map.slots();
        let mut outs = vec![vec![Complex64::new(0.0, 0.0); n]; map.outputs()];
        for t in map.terms() {
            let x = &xs[t.input];
            let (by, y) = (t.giant + t.baby, &mut outs[t.output]);
            let (length, run) = (t.values.len(), t.values.run());
            t.values.each(|j, v| {
                for first in (run * j..n).step_by(length) {
                    for (j, y) in (first..).zip(&mut y[first..first + run]) {
                        *y += v * x.at(j + by);
                    }
                }
            });
        }
        Ok(outs
            .into_iter()
            .map(|mut y| {
                for &f in map.folds() {
                    y = (0..n).map(|j| y[j] + y[(j + f) & (n - 1)]).collect();
                }
                ClearValue::new(y, to)
            })
            .collect())
    }
    fn bootstrap(&self, x: &Parts<ClearValue>, b: &Bootstrap) -> Result<Parts<ClearValue>, Error> {
        let p = self.parameters();
        // what the circuit means, without the circuit
        let to = b.typed(p, x.infos(self))?;
        let (angle, gain) = (b.angle(p), b.gain);
        x.each(|x| {
            let sine = |j| Complex64::new(gain * (angle * x.at(j).re).sin() / angle, 0.0);
            Ok(ClearValue::new((0..to.slots).map(sine).collect(), to))
        })
    }
    fn to_coefficients(
        &self,
        parts: &Parts<ClearValue>,
        d: &Descent,
    ) -> Result<Coefficients<ClearValue>, Error> {
        // what the circuit means, without the circuit
        let p = self.parameters();
        d.check(p, parts.count())?;
        let parts = parts.each(|x| self.align(x, p.floor()))?;
        let info = Info {
            level: p.products(),
            scale: d.scale,
            slots: d.slots,
            ..parts.first.info
        };
        let n = d.slots;
        let one = Arc::from([1.0]);
        let mask = |part: usize| d.masks.get(part).unwrap_or(&one);
        let value = |part: usize, x: &ClearValue, j: usize| {
            let mask = mask(part);
            x.at(j) * f64::from(mask[j % mask.len()])
        };
        let i = Complex64::new(0.0, 1.0);
        let joined = |j: usize| match &parts.second {
            Some(second) => value(0, &parts.first, j) + i * value(1, second, j),
            None => value(0, &parts.first, j) + i * value(0, &parts.first, j + n),
        };
        let w: Vec<Complex64> = (0..n).map(|k| joined(slot_of(k, n))).collect();
        let all: Vec<f64> = (w.iter().map(|c| c.re))
            .chain(w.iter().map(|c| c.im))
            .collect();
        self.of_coefficients(&all, info)
    }
    fn half_bootstrap(
        &self,
        x: &Coefficients<ClearValue>,
        h: &HalfBootstrap,
    ) -> Result<Parts<ClearValue>, Error> {
        // what the circuit means, without the circuit
        let p = self.parameters();
        let to = h.typed(p, &x.value().info)?;
        let angle = h.angle(p);
        let values = self.read(x)?;
        let half = values.len() / 2;
        let part = |values: &[f64]| -> Vec<Complex64> {
            (0..half)
                .map(|j| Complex64::new((angle * values[slot_of(j, half)]).sin() / angle, 0.0))
                .collect()
        };
        let (mut first, second) = (part(&values[..half]), part(&values[half..]));
        let full = to.slots == half;
        if !full {
            first.extend_from_slice(&second);
        }
        Ok(Parts {
            first: ClearValue::new(first, to),
            second: full.then(|| ClearValue::new(second, to)),
        })
    }
}
