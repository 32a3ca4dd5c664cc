//! Whether a decrypted answer can be what the plan gives for an input of its ranges.
//!
//! An honest answer's values are finite and of a magnitude that calibration promised, its imaginary parts and the slots without a value hold
//! what the plan puts there (mostly nothing), and what stands in a ciphertext several times is the same each time: all but for the error's
//! bound. Other keys, damage, another plan, and values that left an interval and came back from a bootstrap as something else break one of
//! these. What they do not show: an answer of ordinary size that is wrong nevertheless.

use crate::alarm::{Alarm, Readings};
pub use crate::measure::{AnswerTest, Measure};
use crate::plan::Port;
use crate::simulated::Simulated;
use ckks::{Complex64, ParametersSpec};
use serde::{Deserialize, Serialize};

/// What a plan promises of its answer, in network units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerBounds {
    /// Bound on the error that encryption adds to each value of the plan's exact answer (`PlanFacts::output_error`): what may tell of the key, and
    /// what sharing counts with.
    pub error: f64,
    /// Bound on the difference of that exact answer and the network's, whose weights a plan has in single precision.
    pub weights: f64,
    /// Bound on the magnitude of each value, from calibration.
    pub magnitude: f64,
    /// The same for the exact answer's slots that no value has: mostly zero.
    pub unused: f64,
    /// The same for the exact answer's imaginary parts: mostly zero.
    pub imaginary: f64,
    /// What simulated runs say of both, where the plan's compiler made some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
}

impl std::fmt::Display for AnswerBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "magnitude up to {:.3}, each within {}",
            self.magnitude,
            self.stated()
        )?;
        match (self.unused, self.imaginary) {
            (0.0, 0.0) => Ok(()),
            (unused, imaginary) => write!(
                f,
                "; up to {unused:.3} in slots without a value, {imaginary:.3} in imaginary parts"
            ),
        }
    }
}

impl AnswerBounds {
    /// What is stated of the error that encryption adds to each value: what simulated runs say, where there are any, or the bound. The latter takes the
    /// slopes of polynomials in their root mean square, so that it may be the lesser where values crowd at the ends of intervals.
    pub fn stated_error(&self) -> f64 {
        self.simulated.map_or(self.error, |s| s.error)
    }
    /// What sharing counts with: the larger of the bound and of what simulated runs say, as neither alone is sure to be the larger.
    pub fn shared_error(&self) -> f64 {
        self.error.max(self.stated_error())
    }
    /// What is stated of the difference between the plan's exact answer and the network's: by simulated runs, which see the sine of bootstraps, too, or
    /// the bound on what rounded weights change.
    pub fn stated_weights(&self) -> f64 {
        let simulated = self.simulated.and_then(|s| s.network);
        simulated.unwrap_or(self.weights)
    }
    /// What is stated of the difference between a decrypted value and what the network gives in the clear.
    pub fn of_network(&self) -> f64 {
        (self.stated_error() + self.stated_weights()).min(f64::MAX)
    }
    /// The same in words.
    pub fn stated(&self) -> String {
        let (all, error, weights) = (
            self.of_network(),
            self.stated_error(),
            self.stated_weights(),
        );
        let how = match &self.simulated {
            Some(s) => format!("; {s}"),
            None => String::new(),
        };
        format!(
            "{all:.1e} of the polynomial network's in the clear ({error:.1e} by encryption, {weights:.1e} by rounded weights{how})"
        )
    }
    /// Refuses what is no bound.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        if !positive(self.error) || !positive(self.magnitude) {
            return Err(format!(
                "error at most {}, magnitude at most {}: neither may be zero or infinite",
                self.error, self.magnitude
            ));
        }
        if !(self.weights.is_finite() && self.weights >= 0.0) {
            return Err(format!("weights change at most {}", self.weights));
        }
        self.simulated.iter().try_for_each(Simulated::check)?;
        let (unused, imaginary) = (self.unused, self.imaginary);
        if [unused, imaginary]
            .iter()
            .all(|v| (0.0..=self.magnitude).contains(v))
        {
            return Ok(());
        }
        Err(format!(
            "{unused} in slots without a value, {imaginary} in imaginary parts: both lie between zero and the magnitude, {}",
            self.magnitude
        ))
    }
}

