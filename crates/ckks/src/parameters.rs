//! Parameter sets: a [`ParametersSpec`] becomes checked, immutable [`Parameters`].
//!
//! The chain, from the bottom: `q0` │ residual levels (for the user's circuit) │ SlotToCoeff │ EvalMod │ CoeffToSlot.
//! A level is a group of one or more primes; EvalMod levels are pairs because no prime exceeds 50 bits and
//! EvalMod needs a scale of about 2^62. Nothing outside this module assumes limbs = level + 1.

use crate::Error;
use crate::security::{self, KeySecurity};
use ring::{Modulus, Ring};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A run of levels with the same shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Number of levels.
    pub levels: usize,
    /// Bits of each prime of one level's group.
    pub bits: Vec<u32>,
}

impl Zone {
    /// So many levels of one prime of each of these sizes.
    pub fn new(levels: usize, bits: &[u32]) -> Self {
        let bits = bits.to_vec();
        Self { levels, bits }
    }
}

/// The part of a parameter set that bootstrapping needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapSpec {
    /// Levels of SlotToCoeff.
    pub slot_to_coeff: Zone,
    /// Levels of EvalMod: ⌈log2(degree + 1)⌉ + double angles.
    pub eval_mod: Zone,
    /// Levels of CoeffToSlot.
    pub coeff_to_slot: Zone,
    /// Hamming weight h of the ephemeral sparse secret \[BTH22\].
    pub hamming_weight: usize,
    /// Bound K on the integer part |I| after ModRaise (failure probability: [`security::overflow_log2`]).
    pub range: usize,
    /// Degree of the cosine's Chebyshev polynomial (odd; its even part is used).
    pub degree: usize,
    /// Number of double-angle steps.
    pub double_angles: usize,
    /// log2 of the integer that multiplies the raised ciphertext, exactly and without a level. 0: the scale climbs to EvalMod's
    /// inside CoeffToSlot instead, whose plaintexts are then more precise (measured: +2 bits).
    pub log_raise: u32,
}

/// Everything that defines a parameter set; public and small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParametersSpec {
    /// Its name; a set under 128 bits must have a name that starts with `toy-`.
    pub name: String,
    /// log2 of the ring degree N.
    pub log_n: u32,
    /// Bits of q0.
    pub base_bits: u32,
    /// Levels for the user's circuit.
    pub residual: Zone,
    /// Bootstrapping, if any.
    pub bootstrap: Option<BootstrapSpec>,
    /// Bits of each special prime (P).
    pub special_bits: Vec<u32>,
    /// Number of digits of the key-switching decomposition.
    pub dnum: usize,
    /// log2 of the canonical scale at the highest residual level.
    pub log_scale: u32,
}

