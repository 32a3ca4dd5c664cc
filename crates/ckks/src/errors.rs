//! The error of a value as a sum over its sources.
//!
//! Whatever rounds or encrypts is a *source*: a vector of errors that is independent of all others. To first order the error of a value is a
//! sum of linear images of sources. For each source the root mean square of its share is kept, of real and imaginary parts apart. Shares of
//! one source add linearly, whatever happened to them in between: they may be the same error. Shares of different sources
//! add in squares.
//!
//! A matrix sums slots, and slots of one source are taken as independent but for those that are known to repeat: a share has a *period*, and
//! where a row reads slots a multiple of it apart, they add linearly. Outputs of one matrix that mixes many slots are to each other as its
//! slots are: *siblings*, whose shares add in squares where another matrix sums them.

use crate::Complex64;
use std::f64::consts::FRAC_1_SQRT_2;

/// Shares that are kept apart in one value; what is least is put together beyond it.
const MOST: usize = 64;
/// How many more there may be before that is done, so that it is done for several at once.
const SPARE: usize = 64;
/// In the name of a source that is no encryption's: weights that were rounded.
pub(crate) const ROUNDED: u64 = 1 << 63;
/// The period of errors that do not repeat.
pub(crate) const UNIQUE: usize = usize::MAX;

/// Root mean squares of real and imaginary parts over the slots; the same error twice adds linearly.
type Size = Complex64;

/// Of independent errors.
fn beside(x: Size, y: Size) -> Size {
    Size::new(x.re.hypot(y.re), x.im.hypot(y.im))
}

/// As large in all directions.
fn round(size: f64) -> Size {
    Size::new(size, size)
}

/// Which output of which mixing matrix an error went through last, and whatever was done to such outputs slot by slot since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// 0: none that is known.
    mixer: u64,
    output: usize,
}

impl Place {
    pub(crate) const UNKNOWN: Self = Self {
        mixer: 0,
        output: 0,
    };
    pub(crate) fn new(mixer: u64, output: usize) -> Self {
        Self { mixer, output }
    }
    /// Of a sum in the same slots: siblings' sums with siblings are siblings.
    fn with(self, other: Self) -> Self {
        if self == other {
            self
        } else if self.mixer == 0 || other.mixer == 0 || self.output != other.output {
            Self::UNKNOWN
        } else {
            let (a, b) = (self.mixer.min(other.mixer), self.mixer.max(other.mixer));
            let both = a.rotate_left(32) ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Self::new(both | 1, self.output)
        }
    }
}

/// What of a value's error comes from one source.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    source: u64,
    /// By how much its slots were rotated since it arose or was mixed.
    shift: usize,
    size: Size,
    /// Slots so far apart may have the same error.
    period: usize,
    place: Place,
}

impl Share {
    fn name(&self) -> (u64, usize) {
        (self.source, self.shift)
    }
    fn with(self, y: Self) -> Self {
        Self {
            size: self.size + y.size,
            period: self.period.min(y.period),
            place: self.place.with(y.place),
            ..self
        }
    }
}

/// The error of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Errors {
    /// Ascending by source and shift.
    shares: Vec<Share>,
    /// What is not kept apart: it may have any source, and adds linearly to everything.
    rest: Size,
    /// The least of its periods.
    rest_period: usize,
}

impl Default for Errors {
    fn default() -> Self {
        Self {
            shares: Vec::new(),
            rest: Size::default(),
            rest_period: UNIQUE,
        }
    }
}

/// How a matrix lets errors grow.
pub(crate) trait Mixing {
    /// By how much at most the root mean square of errors of a period grows from an input whose entries have this mean energy.
    fn gain(&self, energy: f64, period: usize) -> f64;
    /// The period of what comes out.
    fn period(&self, period: usize) -> usize;
    /// Whether real parts become imaginary ones.
    fn turns(&self) -> bool;
}

impl Errors {
    /// Of one source, the same in all directions.
    pub(crate) fn new(source: u64, deviation: f64) -> Self {
        Self::one(source, round(deviation * FRAC_1_SQRT_2), UNIQUE)
    }

