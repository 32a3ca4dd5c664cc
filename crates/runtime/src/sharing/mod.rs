//! Sharing an answer: noise flooding against IND-CPA-D, and the count of answers shared under a key.
//!
//! A CKKS decryption is f(m) + e: the plan's exact answer plus an error that depends on the secret key, so whoever sees it can
//! attack the key \[LM21\]. A shared answer is f(m) + e + z instead, z a Gaussian that drowns e \[LMSS22\].
//!
//! **How much noise.** k values are shared, each with |e_i| ≤ B, so ‖e‖₂ ≤ √k·B =: ρ; z has deviation
//! ```text
//! σ = √(12·τ)·2^(s/2)·ρ        τ answers in all, s bits of statistical security
//! ```
//! Let P be the law of everything that an attacker sees, P′ the same with e left out; P′ can be made without the secret key.
//! Gaussians of deviation σ whose centres are ρ apart have KL divergence ρ²/2σ², and divergences of τ answers, however each depends
//! on those before, add up: KL(P‖P′) ≤ τ·ρ²/2σ² = 2^−s/24. From this alone follow
//! * search: an event (the key is found) of probability p′ under P′ has p ≤ max(2^24·p′, 2^−(s+8)) under P, since data processing
//!   gives p·(ln(p/p′) − 1) ≤ 2^−s/24;
//! * decision: probabilities change by at most √(KL/2) < 2^−(s+5)/2 (Pinsker). That an advantage ε in a decision game counts as
//!   log₂(1/ε²) bits is the convention of \[MW18\] and \[LMSS22\], and why 2^(s/2) is enough for what they call s bits.
//!
//! The same σ is the corollary of \[LMSS22\] that OpenFHE uses, there for all N coefficients of a decrypted polynomial. Here only k real
//! numbers leave the client, everything else of the decryption stays, so ρ is the ℓ₂ norm over those.
//!
//! **Sampling.** The sum of exact value and noise is formed exactly, in fixed point, and rounded to a grid of steps in
//! (σ/512, σ/256]. Low bits, in which a sum of doubles betrays its terms \[Mir12\], do not leave. A cell of the grid holds some 2^43
//! values of the noise, and the functions of f64 that make it move the cell's edges by less than 2^−50·σ: the probability of a cell is
//! right to about 2^−41 of itself. B is taken as at least 2^−32 of the magnitude and σ above the magnitude is refused, so
//! τ·k·2^s < 2^60 in every share and the divergence above changes by less than one in a hundred.
//!
//! **What is decided on what.** The margin is that of the noisy values and so is the refusal: both are functions of what may be
//! shared, so a refusal that somebody notices tells nothing more. For the same reason it counts as one of the τ answers.
//!
//! \[LM21\] Li, Micciancio, *On the Security of Homomorphic Encryption on Approximate Numbers*. \[LMSS22\] Li, Micciancio, Schultz, Sorrell,
//! *Securing Approximate Homomorphic Encryption Using Differential Privacy*. \[MW18\] Micciancio, Walter, *On the Bit Security of
//! Cryptographic Primitives*. \[Mir12\] Mironov, *On Significance of the Least Significant Bits for Differential Privacy*.
//!
//! [`class`]: the class alone, which needs no noise. [`releases`]: the record of what was shared.
//!
//! What B is, against whom it holds and what is not covered: SECURITY.md.

pub mod class;
mod release;
pub mod releases;
mod terms;

pub use terms::{CLASS_BITS, DEFAULT_CLASS_BITS, DEFAULT_SECURITY, MOST_RELEASES, SECURITY, Terms};

use crate::answer::AnswerBounds;
use crate::{Help, Result};
use rand_core::CryptoRng;
use serde::Serialize;
use std::path::Path;
use terms::{in_range, refuse};