impl ParametersSpec {
    /// The preset with bootstrapping at N = 2^16: q0 50 │ 10 × 40 │ 3 × 42 │ 8 × (31+31) │ 3 × 50, P = 10 × 46, dnum 3; log QP 1682.
    pub fn standard() -> Self {
        Self {
            name: "standard-16".into(),
            log_n: 16,
            base_bits: 50,
            residual: Zone::new(10, &[40]),
            bootstrap: Some(Self::standard_bootstrap()),
            special_bits: vec![46; 10],
            dnum: 3,
            log_scale: 40,
        }
    }
    /// The preset without bootstrapping at N = 2^16: q0 50 │ 26 × 45, P = 10 × 46, dnum 3; log QP 1680. As many limbs as other
    /// libraries' sets for the same security, to compare single operations with theirs.
    pub fn levelled() -> Self {
        Self {
            name: "levelled-16".into(),
            residual: Zone::new(26, &[45]),
            bootstrap: None,
            log_scale: 45,
            ..Self::standard()
        }
    }
    /// The preset for small networks without bootstrapping at N = 2^14: q0 50 │ 6 × 40, P = 3 × 46, dnum 3; log QP 428. Keys are small and
    /// made within seconds.
    pub fn shallow() -> Self {
        Self {
            name: "shallow-14".into(),
            log_n: 14,
            residual: Zone {
                levels: 6,
                bits: vec![40],
            },
            bootstrap: None,
            special_bits: vec![46; 3],
            ..Self::standard()
        }
    }
    fn standard_bootstrap() -> BootstrapSpec {
        BootstrapSpec {
            slot_to_coeff: Zone::new(3, &[42]),
            eval_mod: Zone::new(8, &[31, 31]),
            coeff_to_slot: Zone::new(3, &[50]),
            hamming_weight: 32,
            range: 16,
            degree: 63,
            double_angles: 2,
            log_raise: 0,
        }
    }
    /// An insecure small ring with the chain of [`ParametersSpec::standard`], for tests.
    pub fn toy(log_n: u32) -> Self {
        Self {
            name: format!("toy-{log_n}"),
            log_n,
            ..Self::standard()
        }
    }
    /// An insecure small ring without bootstrapping, for tests.
    pub fn toy_levelled(log_n: u32, levels: usize) -> Self {
        Self {
            name: format!("toy-levelled-{log_n}"),
            log_n,
            residual: Zone::new(levels, &[40]),
            bootstrap: None,
            special_bits: vec![46; levels.div_ceil(3) + 2],
            ..Self::standard()
        }
    }
    /// Whether the user asked for an insecure set by name.
    pub fn is_toy(&self) -> bool {
        self.name.starts_with("toy-")
    }
    fn refuse(&self, reason: String) -> Error {
        Error::Parameters {
            name: self.name.clone(),
            reason,
        }
    }
    /// What can be said before primes are drawn.
    fn check(&self) -> Result<(), Error> {
        if !(4..=17).contains(&self.log_n) {
            return Err(self.refuse(format!("log N = {} but 4 to 17 are supported", self.log_n)));
        }
        if self.dnum == 0
            || self.dnum > 16
            || self.special_bits.is_empty()
            || self.special_bits.len() > 24
            || self.residual.levels > 60
        {
            return Err(self.refuse(
                "dnum must be 1 to 16, special primes 1 to 24, residual levels at most 60".into(),
            ));
        }
        let Some(b) = &self.bootstrap else {
            return Ok(());
        };
        let needed = depth_of(b.degree) + b.double_angles;
        if b.eval_mod.levels != needed {
            return Err(self.refuse(format!(
                "EvalMod of degree {} with {} double angles needs {needed} levels, not {}",
                b.degree, b.double_angles, b.eval_mod.levels
            )));
        }
        if b.hamming_weight == 0
            || b.hamming_weight >= 1 << self.log_n
            || b.range == 0
            || b.slot_to_coeff.levels == 0
            || b.coeff_to_slot.levels == 0
        {
            return Err(self.refuse(
                "bootstrapping needs a sparse secret, a range and levels for both transforms"
                    .into(),
            ));
        }
        Ok(())
    }
    /// Primes near 2^bits that are not among those used, to which they are added.
    fn draw(&self, bits: u32, count: usize, used: &mut Vec<u64>) -> Result<Vec<u64>, Error> {
        if !(20..=50).contains(&bits) {
            return Err(self.refuse(format!("primes of {bits} bits; 20 to 50 are supported")));
        }
        // primes of 50 bits stay below 2^50, the largest that an IFMA word reduces lazily
        let center = if bits == 50 {
            (1u64 << 50) - (1 << 43)
        } else {
            1u64 << bits
        };
        let found = ring::ntt_primes(self.log_n, center, count, used)?;
        used.extend(&found);
        Ok(found)
    }
    /// The primes of every level, from the bottom. Groups of equal shape are drawn together so that pairs can be matched to products
    /// near their target.
    fn draw_groups(&self, used: &mut Vec<u64>) -> Result<Vec<Vec<u64>>, Error> {
        let base = Zone::new(1, &[self.base_bits]);
        let mut zones = vec![&base, &self.residual];
        if let Some(b) = &self.bootstrap {
            zones.extend([&b.slot_to_coeff, &b.eval_mod, &b.coeff_to_slot]);
        }
        let mut groups: Vec<Vec<u64>> = Vec::new();
        for zone in zones {
            if zone.bits.len() == 2 && zone.bits[0] == zone.bits[1] {
                let mut primes = self.draw(zone.bits[0], 2 * zone.levels, used)?;
                primes.sort_unstable();
                for i in 0..zone.levels {
                    groups.push(vec![primes[i], primes[2 * zone.levels - 1 - i]]);
                }
            } else {
                let columns: Vec<Vec<u64>> = zone
                    .bits
                    .iter()
                    .map(|&b| self.draw(b, zone.levels, used))
                    .collect::<Result<_, _>>()?;
                groups.extend((0..zone.levels).map(|i| columns.iter().map(|c| c[i]).collect()));
            }
        }
        Ok(groups)
    }
    /// Keeps canonical scales near 2^log_scale: each residual level takes the prime nearest to S²/2^log_scale.
    fn order_residual(&self, groups: &mut [Vec<u64>]) {
        if self.residual.bits.len() != 1 {
            return;
        }
        let nominal = f64::from(self.log_scale).exp2();
        let mut scale = nominal;
        for level in (1..=self.residual.levels).rev() {
            let want = scale * scale / nominal;
            let off = |i: usize| (groups[i][0] as f64 - want).abs();
            let best = (1..=level)
                .min_by(|&i, &j| off(i).total_cmp(&off(j)))
                .unwrap_or(level);
            groups.swap(level, best);
            scale = scale * scale / groups[level][0] as f64;
        }
    }
    /// The canonical scale of every level.
    fn scales(&self, moduli: &[f64]) -> Vec<f64> {
        let residual = self.residual.levels;
        let nominal = f64::from(self.log_scale).exp2();
        let mut scales = vec![0.0; moduli.len()];
        let down = |scales: &mut [f64], range: std::ops::RangeInclusive<usize>| {
            for level in range.rev() {
                scales[level - 1] = scales[level] * scales[level] / moduli[level];
            }
        };
        scales[residual] = nominal;
        down(&mut scales, 1..=residual);
        if let Some(b) = &self.bootstrap {
            let top = moduli.len() - 1;
            let raised = f64::from(b.log_raise).exp2() * moduli[0];
            let eval_top = top - b.coeff_to_slot.levels;
            // CoeffToSlot's plaintexts gain precision where the scale climbs to EvalMod's over its levels
            let goal = (b.eval_mod.bits.iter().sum::<u32>() as f64).exp2();
            for (i, s) in scales[eval_top..=top].iter_mut().rev().enumerate() {
                *s = raised * (goal / raised).powf(i as f64 / b.coeff_to_slot.levels as f64);
            }
            let eval_bottom = eval_top - b.eval_mod.levels;
            down(&mut scales, eval_bottom + 1..=eval_top);
            for s in &mut scales[residual + 1..eval_bottom] {
                *s = nominal; // SlotToCoeff chooses its own
            }
        }
        scales
    }
    /// Ring indices of the primes at each level, by skipped levels.
    fn limbs(&self, groups: &[Vec<usize>]) -> Vec<Vec<Arc<[usize]>>> {
        let residual = self.residual.levels;
        let skips = if self.bootstrap.is_some() {
            residual + 1
        } else {
            1
        };
        let at = |skip: usize, index: usize| {
            (0..=index)
                .filter(|&l| index <= residual || l > residual || l + skip <= residual)
                .flat_map(|l| groups[l].clone())
                .collect()
        };
        (0..skips)
            .map(|skip| (0..groups.len()).map(|index| at(skip, index)).collect())
            .collect()
    }
}