    fn one(source: u64, size: Size, period: usize) -> Self {
        let share = Share {
            source,
            shift: 0,
            size,
            period,
            place: Place::UNKNOWN,
        };
        // what is no number counts, too
        let some = size.norm() != 0.0;
        Self {
            shares: some.then_some(share).into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same, whose slots `period` apart are equal.
    pub(crate) fn repeated(mut self, period: usize) -> Self {
        self.shares.iter_mut().for_each(|s| s.period = period);
        self
    }

    /// Of those among the independent sources.
    fn size(&self, among: impl Fn(u64) -> bool) -> Size {
        let all = self.shares.iter().filter(|s| among(s.source));
        all.map(|s| s.size).fold(Size::default(), beside)
    }

    /// Root mean square over the slots of the error that encryption adds.
    pub(crate) fn deviation(&self) -> f64 {
        let encryption = self.size(|source| source & ROUNDED == 0);
        (encryption + self.rest).norm()
    }

    /// The same of what rounded weights change.
    pub(crate) fn of_weights(&self) -> f64 {
        self.size(|source| source & ROUNDED != 0).norm()
    }

    fn each(mut self, change: impl Fn(Size) -> Size) -> Self {
        self.shares.iter_mut().for_each(|s| s.size = change(s.size));
        self.rest = change(self.rest);
        self
    }

    /// k·x.
    pub(crate) fn times(self, k: f64) -> Self {
        self.each(|s| s * k.abs())
    }

    /// Real parts become imaginary ones.
    pub(crate) fn turned(self) -> Self {
        self.each(|s| Size::new(s.im, s.re))
    }

    /// Multiplied by complex numbers of magnitude 1 that have nothing to do with the error.
    pub(crate) fn blurred(self) -> Self {
        self.each(|s| round(s.norm() * FRAC_1_SQRT_2))
    }

    /// Multiplied by any complex numbers of magnitude 1.
    pub(crate) fn spread(self) -> Self {
        self.each(|s| round(s.norm()))
    }

    /// Twice the real part.
    pub(crate) fn real_twice(self) -> Self {
        self.each(|s| Size::new(2.0 * s.re, 0.0))
    }

    /// Rotated by so many slots of a ring of `slots`.
    pub(crate) fn rotated(mut self, by: usize, slots: usize) -> Self {
        for s in &mut self.shares {
            s.shift = (s.shift + by) % slots.min(s.period);
        }
        self.shares.sort_by_key(Share::name);
        self.joined()
    }

    /// Puts shares of one name together.
    fn joined(mut self) -> Self {
        self.shares.dedup_by(|next, kept| {
            let same = next.name() == kept.name();
            if same {
                *kept = kept.with(*next);
            }
            same
        });
        self
    }

    /// x + y.
    pub(crate) fn plus(self, y: &Self) -> Self {
        let mut shares = Vec::with_capacity(self.shares.len() + y.shares.len());
        let (mut left, mut right) = (
            self.shares.iter().copied().peekable(),
            y.shares.iter().copied().peekable(),
        );
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let next = match a.name().cmp(&b.name()) {
                std::cmp::Ordering::Less => left.next(),
                std::cmp::Ordering::Greater => right.next(),
                std::cmp::Ordering::Equal => {
                    let both = a.with(*b);
                    left.next();
                    right.next();
                    Some(both)
                }
            };
            shares.extend(next);
        }
        shares.extend(left.chain(right));
        Self {
            shares,
            rest: self.rest + y.rest,
            rest_period: self.rest_period.min(y.rest_period),
        }
        .kept()
    }

    /// As one source: what arose in a circuit and nowhere else.
    pub(crate) fn as_source(&self, source: u64) -> Self {
        let periods = self.shares.iter().map(|s| s.period);
        let size = self.size(|_| true) + self.rest;
        Self::one(source, size, periods.fold(self.rest_period, usize::min))
    }

    /// The error of one output of a matrix, from those of its inputs, each with the mean energy of its entries, and the place where its image is
    /// then; where it was if none is given.
    pub(crate) fn mapped(inputs: &[(&Self, f64, Option<Place>)], mixing: &impl Mixing) -> Self {
        let turned = |s: Size| match mixing.turns() {
            true => round(s.norm()),
            false => s,
        };
        let mut out = Self::default();
        let mut images: Vec<(Share, Place)> = Vec::new();
        for (x, energy, place) in inputs {
            images.extend(x.shares.iter().map(|s| {
                let size = turned(s.size) * mixing.gain(*energy, s.period);
                (Share { size, ..*s }, place.unwrap_or(s.place))
            }));
            let gain = mixing.gain(*energy, x.rest_period);
            out.rest += turned(x.rest) * gain;
            out.rest_period = out.rest_period.min(x.rest_period);
        }
        out.rest_period = mixing.period(out.rest_period);
        images.sort_by_key(|(s, _)| (s.source, s.place));
        for of_source in images.chunk_by(|(a, _), (b, _)| a.source == b.source) {
            let mut size = Size::default();
            for of_mixer in of_source.chunk_by(|(a, _), (b, _)| a.place.mixer == b.place.mixer) {
                let known = of_mixer[0].0.place.mixer != 0;
                let mut siblings = Size::default();
                for of_place in of_mixer.chunk_by(|(a, _), (b, _)| a.place == b.place) {
                    let alike = of_place.iter().map(|(s, _)| s.size).sum();
                    siblings = match known {
                        true => beside(siblings, alike),
                        false => siblings + alike,
                    };
                }
                size += siblings;
            }
            let (first, place) = of_source[0];
            out.shares.push(Share {
                source: first.source,
                shift: 0,
                size,
                period: (of_source.iter())
                    .map(|(s, _)| mixing.period(s.period))
                    .fold(UNIQUE, usize::min),
                place: of_source.iter().fold(place, |p, (_, q)| p.with(*q)),
            });
        }
        out.kept()
    }

    /// Not more shares than are kept: the least become one that adds linearly to all others.
    fn kept(mut self) -> Self {
        if self.shares.len() <= MOST + SPARE {
            return self;
        }
        let mut excess = self.shares.len() - MOST;
        let mut sizes: Vec<f64> = self.shares.iter().map(|s| s.size.norm()).collect();
        let (_, &mut limit, _) = sizes.select_nth_unstable_by(excess - 1, f64::total_cmp);
        let (mut least, mut period) = (Size::default(), self.rest_period);
        self.shares.retain(|s| {
            let keep = excess == 0 || s.size.norm() > limit;
            if !keep {
                excess -= 1;
                least = beside(least, s.size);
                period = period.min(s.period);
            }
            keep
        });
        self.rest += least;
        self.rest_period = period;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(x: f64, want: f64) {
        assert!((x / want - 1.0).abs() < 1e-12, "{x} is not {want}");
    }

    #[test]
    fn one_source_adds_linearly_and_others_in_squares() {
        let (a, b) = (Errors::new(1, 3.0), Errors::new(2, 4.0));
        near(a.deviation(), 3.0);
        near(a.clone().plus(&a).deviation(), 6.0);
        near(a.clone().plus(&b).deviation(), 5.0);
        let sum = a.clone().plus(&b);
        near(
            sum.clone().plus(&sum).plus(&b).deviation(),
            6f64.hypot(12.0),
        );
        // a real error twice, from x + i·y: 2·Re
        let real = a.clone().real_twice();
        near(real.deviation(), 3.0 * 2f64.sqrt());
        near(
            real.clone()
                .plus(&Errors::default().turned())
                .real_twice()
                .deviation(),
            6.0 * 2f64.sqrt(),
        );
    }

    #[test]
    fn what_is_not_kept_apart_adds_linearly() {
        let all = |n: u64| (0..n).fold(Errors::default(), |e, k| e.plus(&Errors::new(k, 1.0)));
        near(all(100).deviation(), 10.0);
        let many = all(1000);
        assert!(many.shares.len() <= MOST + SPARE);
        let twice = many.clone().plus(&many).deviation();
        // never below the truth, here 2·√1000
        assert!(twice >= 2.0 * 1000f64.sqrt() && twice < 400.0, "{twice}");
    }

    #[test]
    fn rotated_errors_are_others_until_they_repeat() {
        let e = Errors::new(1, 1.0);
        near(
            e.clone().plus(&e.clone().rotated(3, 64)).deviation(),
            2f64.sqrt(),
        );
        near(
            e.clone()
                .plus(&e.clone().rotated(3, 64).rotated(61, 64))
                .deviation(),
            2.0,
        );
        let four = e.repeated(4);
        near(
            four.clone().plus(&four.clone().rotated(8, 64)).deviation(),
            2.0,
        );
    }
}
