//! Bootstrapping: SlotToCoeff, ModRaise, CoeffToSlot, EvalMod, with sparse-secret encapsulation [CHKKS18, BMTH21, BTH22].
//!
//! SlotToCoeff comes first: while EvalMod runs, values lie in coefficients, and its errors are not multiplied by √N afterwards. A coefficient of phase S₀·x
//! becomes S₀·x + q₀·I in ModRaise, |I| ≤ K; read at scale q₀ the value is v = x·S₀/q₀ + I. EvalMod evaluates sin(2πv) as
//! cos(2π(v − 1/4)): a Chebyshev polynomial of cos(2π(v − 1/4)/4) in the even powers and two double angles; no arcsine: x comes back as
//! sin(κx)/κ, κ = 2πS₀/q₀, short by κ²x³/6 (docs/noise.md, as is the law of I). The factor q₀/(2πS₀) and the gain are folded into the scale.

use crate::coefficients::{Coefficients, Parts, slot_to_coeff};
use crate::dft::{KeptTransforms, Transforms, radius};
use crate::typing::Info;
use crate::{Arithmetic, Error, Form, Level, Parameters, Polynomial, typing};

/// A bootstrap: one or two real vectors (at [`Parameters::floor`], |x| ≤ 1/2) come back as gain·x at level `target`.
///
/// Their imaginary parts count as errors. One vector fills half of the coefficients that two of the same period do, and takes half of their
/// EvalMods. The gain is folded into scales and costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bootstrap {
    /// Period of the operands.
    pub slots: usize,
    /// Residual level of the results.
    pub target: usize,
    /// The results are gain·x.
    pub gain: f64,
}

/// Largest integer that a gain is made of.
const MOST_GAIN: f64 = 1e6;
/// Fewest slots that transforms are made for.
const LEAST_SLOTS: usize = 4;

/// sin(2πv) from (v/R), at the canonical scale of EvalMod's last level.
pub(crate) fn eval_mod<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    cosine: &Polynomial,
) -> Result<A::Value, Error> {
    let spec = typing::bootstrapping(a.parameters())?;
    let here = a.info(x);
    let constant = -0.25 / radius(spec.range);
    let w = a.linear_combination(&[(1.0, x)], constant, here.level, here.scale)?;
    let mut c = a.polynomial(&w, cosine)?;
    for _ in 0..spec.double_angles {
        c = crate::polynomial::double(a, &c, &c, None)?;
    }
    Ok(c)
}

/// Rotations of a trace that are taken together with ModRaise: each has a key more.
const TRACED: usize = 8;

/// ModRaise, the trace onto X^(N/2n), CoeffToSlot and EvalMod: the sines of 2π(coefficient/q₀), real. Of one vector of 2n slots where n = `slots` is
/// below N/2.
pub(crate) fn sines<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    transforms: &Transforms,
    slots: usize,
    target: Level,
) -> Result<Parts<A::Value>, Error> {
    let p = a.parameters();
    let (top, most) = (p.top(target), p.max_slots());
    let below = |level| Ok::<_, Error>(p.scale(typing::below(p, "bootstrap", level)?));
    let x = a.with_scale(x, p.scale(top))?;
    let maps = transforms.coeff_to_slot.split_first();
    let (first, maps) = maps.expect("parameters have levels for CoeffToSlot");
    let mut y = if slots == most {
        a.raise_linear(&x, top, first, below(top)?)?.swap_remove(0)
    } else {
        // the largest rotations of the trace, which all slot counts share, with ModRaise
        let traced = (most / slots).min(TRACED);
        let by: Vec<usize> = (0..traced).map(|t| t * (most / traced)).collect();
        let mut y = a.mod_raise(&x, top, &by)?;
        let mut step = slots;
        while step < most / traced {
            y = a.add(&y, &a.rotate(&y, step as i64)?)?;
            step *= 2;
        }
        let y = a.with_slots(&y, slots)?;
        a.linear(&[y], first, below(top)?)?.swap_remove(0)
    };
    for map in maps {
        let scale = below(a.info(&y).level)?;
        y = a.linear(&[y], map, scale)?.swap_remove(0);
    }
    let conjugate = a.conjugate(&y)?;
    let first = a.eval_mod(&a.add(&y, &conjugate)?, &transforms.cosine)?;
    // both halves side by side are real already
    let second = if a.info(&y).slots > slots {
        None
    } else {
        let imaginary = a.mul_i(&a.sub(&conjugate, &y)?)?;
        Some(a.eval_mod(&imaginary, &transforms.cosine)?)
    };
    Ok(Parts { first, second })
}

