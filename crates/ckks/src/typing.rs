//! Levels, scales, degrees and slots: what each operation asks of its operands, and where its result stands. Written once, for
//! every interpreter of [`crate::Arithmetic`]. What does not fit is refused by the [`Error`] of that name.
#![allow(clippy::missing_errors_doc, reason = "said once, above")]

use crate::parameters::BootstrapSpec;
use crate::{Error, Level, Parameters};

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// Its level.
    pub level: Level,
    /// Its scale.
    pub scale: f64,
    /// Period of its slot vector (a power of two, at most N/2).
    pub slots: usize,
    /// 1, or 2 before relinearisation.
    pub degree: usize,
}

impl Info {
    /// That of a fresh ciphertext: the level's canonical scale.
    pub(crate) fn fresh(p: &Parameters, level: Level, slots: usize) -> Self {
        Self {
            level,
            scale: p.scale(level),
            slots,
            degree: 1,
        }
    }
}

/// Relative tolerance within which two scales count as equal: the only place where it is set.
pub const SCALE_TOLERANCE: f64 = 1e-9;

/// Whether two scales are equal within [`SCALE_TOLERANCE`].
pub fn same_scale(x: f64, y: f64) -> bool {
    (x / y - 1.0).abs() <= SCALE_TOLERANCE
}

/// Refuses scales that differ.
pub fn scales(operation: &'static str, left: f64, right: f64) -> Result<(), Error> {
    if same_scale(left, right) {
        return Ok(());
    }
    Err(Error::ScaleMismatch {
        operation,
        left: left.log2(),
        right: right.log2(),
    })
}

/// Refuses levels that differ.
pub fn levels(operation: &'static str, left: Level, right: Level) -> Result<(), Error> {
    if left == right {
        return Ok(());
    }
    Err(Error::LevelMismatch {
        operation,
        left: left.index(),
        right: right.index(),
    })
}

/// Refuses a level below the one that is needed.
pub fn reaches(operation: &'static str, needed: Level, had: Level) -> Result<(), Error> {
    if had >= needed {
        return Ok(());
    }
    Err(Error::Levels {
        operation,
        needed: needed.index(),
        had: had.index(),
    })
}

/// Refuses a degree other than 1.
pub fn linear_degree(operation: &'static str, x: &Info) -> Result<(), Error> {
    if x.degree == 1 {
        return Ok(());
    }
    Err(Error::Degree {
        operation,
        needed: 1,
        had: x.degree,
    })
}

/// Refuses a slot count that is no power of two, or more than N/2.
pub fn slots(p: &Parameters, operation: &'static str, slots: usize) -> Result<(), Error> {
    let most = p.max_slots();
    if slots.is_power_of_two() && slots <= most {
        return Ok(());
    }
    Err(Error::Slots {
        operation,
        slots,
        most,
    })
}

/// The bootstrapping part of the parameters.
pub fn bootstrapping(p: &Parameters) -> Result<&BootstrapSpec, Error> {
    p.bootstrap().ok_or_else(|| Error::NoBootstrapping {
        name: p.spec().name.clone(),
    })
}

/// Refuses a level above the end of SlotToCoeff, where there is one.
pub fn in_coefficients(p: &Parameters, operation: &'static str, level: Level) -> Result<(), Error> {
    if p.floor() == Level::new(0) || level <= p.products() {
        return Ok(());
    }
    Err(Error::conformance(
        operation,
        format!(
            "level {} is above SlotToCoeff, which ends at level {}",
            level.index(),
            p.products().index()
        ),
    ))
}

/// The residual level that a bootstrap returns to.
pub fn landing(p: &Parameters, target: usize) -> Result<Level, Error> {
    let (floor, highest) = (p.floor().index(), p.residual().index());
    if (floor..=highest).contains(&target) {
        return Ok(Level::new(target));
    }
    Err(Error::Levels {
        operation: "bootstrap to its target",
        needed: target,
        had: highest,
    })
}

/// The level below.
pub fn below(p: &Parameters, operation: &'static str, level: Level) -> Result<Level, Error> {
    p.below(level).ok_or(Error::Levels {
        operation,
        needed: 1,
        had: 0,
    })
}

/// A fresh encryption of `count` slots at a level and its canonical scale.
pub fn input(p: &Parameters, level: Level, count: usize) -> Result<Info, Error> {
    slots(p, "input", count)?;
    Ok(Info::fresh(p, level, count))
}

/// A sum or difference: same level, same scale.
pub fn sum(operation: &'static str, x: &Info, y: &Info) -> Result<Info, Error> {
    levels(operation, x.level, y.level)?;
    scales(operation, x.scale, y.scale)?;
    Ok(Info {
        slots: x.slots.max(y.slots),
        degree: x.degree.max(y.degree),
        ..*x
    })
}

/// A product of two values of degree 1 at the same level.
pub fn product(x: &Info, y: &Info) -> Result<Info, Error> {
    levels("mul", x.level, y.level)?;
    linear_degree("mul", x)?;
    linear_degree("mul", y)?;
    Ok(Info {
        scale: x.scale * y.scale,
        slots: x.slots.max(y.slots),
        degree: 2,
        ..*x
    })
}

/// A product with a plaintext of `count` slots at `scale`; at scale 1, a sum with one at the value's scale.
pub fn plain(
    p: &Parameters,
    operation: &'static str,
    x: &Info,
    count: usize,
    scale: f64,
) -> Result<Info, Error> {
    slots(p, operation, count)?;
    Ok(Info {
        scale: x.scale * scale,
        slots: x.slots.max(count),
        ..*x
    })
}

/// A sum of multiples at `level` and `scale`.
pub fn combination(
    terms: impl IntoIterator<Item = Info>,
    level: Level,
    scale: f64,
) -> Result<Info, Error> {
    let mut out = Info {
        level,
        scale,
        slots: 1,
        degree: 1,
    };
    for x in terms {
        reaches("linear combination", level, x.level)?;
        out.slots = out.slots.max(x.slots);
        out.degree = out.degree.max(x.degree);
    }
    Ok(out)
}

/// One level down, divided by the level's primes.
pub fn rescaled(p: &Parameters, x: &Info) -> Result<Info, Error> {
    Ok(Info {
        level: below(p, "rescale", x.level)?,
        scale: x.scale / p.modulus(x.level),
        ..*x
    })
}

/// The same value at a level at or below its own.
pub fn dropped(x: &Info, level: Level) -> Result<Info, Error> {
    reaches("drop", level, x.level)?;
    Ok(Info { level, ..*x })
}

/// The value after ModRaise: all slots, at `to`.
pub fn raised(p: &Parameters, x: &Info, to: Level, rotations: usize) -> Result<Info, Error> {
    bootstrapping(p)?;
    if rotations == 0 {
        return Err(Error::conformance("mod_raise", "no rotation"));
    }
    levels("mod_raise (from level 0)", x.level, Level::new(0))?;
    linear_degree("mod_raise", x)?;
    Ok(Info {
        level: to,
        slots: p.max_slots(),
        ..*x
    })
}

/// The small ring of an interpreter.
pub fn small_ring<T>(p: &Parameters, small: Option<T>) -> Result<T, Error> {
    small.ok_or_else(|| Error::Parameters {
        name: p.spec().name.clone(),
        reason: "no small ring was set up: give the interpreter one".into(),
    })
}