/// Most bits of precision that an answer is credited with, whatever its bound says: what the sampler is good for, more than plans have.
const MOST_PRECISION: i32 = 32;
/// Fractional bits of the fixed-point sum below the grid.
const FRACTION: i32 = 64;
const KEEP_VALUES: &str = "compile with a last stage at larger scale, or promise fewer releases under a new key (see SECURITY.md)";
const KEEP_TO_YOURSELF: &str = "share the class alone, compile with a last stage at larger scale, or promise fewer releases under a new key (see SECURITY.md)";

/// Gaussian noise sized for a bound, a security and a number of releases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flooding {
    security: u32,
    releases: u64,
    values: usize,
    bounds: AnswerBounds,
    sigma: f64,
}

impl Flooding {
    /// Noise for `releases` answers of `values` real numbers each.
    ///
    /// # Errors
    /// [`crate::Error::Sharing`] for a security outside [`SECURITY`] or a number of releases outside 1 to [`MOST_RELEASES`].
    pub fn new(bounds: AnswerBounds, values: usize, security: u32, releases: u64) -> Result<Self> {
        in_range(security, releases)?;
        bounds
            .check()
            .map_err(|e| refuse(e, Help::Compile.with("compile the plan again")))?;
        let least = bounds.magnitude * 2f64.powi(-MOST_PRECISION);
        let bounds = AnswerBounds {
            error: bounds.shared_error().max(least),
            ..bounds
        };
        let norm = (values as f64).sqrt() * bounds.error;
        Ok(Self {
            security,
            releases,
            values,
            bounds,
            sigma: (12.0 * releases as f64).sqrt() * (f64::from(security) / 2.0).exp2() * norm,
        })
    }
    /// Standard deviation of each value's noise, network units.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }
    /// Bits of the answer that remain: log2(magnitude/σ); negative where noise outweighs everything.
    pub fn bits(&self) -> f64 {
        (self.bounds.magnitude / self.sigma).log2()
    }
    /// Margin between the two largest noisy values from which on the larger one is the exact answer's class, but for a probability
    /// of 2^−`class_bits` over the noise.
    ///
    /// A class that is not the exact answer's passes with margin d = 2B + √2·σ·t only if the difference of its noise and that of the
    /// best class, of deviation √2·σ, exceeds √2·σ·t; for each of k−1 classes the probability is at most exp(−t²/2)/2.
    pub fn needed_margin(&self, class_bits: u32) -> f64 {
        let others = self.values.max(2) as f64 - 1.0;
        let t = (2.0 * (others.ln() + (f64::from(class_bits) - 1.0) * std::f64::consts::LN_2))
            .max(0.0)
            .sqrt();
        2.0 * self.bounds.error + std::f64::consts::SQRT_2 * self.sigma * t
    }
    /// Refuses noise that leaves no class of any answer of this plan, or nothing of its values; looks at no answer.
    fn leaves_something(&self, class_bits: Option<u32>) -> Result<()> {
        let Some(class_bits) = class_bits else {
            if self.sigma <= self.bounds.magnitude {
                return Ok(());
            }
            return Err(refuse(
                format!(
                    "{}: answers of this plan reach {:.3e}, so that nothing is left of them",
                    self.terms(),
                    self.bounds.magnitude
                ),
                KEEP_VALUES,
            ));
        };
        let (needed, most) = (self.needed_margin(class_bits), 2.0 * self.bounds.magnitude);
        if needed <= most {
            return Ok(());
        }
        Err(refuse(
            format!(
                "{}: a class needs a margin of {needed:.3e}, answers of this plan have at most {most:.3e}",
                self.terms()
            ),
            Help::ClassAlone.with(KEEP_TO_YOURSELF),
        ))
    }
    fn terms(&self) -> String {
        format!(
            "{} bits for {} releases of an answer with error up to {:.1e} take noise of deviation {:.3e}",
            self.security, self.releases, self.bounds.error, self.sigma
        )
    }
    /// Step of the grid that shared values lie on: a power of two in (σ/512, σ/256].
    pub fn step(&self) -> f64 {
        2f64.powi(self.sigma.log2().floor() as i32 - 8)
    }
    /// Adds the noise, in place, and rounds to the grid.
    fn flood(&self, values: &mut [f64], rng: &mut impl CryptoRng) {
        let step = self.step();
        // powers of two: quotients and products are exact
        let unit = step * 2f64.powi(-FRACTION);
        for v in values {
            let exact = (*v / unit) as i128;
            let noise = (normal(rng) * self.sigma / unit) as i128;
            let half = 1i128 << (FRACTION - 1);
            let sum = exact.saturating_add(noise).saturating_add(half);
            *v = (sum >> FRACTION) as f64 * step;
        }
    }
}