/// All tests of one answer, which looks at its ciphertexts one by one.
pub(crate) struct Judge<'a> {
    port: &'a Port,
    bounds: AnswerBounds,
    /// Of each ciphertext, the slots of one period that have a value.
    used: Vec<Vec<bool>>,
    finite: bool,
    magnitude: f64,
    imaginary: f64,
    replicas: f64,
    unused: f64,
    alarm: Option<&'a Alarm>,
    /// The alarm's largest sums.
    readings: Readings,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        port: &'a Port,
        parameters: &ParametersSpec,
        bounds: AnswerBounds,
        alarm: Option<&'a Alarm>,
    ) -> Self {
        let values = port.values(parameters);
        Self {
            port,
            bounds,
            used: places(port).iter().map(|p| used(port, p, values)).collect(),
            finite: true,
            magnitude: 0.0,
            imaginary: 0.0,
            replicas: 0.0,
            unused: 0.0,
            alarm,
            readings: Readings::new(port.inputs()),
        }
    }
    /// Looks at all slots of the ring of one of the alarm's ciphertexts.
    pub(crate) fn see_alarm(&mut self, number: usize, slots: &[Complex64]) {
        let sums = self.alarm.and_then(|a| a.sums().nth(number));
        sums.into_iter().for_each(|s| self.readings.see(s, slots));
    }
    /// What the alarm reads, where the plan has one.
    pub(crate) fn alarm(&self) -> Option<Measure> {
        let (input, measured) = self.readings.largest();
        self.alarm.map(|a| Measure {
            test: AnswerTest::Alarm,
            measured,
            allowed: a.threshold,
            expected: a.threshold,
            input,
        })
    }
    /// Looks at all slots of the ring, of which the port's are one period.
    pub(crate) fn see(&mut self, ciphertext: usize, slots: &[Complex64]) {
        let (unit, period) = (self.port.unit.abs(), self.port.slots);
        for (j, z) in slots.iter().enumerate() {
            self.finite &= z.re.is_finite() && z.im.is_finite();
            let (first, re) = (slots[j % period], z.re.abs() * unit);
            let apart = (z.re - first.re).abs().max((z.im - first.im).abs());
            self.replicas = self.replicas.max(apart * unit);
            self.imaginary = self.imaginary.max(z.im.abs() * unit);
            match self.used[ciphertext][j % period] {
                true => self.magnitude = self.magnitude.max(re),
                false => self.unused = self.unused.max(re),
            }
        }
    }
    /// Looks at all coefficients of the ring, of which the port's values lie some apart.
    pub(crate) fn see_coefficients(&mut self, ciphertext: usize, all: &[f64]) {
        let unit = self.port.unit.abs();
        let used = &self.used[ciphertext];
        let gap = all.len() / used.len().max(1);
        for (j, v) in all.iter().enumerate() {
            self.finite &= v.is_finite();
            let v = v.abs() * unit;
            match j % gap == 0 && used[j / gap] {
                true => self.magnitude = self.magnitude.max(v),
                false => self.unused = self.unused.max(v),
            }
        }
    }
    /// What was measured, in the order in which the tests are told.
    pub(crate) fn measures(&self) -> Vec<Measure> {
        let (b, error) = (&self.bounds, self.bounds.stated_error());
        let broken = if self.finite { 0.0 } else { f64::INFINITY };
        // (exact, how many errors it may have)
        let tests = [
            (AnswerTest::Finite, broken, (0.0, 0.0)),
            (AnswerTest::Magnitude, self.magnitude, (b.magnitude, 1.0)),
            (AnswerTest::Imaginary, self.imaginary, (b.imaginary, 1.0)),
            (AnswerTest::Replicas, self.replicas, (0.0, 2.0)),
            (AnswerTest::Unused, self.unused, (b.unused, 1.0)),
        ];
        let measures = tests.map(|(test, measured, (exact, errors))| Measure {
            test,
            measured,
            allowed: exact + errors * error,
            // a bound beyond the largest value says nothing, and an error as large as that leaves nothing of an answer
            expected: exact + errors * error.min(b.magnitude),
            input: None,
        });
        measures.into_iter().chain(self.alarm()).collect()
    }
    /// The first test that no honest answer fails.
    pub(crate) fn refuses(&self) -> Option<Measure> {
        self.measures().into_iter().find(|m| !m.is_possible())
    }
    /// The first test whose measure is not expected, though the bound does not exclude it.
    pub(crate) fn doubts(&self) -> Option<Measure> {
        self.measures().into_iter().find(|m| !m.is_expected())
    }
}

/// Of each ciphertext of a port, the slots where a value's batch begins.
pub(crate) fn places(port: &Port) -> Vec<Vec<usize>> {
    let mut places = vec![Vec::new(); port.registers.len()];
    for &(c, s) in &port.places {
        places[c as usize].push(s as usize * port.side_by_side());
    }
    places
}

/// The slots, or coefficients, of one ciphertext of a port that have a value, of so many.
pub(crate) fn used(port: &Port, places: &[usize], values: usize) -> Vec<bool> {
    let mut used = vec![false; values];
    for &first in places {
        used[first..first + port.side_by_side()].fill(true);
    }
    used
}