/// A place in the modulus chain: `index` counts down to 0. Above the residual levels, `skip` residual levels are
/// left out of the modulus (a bootstrap to a lower target works with fewer limbs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level {
    index: usize,
    skip: usize,
}

impl Level {
    /// A residual level (or, above them, the full chain).
    pub const fn new(index: usize) -> Self {
        Self { index, skip: 0 }
    }
    /// Its index.
    pub const fn index(self) -> usize {
        self.index
    }
    /// Residual levels left out.
    pub const fn skip(self) -> usize {
        self.skip
    }
}

struct Inner {
    spec: ParametersSpec,
    ring: Ring,
    /// Ring indices of each level's primes; level 0 is q0.
    groups: Vec<Vec<usize>>,
    moduli: Vec<f64>,
    scales: Vec<f64>,
    special: Arc<[usize]>,
    digits: Vec<std::ops::Range<usize>>,
    /// limbs[skip][index]
    limbs: Vec<Vec<Arc<[usize]>>>,
    log_q: f64,
    log_p: f64,
}

/// A checked parameter set; cheap to clone.
#[derive(Clone)]
pub struct Parameters(Arc<Inner>);

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Parameters({}, log QP {:.1})",
            self.0.spec.name,
            self.log_qp()
        )
    }
}

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.spec == other.0.spec
    }
}

