//! The clear interpreter: what a circuit means, in f64. It runs the whole bootstrap circuit, ModRaise included.

use crate::arithmetic::{Info, same_scale};
use crate::{Arithmetic, BlockMap, Complex64, Encoder, Error, Level, Parameters};
use std::sync::atomic::{AtomicU64, Ordering};

/// A vector of slots with the level and scale that its ciphertext has.
#[derive(Clone, Debug, PartialEq)]
pub struct ClearValue {
    /// One period of slots.
    pub values: Vec<Complex64>,
    /// Level.
    pub level: Level,
    /// Scale.
    pub scale: f64,
    /// 1, or 2 before relinearisation.
    pub degree: usize,
}

impl ClearValue {
    fn at(&self, j: usize) -> Complex64 {
        self.values[j & (self.values.len() - 1)]
    }
}

/// Interprets circuits on f64 vectors.
#[derive(Debug)]
pub struct Clear {
    parameters: Parameters,
    encoder: Encoder,
    /// State of the generator of ModRaise's I.
    state: AtomicU64,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder")
    }
}

impl Clear {
    /// For these parameters; `seed` fixes ModRaise's multiples of q0.
    pub fn new(parameters: &Parameters, seed: u64) -> Self {
        Self {
            parameters: parameters.clone(),
            encoder: Encoder::new(parameters.max_slots()),
            state: AtomicU64::new(seed),
        }
    }
    /// A vector (length a power of two) at a residual level and its canonical scale.
    ///
    /// # Errors
    /// If the vector does not fit.
    pub fn input(&self, v: &[Complex64], level: Level) -> Result<ClearValue, Error> {
        if !v.len().is_power_of_two() || v.len() > self.parameters.max_slots() {
            return Err(Error::Slots {
                operation: "input",
                slots: v.len(),
                most: self.parameters.max_slots(),
            });
        }
        Ok(ClearValue {
            values: v.to_vec(),
            level,
            scale: self.parameters.scale(level),
            degree: 1,
        })
    }
    fn next(&self) -> u64 {
        // SplitMix64: a model of I, nothing secret
        let mut z = self
            .state
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn zip(
        &self,
        operation: &'static str,
        x: &ClearValue,
        y: &ClearValue,
        f: impl Fn(Complex64, Complex64) -> Complex64,
    ) -> Result<ClearValue, Error> {
        if x.level != y.level {
            return Err(Error::LevelMismatch {
                operation,
                left: x.level.index(),
                right: y.level.index(),
            });
        }
        let n = x.values.len().max(y.values.len());
        Ok(ClearValue {
            values: (0..n).map(|j| f(x.at(j), y.at(j))).collect(),
            level: x.level,
            scale: x.scale,
            degree: x.degree.max(y.degree),
        })
    }
    fn same_scale(operation: &'static str, x: &ClearValue, y: &ClearValue) -> Result<(), Error> {
        if same_scale(x.scale, y.scale) {
            Ok(())
        } else {
            Err(Error::ScaleMismatch {
                operation,
                left: x.scale.log2(),
                right: y.scale.log2(),
            })
        }
    }
    fn map(&self, x: &ClearValue, f: impl Fn(Complex64) -> Complex64) -> ClearValue {
        ClearValue {
            values: x.values.iter().map(|&v| f(v)).collect(),
            ..*x
        }
    }
    fn linear_degree(operation: &'static str, x: &ClearValue) -> Result<(), Error> {
        if x.degree == 1 {
            Ok(())
        } else {
            Err(Error::Degree {
                operation,
                needed: 1,
                had: x.degree,
            })
        }
    }
}

impl Arithmetic for Clear {
    type Value = ClearValue;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }
    fn info(&self, x: &ClearValue) -> Info {
        Info {
            level: x.level,
            scale: x.scale,
            slots: x.values.len(),
        }
    }
    fn add(&self, x: &ClearValue, y: &ClearValue) -> Result<ClearValue, Error> {
        Self::same_scale("add", x, y)?;
        self.zip("add", x, y, |a, b| a + b)
    }
    fn sub(&self, x: &ClearValue, y: &ClearValue) -> Result<ClearValue, Error> {
        Self::same_scale("sub", x, y)?;
        self.zip("sub", x, y, |a, b| a - b)
    }
    fn add_plain(&self, x: &ClearValue, v: &[Complex64]) -> Result<ClearValue, Error> {
        let v = ClearValue {
            values: v.to_vec(),
            ..*x
        };
        self.zip("add_plain", x, &v, |a, b| a + b)
    }
    fn mul_plain(&self, x: &ClearValue, v: &[Complex64], scale: f64) -> Result<ClearValue, Error> {
        let v = ClearValue {
            values: v.to_vec(),
            ..*x
        };
        Ok(ClearValue {
            scale: x.scale * scale,
            ..self.zip("mul_plain", x, &v, |a, b| a * b)?
        })
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &ClearValue)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<ClearValue, Error> {
        let n = terms.iter().map(|(_, x)| x.values.len()).max().unwrap_or(1);
        let mut values = vec![Complex64::new(constant, 0.0); n];
        for (c, x) in terms {
            if x.level < level {
                return Err(Error::Levels {
                    operation: "linear combination",
                    needed: level.index(),
                    had: x.level.index(),
                });
            }
            for (j, v) in values.iter_mut().enumerate() {
                *v += x.at(j) * *c;
            }
        }
        Ok(ClearValue {
            values,
            level,
            scale,
            degree: terms.iter().map(|(_, x)| x.degree).max().unwrap_or(1),
        })
    }
    fn mul_integer(&self, x: &ClearValue, k: i64) -> Result<ClearValue, Error> {
        Ok(self.map(x, |v| v * k as f64))
    }
    fn mul_i(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        Ok(self.map(x, |v| v * Complex64::new(0.0, 1.0)))
    }
    fn mul(&self, x: &ClearValue, y: &ClearValue) -> Result<ClearValue, Error> {
        Self::linear_degree("mul", x)?;
        Self::linear_degree("mul", y)?;
        Ok(ClearValue {
            scale: x.scale * y.scale,
            degree: 2,
            ..self.zip("mul", x, y, |a, b| a * b)?
        })
    }
    fn relinearize(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        Ok(ClearValue {
            degree: 1,
            ..x.clone()
        })
    }
    fn rescale(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        let level = self.parameters.below(x.level).ok_or(Error::Levels {
            operation: "rescale",
            needed: 1,
            had: 0,
        })?;
        Ok(ClearValue {
            level,
            scale: x.scale / self.parameters.modulus(x.level),
            ..x.clone()
        })
    }
    fn drop_to(&self, x: &ClearValue, level: Level) -> Result<ClearValue, Error> {
        if x.level < level {
            return Err(Error::Levels {
                operation: "drop",
                needed: level.index(),
                had: x.level.index(),
            });
        }
        Ok(ClearValue { level, ..x.clone() })
    }
    fn with_scale(&self, x: &ClearValue, scale: f64) -> Result<ClearValue, Error> {
        let ratio = x.scale / scale;
        Ok(ClearValue {
            scale,
            ..self.map(x, |v| v * ratio)
        })
    }
    fn with_exact_scale(&self, x: &ClearValue, scale: f64) -> Result<ClearValue, Error> {
        // a rounding difference of scales is not a change of value
        if same_scale(x.scale, scale) {
            Ok(ClearValue { scale, ..x.clone() })
        } else {
            Err(Error::ScaleMismatch {
                operation: "with_exact_scale",
                left: x.scale.log2(),
                right: scale.log2(),
            })
        }
    }
    fn rotate(&self, x: &ClearValue, by: i64) -> Result<ClearValue, Error> {
        Self::linear_degree("rotate", x)?;
        let n = x.values.len();
        let by = by.rem_euclid(n as i64) as usize;
        Ok(ClearValue {
            values: (0..n).map(|j| x.at(j + by)).collect(),
            ..*x
        })
    }
    fn conjugate(&self, x: &ClearValue) -> Result<ClearValue, Error> {
        Self::linear_degree("conjugate", x)?;
        Ok(self.map(x, |v| v.conj()))
    }
    fn mod_raise(&self, x: &ClearValue, to: Level) -> Result<ClearValue, Error> {
        if x.level.index() != 0 {
            return Err(Error::Levels {
                operation: "mod_raise (from level 0)",
                needed: 0,
                had: x.level.index(),
            });
        }
        let spec = self.parameters.bootstrap().ok_or(Error::Conformance {
            object: "mod_raise",
            reason: "these parameters have no bootstrapping".into(),
        })?;
        let n = x.values.len();
        let most = self.parameters.max_slots();
        let mut w = x.values.clone();
        self.encoder.to_coefficients(&mut w)?;
        // the n-slot polynomial in Y = X^(N/2n) as one of N/2 slots, plus q0/scale times I on every coefficient
        let unit = self.parameters.modulus(Level::new(0)) / x.scale;
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
        self.encoder.to_slots(&mut values)?;
        Ok(ClearValue {
            values,
            level: to,
            scale: x.scale,
            degree: 1,
        })
    }
    fn with_slots(&self, x: &ClearValue, slots: usize) -> Result<ClearValue, Error> {
        if !slots.is_power_of_two() || slots > self.parameters.max_slots() {
            return Err(Error::Slots {
                operation: "with_slots",
                slots,
                most: self.parameters.max_slots(),
            });
        }
        Ok(ClearValue {
            values: (0..slots).map(|j| x.at(j)).collect(),
            ..*x
        })
    }
    fn linear(
        &self,
        xs: &[ClearValue],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<ClearValue>, Error> {
        let (level, _) = crate::map::prepare(self, xs, map, scale)?;
        let level = self.parameters.below(level).ok_or(Error::Levels {
            operation: "linear",
            needed: 1,
            had: 0,
        })?;
        let n = map.slots();
        let mut outs = vec![vec![Complex64::new(0.0, 0.0); n]; map.outputs()];
        for t in map.terms() {
            let x = &xs[t.input];
            let by = t.giant + t.baby;
            for (j, y) in outs[t.output].iter_mut().enumerate() {
                *y += t.values.at(j) * x.at(j + by);
            }
        }
        Ok(outs
            .into_iter()
            .map(|mut y| {
                for &f in map.folds() {
                    y = (0..n).map(|j| y[j] + y[(j + f) & (n - 1)]).collect();
                }
                ClearValue {
                    values: y,
                    level,
                    scale,
                    degree: 1,
                }
            })
            .collect())
    }
}