impl Bootstrap {
    /// The transforms that it takes for one vector or two: complex slots and form.
    fn form(&self, vectors: usize) -> (usize, Form) {
        match vectors {
            // 2n real values, n the least that transforms are made for
            1 => ((self.slots / 2).max(LEAST_SLOTS), Form::Real),
            _ => (self.slots, Form::Complex),
        }
    }
    /// What it keeps encoded, for one vector or two.
    pub fn kept(&self, vectors: usize) -> KeptTransforms {
        let (slots, form) = self.form(vectors);
        KeptTransforms {
            slots,
            form,
            first: (self.target, self.gain.to_bits()),
        }
    }
    /// Carries it out.
    ///
    /// # Errors
    /// If the operands are not at [`Parameters::floor`] and its canonical scale, or have a larger period.
    pub fn apply<A: Arithmetic + ?Sized>(
        &self,
        a: &A,
        x: &Parts<A::Value>,
    ) -> Result<Parts<A::Value>, Error> {
        let p = a.parameters();
        let to = self.typed(p, x.infos(a))?;
        let y = self.refreshed(a, x, to.level)?;
        y.each(|y| a.assume_bound(&a.with_slots(y, self.slots)?, 0.5 * self.gain))
    }
    /// Where the results stand.
    ///
    /// # Errors
    /// As [`Bootstrap::apply`].
    pub(crate) fn typed(
        &self,
        p: &Parameters,
        operands: impl Iterator<Item = Info>,
    ) -> Result<Info, Error> {
        typing::bootstrapping(p)?;
        typing::slots(p, "bootstrap", self.slots)?;
        for here in operands {
            typing::linear_degree("bootstrap", &here)?;
            typing::levels("bootstrap (from the lowest level)", here.level, p.floor())?;
            typing::scales("bootstrap", here.scale, p.scale(p.floor()))?;
            if here.slots > self.slots || self.slots < LEAST_SLOTS {
                return Err(Error::Slots {
                    operation: "bootstrap",
                    slots: here.slots,
                    most: self.slots,
                });
            }
        }
        let level = typing::landing(p, self.target)?;
        if self.gain.is_nan() || self.gain <= 0.0 {
            return Err(Error::conformance(
                "bootstrap",
                format!("a gain of {}", self.gain),
            ));
        }
        Ok(Info::fresh(p, level, self.slots))
    }
    /// The integer of the gain, and the scale of coefficients: an integer gain costs noise alone, a gain in the scale costs the sine's bias: the
    /// latter for what no integer does.
    fn scales(&self, p: &Parameters, target: Level) -> (f64, f64) {
        let whole = self.gain.floor().clamp(1.0, MOST_GAIN);
        (whole, p.base_scale(target) * self.gain / whole)
    }
    /// x comes back as gain·sin(κx)/κ with this κ.
    pub fn angle(&self, p: &Parameters) -> f64 {
        let (_, scale) = self.scales(p, Level::new(self.target));
        std::f64::consts::TAU * scale / p.modulus(Level::new(0))
    }
    fn refreshed<A: Arithmetic + ?Sized>(
        &self,
        a: &A,
        x: &Parts<A::Value>,
        target: Level,
    ) -> Result<Parts<A::Value>, Error> {
        let p = a.parameters();
        let (whole, scale) = self.scales(p, target);
        let (slots, form) = self.form(x.count());
        let transforms = a.context().transforms(slots, form)?;
        let y = match form {
            Form::Complex => x.joined(a)?,
            Form::Real => x.first.clone(),
        };
        let from = match form {
            Form::Complex => slots,
            Form::Real => 2 * slots,
        };
        let y = a.with_slots(&y, from)?;
        let y = slot_to_coeff(a, vec![y], None, &transforms.slot_to_coeff, scale)?;
        let y = a.with_slots(&a.drop_to(&y, Level::new(0))?, slots)?;
        sines(a, &y, transforms, slots, target)?.each(|y| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "an integer of at most MOST_GAIN"
            )]
            let y = a.mul_integer(y, whole as i64)?;
            // sin(2πv) ≈ 2π·x·scale/q₀, and `whole` times that is gain·x at the canonical scale
            let unit = a.info(&y).scale * self.angle(p) * whole / self.gain;
            a.with_exact_scale(&a.with_scale(&y, unit)?, p.scale(target))
        })
    }
}