impl Parameters {
    /// Chooses the primes and checks everything.
    ///
    /// # Errors
    /// If the set is inconsistent, or a published key would have less than 128 bits and the name does not start with `toy-`.
    pub fn new(spec: ParametersSpec) -> Result<Self, Error> {
        spec.check()?;
        let mut used = Vec::new();
        let mut groups_by_value = spec.draw_groups(&mut used)?;
        let special_values: Vec<u64> = spec
            .special_bits
            .iter()
            .map(|&b| spec.draw(b, 1, &mut used).map(|v| v[0]))
            .collect::<Result<_, _>>()?;
        spec.order_residual(&mut groups_by_value);
        let moduli: Vec<f64> = groups_by_value
            .iter()
            .map(|g| g.iter().map(|&q| q as f64).product())
            .collect();
        let scales = spec.scales(&moduli);
        let q_values: Vec<u64> = groups_by_value.iter().flatten().copied().collect();
        let mut groups = Vec::new();
        let mut next = 0;
        for g in &groups_by_value {
            groups.push((next..next + g.len()).collect::<Vec<_>>());
            next += g.len();
        }
        let ring = Ring::new(
            spec.log_n,
            &[q_values.clone(), special_values.clone()].concat(),
        )?;
        let q_limbs = q_values.len();
        let per_digit = q_limbs.div_ceil(spec.dnum);
        let digits: Vec<_> = (0..q_limbs)
            .step_by(per_digit)
            .map(|s| s..(s + per_digit).min(q_limbs))
            .collect();
        let log = |values: &[u64]| values.iter().map(|&p| (p as f64).log2()).sum::<f64>();
        let (log_q, log_p) = (log(&q_values), log(&special_values));
        for d in &digits {
            let log_d = log(&q_values[d.clone()]);
            if log_d > log_p + 1.0 {
                return Err(spec.refuse(format!(
                    "a digit of {log_d:.0} bits exceeds P of {log_p:.0} bits: add special primes or raise dnum"
                )));
            }
        }
        let parameters = Self(Arc::new(Inner {
            limbs: spec.limbs(&groups),
            ring,
            groups,
            moduli,
            scales,
            special: (q_limbs..q_limbs + special_values.len()).collect(),
            digits,
            log_q,
            log_p,
            spec,
        }));
        let limiting = parameters.limiting_key();
        if limiting.bits < 128 && !parameters.0.spec.is_toy() {
            return Err(Error::Insecure {
                name: parameters.0.spec.name.clone(),
                key: limiting.name,
                bits: limiting.bits,
            });
        }
        Ok(parameters)
    }