/// A standard normal variate by Box and Muller's method, up to 9.5 in magnitude (2^−65 of all lie beyond).
fn normal(rng: &mut impl CryptoRng) -> f64 {
    // in (0, 1], down to 2^−65
    let mut uniform = || (rng.next_u64() as f64 + 0.5) * 2f64.powi(-64);
    let radius = (-2.0 * uniform().ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform()).cos()
}

/// An answer that may be passed on, and what it is worth. Every field is a function of the noisy values or of public terms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shared {
    /// Noisy values, row-major, network units, on the grid.
    #[serde(skip)]
    pub values: Vec<f64>,
    /// Standard deviation of each value's noise, network units.
    pub sigma: f64,
    /// Bits of the answer that remain: [`Flooding::bits`].
    pub bits: f64,
    /// Difference of the two largest noisy values; none where there is only one, or no class.
    pub margin: Option<f64>,
    /// Margin that the class needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed_margin: Option<f64>,
    /// Bits of statistical security.
    pub security_bits: u32,
    /// Answers that may ever be shared under this key.
    pub releases: u64,
    /// Answers shared under this key so far, this one included.
    pub used: u64,
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "may be passed on: noise of deviation {:.3e} for {} bits of statistical security over {} releases, this is number {}; {:.1} bits of the answer remain",
            self.sigma, self.security_bits, self.releases, self.used, self.bits
        )?;
        match self.margin {
            Some(had) => write!(
                f,
                "; margin of the class {had:.3e}, needed {:.3e}",
                self.needed_margin.unwrap_or_default()
            ),
            None => Ok(()),
        }
    }
}

/// Floods a decrypted answer of `count` values and takes it into account in the key's record, which is on disk before anything is returned;
/// an answer that was refused counts, too.
///
/// # Errors
/// That of the answer; [`crate::Error::Sharing`] for terms out of range, for a record that is used up or has other terms, and where the noise leaves no class;
/// [`crate::Error::File`] and [`crate::Error::Io`] for a record that cannot be read or written.
pub(crate) fn share(
    (values, count): (Result<Vec<f64>>, usize),
    bounds: AnswerBounds,
    key: &str,
    record: &Path,
    terms: &Terms,
    rng: &mut impl CryptoRng,
) -> Result<Shared> {
    if let Some(bits) = terms.class_bits.filter(|bits| !CLASS_BITS.contains(bits)) {
        let (least, most) = CLASS_BITS.into_inner();
        return Err(refuse(
            format!("a class that is wrong with probability 2^-{bits}"),
            Help::Terms.with(format!("ask for 2^-{least} to 2^-{most}")),
        ));
    }
    let (flooding, ledger) = releases::charge(record, key, terms, |ledger, _| {
        let flooding = Flooding::new(bounds, count, ledger.security, ledger.releases)?;
        flooding.leaves_something(terms.class_bits)?;
        Ok(flooding)
    })?;
    let used = ledger.used;
    let mut values = values.map_err(|e| e.counted((used, flooding.releases)))?;
    flooding.flood(&mut values, rng);
    let mut order = values.clone();
    order.sort_by(|a, b| b.total_cmp(a));
    let needed_margin = terms.class_bits.map(|bits| flooding.needed_margin(bits));
    let margin = needed_margin.filter(|_| count > 1);
    let margin = margin.map(|needed| (order[0] - order[1], needed));
    if let Some((had, needed)) = margin.filter(|&(had, needed)| had < needed) {
        return Err(refuse(
            format!(
                "{}: the class needs a margin of {needed:.3e}, the noisy answer has {had:.3e} (this try counts: {used} of {})",
                flooding.terms(),
                flooding.releases
            ),
            Help::ClassAlone.with(KEEP_TO_YOURSELF),
        ));
    }
    Ok(Shared {
        values,
        sigma: flooding.sigma,
        bits: flooding.bits(),
        margin: margin.map(|m| m.0),
        needed_margin,
        security_bits: flooding.security,
        releases: flooding.releases,
        used,
    })
}