/// The way up: ModRaise, CoeffToSlot and EvalMod. Values at level 0 and the scale [`Parameters::base_scale`] of the target, |x| ≤ 1/2, come back in
/// slots, at the canonical scale of a residual level.
///
/// Every x comes back as sin(κx)/κ, κ = 2πS₀/q₀: short of x by κ²x³/6. That is known, and part of what the circuit means.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HalfBootstrap {
    /// Residual level of the result.
    pub target: usize,
}

impl HalfBootstrap {
    /// Where the parts stand.
    ///
    /// # Errors
    /// If the operand is not at level 0 and the scale that the target needs.
    pub(crate) fn typed(&self, p: &Parameters, x: &Info) -> Result<Info, Error> {
        typing::bootstrapping(p)?;
        let level = typing::landing(p, self.target)?;
        typing::levels("half bootstrap (from level 0)", x.level, Level::new(0))?;
        typing::scales("half bootstrap", x.scale, p.base_scale(level))?;
        let slots = if x.slots < p.max_slots() {
            2 * x.slots
        } else {
            x.slots
        };
        Ok(Info {
            level,
            scale: p.scale(level),
            slots,
            degree: 1,
        })
    }
    /// What it keeps encoded, for an operand of so many slots, the way down included.
    pub fn kept(&self, slots: usize) -> KeptTransforms {
        KeptTransforms {
            slots,
            form: Form::Real,
            first: (self.target, 0),
        }
    }
    /// What values at the canonical scale of level 0 are multiplied by where they are read at the scale that the target needs: near 1, and 1 for the
    /// highest target.
    pub fn ratio(&self, p: &Parameters) -> f64 {
        match Level::new(self.target) < p.residual() {
            true => p.scale(Level::new(0)) / p.base_scale(Level::new(self.target)),
            false => 1.0,
        }
    }
    /// κ of the sine that values come back through.
    pub fn angle(&self, p: &Parameters) -> f64 {
        let scale = p.base_scale(Level::new(self.target));
        std::f64::consts::TAU * scale / p.modulus(Level::new(0))
    }
    /// Carries it out. Two parts where all coefficients count, else one: EvalMod then runs once.
    ///
    /// # Errors
    /// If the operand is not at level 0 and the scale that the target needs, or keys are missing.
    pub fn apply<A: Arithmetic + ?Sized>(
        &self,
        a: &A,
        x: &Coefficients<A::Value>,
    ) -> Result<Parts<A::Value>, Error> {
        let p = a.parameters();
        let here = a.info(x.value());
        let to = self.typed(p, &here)?;
        let transforms = a.context().transforms(here.slots, Form::Real)?;
        let sines = sines(a, x.value(), transforms, here.slots, to.level)?;
        sines.each(|v| {
            // sin(2πv) ≈ 2π·x·S₀/q₀
            let unit = a.info(v).scale * self.angle(p);
            let v = a.with_exact_scale(&a.with_scale(v, unit)?, to.scale)?;
            a.assume_bound(&v, 0.5)
        })
    }
}