    /// The specification.
    pub fn spec(&self) -> &ParametersSpec {
        &self.0.spec
    }
    /// The ring with all primes: Q's first, then P's.
    pub fn ring(&self) -> &Ring {
        &self.0.ring
    }
    /// Ring degree N.
    pub fn n(&self) -> usize {
        self.0.ring.n()
    }
    /// The most slots: N/2.
    pub fn max_slots(&self) -> usize {
        self.n() / 2
    }
    /// Highest residual level.
    pub fn residual(&self) -> Level {
        Level::new(self.0.spec.residual.levels)
    }
    /// The top of the chain, with `target` the residual level that a bootstrap returns to.
    pub fn top(&self, target: Level) -> Level {
        Level {
            index: self.0.groups.len() - 1,
            skip: self.0.spec.residual.levels - target.index.min(self.0.spec.residual.levels),
        }
    }
    /// The level below.
    pub fn below(&self, level: Level) -> Option<Level> {
        let residual = self.0.spec.residual.levels;
        if level.index == 0 {
            None
        } else if level.index == residual + 1 {
            Some(Level::new(residual - level.skip))
        } else {
            Some(Level {
                index: level.index - 1,
                skip: level.skip,
            })
        }
    }
    /// The level above `level` on the way to `toward` (which lies above it).
    pub fn above(&self, level: Level, toward: Level) -> Level {
        let residual = self.0.spec.residual.levels;
        if toward.index > residual && level.index + toward.skip == residual {
            Level {
                index: residual + 1,
                skip: toward.skip,
            }
        } else {
            Level {
                index: level.index + 1,
                skip: level.skip,
            }
        }
    }
    /// Ring indices of the primes at a level, ascending.
    pub fn limbs(&self, level: Level) -> &Arc<[usize]> {
        &self.0.limbs[level.skip.min(self.0.limbs.len() - 1)][level.index]
    }
    /// How many of Q's primes, from the bottom of the chain, an evaluation key must cover for this level.
    pub fn key_limit(&self, level: Level) -> usize {
        self.limbs(level).last().map_or(0, |&i| i + 1)
    }
    /// Ring indices of one level's own group of primes: those that rescaling divides by.
    pub fn group(&self, level: Level) -> &[usize] {
        &self.0.groups[level.index]
    }
    /// `Q_ℓ`: product of one level's primes.
    pub fn modulus(&self, level: Level) -> f64 {
        self.0.moduli[level.index]
    }
    /// Canonical scale at a level: `S_(ℓ−1) = S_ℓ²/Q_ℓ`.
    pub fn scale(&self, level: Level) -> f64 {
        self.0.scales[level.index]
    }
    /// Ring indices of the special primes P.
    pub fn special(&self) -> &Arc<[usize]> {
        &self.0.special
    }
    /// Digits of the decomposition: ranges of ring indices.
    pub fn digits(&self) -> &[std::ops::Range<usize>] {
        &self.0.digits
    }
    /// The modulus with a ring index.
    pub fn prime(&self, limb: usize) -> &Modulus {
        self.0.ring.modulus(limb)
    }
    /// P modulo a prime of the ring.
    pub fn special_product_mod(&self, limb: usize) -> u64 {
        let q = self.prime(limb);
        self.0
            .special
            .iter()
            .fold(1u64, |acc, &p| q.mul(acc, q.reduce(self.prime(p).value())))
    }
    /// The bootstrapping part.
    pub fn bootstrap(&self) -> Option<&BootstrapSpec> {
        self.0.spec.bootstrap.as_ref()
    }
    /// log2 of the whole ciphertext modulus Q.
    pub fn log_q(&self) -> f64 {
        self.0.log_q
    }
    /// log2 of P.
    pub fn log_p(&self) -> f64 {
        self.0.log_p
    }
    /// log2 of QP, the modulus of the largest published key.
    pub fn log_qp(&self) -> f64 {
        self.0.log_q + self.0.log_p
    }
    /// Every kind of key that is published, with its security.
    pub fn key_security(&self) -> Vec<KeySecurity> {
        let sparse = self.bootstrap().map(|b| {
            let extra = self.prime(self.encapsulation_prime()).value() as f64;
            let log_modulus = self.modulus(Level::new(0)).log2() + extra.log2();
            (b.hamming_weight, log_modulus)
        });
        security::keys(self.0.spec.log_n, self.log_qp(), sparse)
    }
    /// The weakest of them.
    pub fn limiting_key(&self) -> KeySecurity {
        let mut all = self.key_security();
        all.sort_by_key(|k| k.bits);
        all.swap_remove(0)
    }
    /// Security in bits of the weakest published key.
    pub fn security_bits(&self) -> u32 {
        self.limiting_key().bits
    }
    /// Ring index of the 50-bit prime that, with q0, is the modulus of the dense-to-sparse key: the chain's last prime.
    pub fn encapsulation_prime(&self) -> usize {
        self.0.groups[self.0.groups.len() - 1][0]
    }
}

/// Levels that a polynomial of this degree consumes.
pub const fn depth_of(degree: usize) -> usize {
    (degree + 1).next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::overflow_log2;

    #[test]
    fn the_standard_set_is_secure_and_its_bootstrap_cannot_overflow() {
        let p = Parameters::new(ParametersSpec::standard()).expect("secure");
        assert_eq!(p.security_bits(), 128);
        assert!(p.log_qp() < 1747.0);
        for spec in [ParametersSpec::standard(), ParametersSpec::toy(10)] {
            let b = spec.bootstrap.expect("bootstraps");
            assert_eq!(
                overflow_log2(1 << spec.log_n, b.hamming_weight, b.range),
                f64::NEG_INFINITY
            );
        }
        // a range just below would do, a smaller one would fail visibly often
        assert!(overflow_log2(p.n(), 32, 15) < -100.0);
        assert!(overflow_log2(p.n(), 32, 6) > -1.0);
    }

    #[test]
    fn the_levelled_set_is_secure_and_has_27_limbs() {
        let p = Parameters::new(ParametersSpec::levelled()).expect("secure");
        assert_eq!((p.security_bits(), p.n()), (128, 1 << 16));
        assert!(p.log_qp() < 1747.0 && p.bootstrap().is_none());
        assert_eq!(p.limbs(p.residual()).len(), 27);
        assert_eq!(
            p.digits().iter().map(|d| d.len()).collect::<Vec<_>>(),
            [9, 9, 9]
        );
    }

    #[test]
    fn a_small_ring_is_refused_unless_it_is_named_a_toy() {
        let spec = ParametersSpec {
            name: "fast".into(),
            ..ParametersSpec::toy(11)
        };
        assert!(matches!(Parameters::new(spec), Err(Error::Insecure { .. })));
    }
}