/// The name under which a key's record lies in the key's folder.
pub const RECORD_NAME: &str = "releases.json";

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    const BOUNDS: AnswerBounds = AnswerBounds {
        error: 1e-6,
        weights: 1e-7,
        magnitude: 10.0,
        unused: 0.0,
        imaginary: 0.0,
        simulated: None,
    };

    fn flooding(values: usize, security: u32, releases: u64) -> Flooding {
        Flooding::new(BOUNDS, values, security, releases).expect("in range")
    }

    #[test]
    fn noise_covers_what_simulated_runs_say_beyond_the_bound() {
        let simulated = crate::simulated::Simulated {
            error: 3.0 * BOUNDS.error,
            network: None,
            runs: 26,
        };
        let more = AnswerBounds {
            simulated: Some(simulated),
            ..BOUNDS
        };
        let noise = Flooding::new(more, 10, 40, 7).expect("in range").sigma();
        assert!((noise / flooding(10, 40, 7).sigma() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn divergence_of_all_releases_is_what_the_security_asks_for() {
        for (values, security, releases) in [(1, 20, 1), (10, 40, 7), (1000, 64, 1 << 20)] {
            let f = flooding(values, security, releases);
            let norm2 = values as f64 * BOUNDS.error * BOUNDS.error;
            let divergence = releases as f64 * norm2 / (2.0 * f.sigma() * f.sigma());
            let want = 2f64.powi(-(security as i32)) / 24.0;
            assert!((divergence / want - 1.0).abs() < 1e-9, "{divergence:e}");
            // Pinsker, and the search bound's constant: ln 2^24 − 1 > 15.6
            assert!((divergence / 2.0).sqrt() < 2f64.powf(-0.5 * (f64::from(security) + 5.0)));
            assert!(divergence / 15.6 < 2f64.powi(-(security as i32) - 8));
        }
    }

    #[test]
    fn noise_grows_with_security_releases_values_and_error() {
        let base = flooding(10, 40, 4);
        for more in [
            flooding(10, 41, 4),
            flooding(10, 40, 5),
            flooding(11, 40, 4),
        ] {
            assert!(more.sigma() > base.sigma() && more.bits() < base.bits());
            assert!(more.needed_margin(20) > base.needed_margin(20));
        }
        assert!(base.needed_margin(21) > base.needed_margin(20));
        assert!((flooding(10, 42, 4).sigma() / base.sigma() - 2.0).abs() < 1e-12);
        assert!((flooding(10, 40, 16).sigma() / base.sigma() - 2.0).abs() < 1e-12);
        let finer = AnswerBounds {
            error: 1e-300,
            ..BOUNDS
        };
        // a bound that claims more than the sampler is good for counts as that
        let finer = Flooding::new(finer, 10, 40, 4).expect("in range");
        assert!(finer.sigma() < base.sigma());
        let want = 32.0 - 20.0 - 0.5 * (12.0 * 4.0 * 10.0f64).log2();
        assert!((finer.bits() - want).abs() < 1e-9, "{}", finer.bits());
    }

    #[test]
    fn measured_noise_is_gaussian_with_the_stated_variance_on_the_grid() {
        let (n, mut rng) = (200_000usize, ChaCha20Rng::seed_from_u64(11));
        let f = flooding(10, 30, 3);
        // values between grid points: the noise must not depend on them
        let exact: Vec<f64> = (0..n).map(|i| (i as f64 * 0.37).sin() * 9.0).collect();
        let mut noisy = exact.clone();
        f.flood(&mut noisy, &mut rng);
        let z: Vec<f64> = noisy
            .iter()
            .zip(&exact)
            .map(|(y, x)| (y - x) / f.sigma())
            .collect();
        let moment = |p: i32| z.iter().map(|z| z.powi(p)).sum::<f64>() / n as f64;
        let within = |had: f64, want: f64, variance: f64| {
            let deviations = (had - want) / (variance / n as f64).sqrt();
            assert!(
                deviations.abs() < 5.0,
                "{had} for {want}: {deviations:.1} deviations"
            );
        };
        within(moment(1), 0.0, 1.0);
        within(moment(2), 1.0, 2.0);
        within(moment(3), 0.0, 15.0);
        within(moment(4), 3.0, 96.0);
        for (t, beyond) in [
            (1.0, 0.317_310_5),
            (2.0, 0.045_500_26),
            (3.0, 0.002_699_796),
        ] {
            let share = z.iter().filter(|z| z.abs() > t).count() as f64 / n as f64;
            within(share, beyond, beyond * (1.0 - beyond));
        }
        // neighbours are independent
        let product = z.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / (n - 1) as f64;
        within(product, 0.0, 1.0);
        let step = f.step();
        assert!(f.sigma() / 512.0 < step && step <= f.sigma() / 256.0);
        assert_eq!(step.log2().fract(), 0.0);
        assert!(noisy.iter().all(|y| (y / step).fract() == 0.0));
    }

    #[test]
    fn a_wrong_class_passes_at_most_as_often_as_stated() {
        let (values, bits, tries) = (2, 6, 20_000);
        let f = flooding(values, 30, 1);
        let needed = f.needed_margin(bits);
        let mut rng = ChaCha20Rng::seed_from_u64(12);
        let (mut wrong, mut right) = (0.0, 0.0);
        for _ in 0..tries {
            // the hardest case: the first is the class by a hair, and the errors of both reach their bound
            let mut y = vec![BOUNDS.error; values];
            y[0] = -BOUNDS.error;
            f.flood(&mut y, &mut rng);
            let mut order: Vec<usize> = (0..values).collect();
            order.sort_by(|&a, &b| y[b].total_cmp(&y[a]));
            if y[order[0]] - y[order[1]] >= needed {
                if order[0] == 0 {
                    right += 1.0
                } else {
                    wrong += 1.0
                }
            }
        }
        let most = f64::from(tries) * 2f64.powi(-(bits as i32));
        assert!(wrong < most, "{wrong} wrong, at most {most}");
        // the union and tail bounds are 3.6 times above the truth, a test that lets nothing pass would be none
        assert!(
            wrong > most / 8.0 && right > most / 8.0,
            "{wrong} wrong, {right} right"
        );
    }

    #[test]
    fn terms_out_of_range_are_refused() {
        let refused = |security, releases, words: &str| {
            let message = Flooding::new(BOUNDS, 10, security, releases)
                .expect_err("refused")
                .to_string();
            assert!(
                message.contains(words) && message.contains(';'),
                "{message}"
            );
        };
        refused(19, 1, "20 to 64 bits");
        refused(65, 1, "20 to 64 bits");
        refused(40, 0, "1 to 1048576");
        refused(40, MOST_RELEASES + 1, "1 to 1048576");
        for bounds in [
            AnswerBounds {
                error: 0.0,
                ..BOUNDS
            },
            AnswerBounds {
                error: f64::INFINITY,
                ..BOUNDS
            },
            AnswerBounds {
                magnitude: f64::NAN,
                ..BOUNDS
            },
        ] {
            let message = Flooding::new(bounds, 10, 40, 1)
                .expect_err("refused")
                .to_string();
            assert!(message.contains("compile"), "{message}");
        }
    }
}
