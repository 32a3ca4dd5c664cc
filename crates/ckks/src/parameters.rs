//! Parameter sets: a [`ParametersSpec`] becomes checked, immutable [`Parameters`].
//!
//! The chain, from the bottom: `q0` │ products in coefficients │ SlotToCoeff │ residual levels (for the user's circuit) │ EvalMod │ CoeffToSlot;
//! without bootstrapping, `q0` │ residual levels.
//! A level is a group of one or more primes; EvalMod levels may be pairs because no prime exceeds 50 bits and
//! its scale reaches 2^60. Nothing outside this module assumes limbs = level + 1.

mod bottom;

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

/// Bits after the point that integer weights may have; the first where a specification names none.
///
/// The prime of a level of products and its keys are the same for both: more bits lower the scale of values above it, S₁ = S₀·q₁/2^bits, which is far above
/// their errors. What bits cost is bytes of the weights.
pub const WEIGHT_BITS: [u32; 2] = [16, 20];

fn usual_weight_bits() -> u32 {
    WEIGHT_BITS[0]
}

fn are_usual(bits: &u32) -> bool {
    *bits == usual_weight_bits()
}

/// The part of a parameter set that bootstrapping needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapSpec {
    /// Levels of products in coefficients ([`crate::Coefficients`]), between `q0` and SlotToCoeff: 0 to 2.
    pub product: Zone,
    /// log2 of q0/S₀: how far below `q0` a coefficient of 1 lies. A bit more costs a bit of noise and gains two of the sine's bias.
    pub log_ratio: f64,
    /// log2 of the degree of a smaller ring that products may change to ([`crate::ring_switch`]): its secret is one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_ring: Option<u32>,
    /// Bits after the point of the integers that products multiply by, one of [`WEIGHT_BITS`]: a weight w is the integer nearest to w·2^bits.
    #[serde(default = "usual_weight_bits", skip_serializing_if = "are_usual")]
    pub weight_bits: u32,
    /// Levels of SlotToCoeff.
    pub slot_to_coeff: Zone,
    /// Levels of EvalMod, from the bottom: ⌈log2(degree + 1)⌉ + double angles. Values land at the last of them.
    pub eval_mod: Vec<Zone>,
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
    /// The preset with bootstrapping and ten free levels, for values in slots alone, at N = 2^16: q0 50 │ 3 × 37 │ 10 × 42 │
    /// 2 × 50, 31+31, 2 × 50, 29+29, 30+30, 50 │ 3 × 50, P = 7 × 49 and 5 × 48, dnum 2; log QP 1744.
    pub fn standard() -> Self {
        Self {
            name: "standard-16".into(),
            log_n: 16,
            base_bits: 50,
            residual: Zone::new(10, &[42]),
            bootstrap: Some(Self::standard_bootstrap()),
            special_bits: [[49; 7].as_slice(), &[48; 5]].concat(),
            dnum: 2,
            log_scale: 42,
        }
    }
    fn standard_bootstrap() -> BootstrapSpec {
        BootstrapSpec {
            product: Zone::new(0, &[30]),
            log_ratio: 10.65,
            small_ring: None,
            weight_bits: usual_weight_bits(),
            slot_to_coeff: Zone::new(3, &[37]),
            eval_mod: Self::narrow_eval_mod([Some(31), Some(29), Some(30)]),
            coeff_to_slot: Zone::new(3, &[50]),
            hamming_weight: 32,
            range: 16,
            degree: 63,
            double_angles: 2,
        }
    }
    /// The presets with values in coefficients below SlotToCoeff, for k = 2 to 9 free levels at N = 2^16: q0 50 │ product 30 │ 3 × 38 │ k × 42 │
    /// 5 × 50, 29+29, 31+31, 50 │ 3 × 50, P of 9 to 12 primes of 49 bits, dnum 2; log QP 1289 (k = 2), 1422 (4), 1730 (9); 57 keys of 0.94, 1.03 and
    /// 1.25 GB in memory with the way down (`docs/performance.md`).
    ///
    /// Measured for k = 4 over 65,536 values up to 1/2, beside the sine that they come back through: 19.2 bits at worst, 23.8 in the mean, 23.0 root
    /// mean square; the sine itself falls short of 1/2 by 2^-20.8. EvalMod and the scales are the same for all k. A bootstrap cannot fail:
    /// [`security::overflow_log2`] is −∞ for h = 32 and K = 16.
    ///
    /// # Errors
    /// [`Error::Parameters`] for other k.
    pub fn coefficients(free_levels: usize) -> Result<Self, Error> {
        let spec = Self {
            name: format!("coefficients-16-{free_levels}"),
            log_n: 16,
            base_bits: 50,
            residual: Zone::new(free_levels, &[42]),
            bootstrap: Some(BootstrapSpec {
                product: Zone::new(1, &[30]),
                log_ratio: 10.25,
                slot_to_coeff: Zone::new(3, &[38]),
                eval_mod: Self::narrow_eval_mod([None, Some(29), Some(31)]),
                ..Self::standard_bootstrap()
            }),
            special_bits: vec![
                49;
                match free_levels {
                    0..=2 => 9,
                    3..=4 => 10,
                    5..=7 => 11,
                    _ => 12,
                }
            ],
            dnum: 2,
            log_scale: 42,
        };
        if (2..=9).contains(&free_levels) {
            Ok(spec)
        } else {
            Err(spec.refuse(format!(
                "{free_levels} free levels; there are presets for 2 to 9"
            )))
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
            base_bits: 50,
            residual: Zone::new(levels, &[40]),
            bootstrap: None,
            special_bits: vec![46; levels.div_ceil(3) + 2],
            dnum: 3,
            log_scale: 40,
        }
    }
    /// EvalMod for values in coefficients: its own errors are not multiplied by √N afterwards, so that single primes do. Pairs at the third,
    /// sixth and seventh level from the bottom lift the scale where it pays most: below the two doublings of the angle, which multiply an error by up to 16,
    /// and below the powers T_2 and T_4 (found by trying all places of 2 to 4 pairs; the top level is best a single prime).
    fn narrow_eval_mod(bits: [Option<u32>; 3]) -> Vec<Zone> {
        let level = |bits: Option<u32>| Zone::new(1, &bits.map_or(vec![50], |b| vec![b, b]));
        let [third, sixth, seventh] = bits.map(level);
        let single = |levels| Zone::new(levels, &[50]);
        vec![single(2), third, single(2), sixth, seventh, single(1)]
    }
    /// The chain of [`ParametersSpec::coefficients`] on an insecure small ring, for tests.
    ///
    /// # Errors
    /// As [`ParametersSpec::coefficients`].
    pub fn toy_coefficients(log_n: u32, free_levels: usize) -> Result<Self, Error> {
        Ok(Self {
            name: format!("toy-coefficients-{log_n}"),
            log_n,
            ..Self::coefficients(free_levels)?
        })
    }
    /// The same set with a small ring of degree 2^log_n for products in coefficients, or without one.
    #[must_use]
    pub fn with_small_ring(mut self, log_n: Option<u32>) -> Self {
        if let Some(b) = &mut self.bootstrap {
            b.small_ring = log_n;
        }
        self
    }
    /// The same set for integer weights with so many bits after the point, which its name says where they are not the usual ones.
    #[must_use]
    pub fn with_weight_bits(mut self, bits: u32) -> Self {
        if let Some(b) = &mut self.bootstrap
            && b.weight_bits != bits
        {
            b.weight_bits = bits;
            self.name = format!("{}-{bits}", self.name);
        }
        self
    }
    /// Bits after the point of the integers that products in coefficients multiply by, where there are levels of products.
    pub fn weight_bits(&self) -> Option<u32> {
        let with_products = self.bootstrap.as_ref().filter(|b| b.product.levels > 0);
        with_products.map(|b| b.weight_bits)
    }
    /// The integer that stands for a weight of 1 there.
    fn weight_unit(&self) -> f64 {
        f64::from(self.weight_bits().unwrap_or(0)).exp2()
    }
    /// log2 of the degree of the small ring, if there is one.
    pub fn small_ring(&self) -> Option<u32> {
        self.bootstrap.as_ref()?.small_ring
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
        if b.eval_mod_levels() != needed {
            return Err(self.refuse(format!(
                "EvalMod of degree {} with {} double angles needs {needed} levels, not {}",
                b.degree,
                b.double_angles,
                b.eval_mod_levels()
            )));
        }
        let (products, log_ratio) = (b.product.levels, b.log_ratio);
        if products > 2 || !(4.0..=24.0).contains(&log_ratio) {
            return Err(self.refuse(format!(
                "{products} levels of products and a ratio of 2^{log_ratio}; 0 to 2 and 2^4 to 2^24 are supported"
            )));
        }
        let [usual, ..] = WEIGHT_BITS;
        if !WEIGHT_BITS.contains(&b.weight_bits) || (products == 0 && b.weight_bits != usual) {
            return Err(self.refuse(format!(
                "`weight_bits` of {} for {products} levels of products; {WEIGHT_BITS:?} are supported, {usual} where there is no such level",
                b.weight_bits
            )));
        }
        if let Some(log_small) = b.small_ring
            && (products == 0
                || !(4..self.log_n).contains(&log_small)
                || log_small + MOST_SMALLER < self.log_n)
        {
            return Err(self.refuse(format!(
                "a small ring of degree 2^{log_small} for {products} levels of products; 2^{} to 2^{} are supported, for one level at least",
                self.log_n.saturating_sub(MOST_SMALLER).max(4),
                self.log_n - 1
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
    /// How many primes it has, special ones among them; of a foreign set, too.
    pub fn primes(&self) -> usize {
        let bootstrap = self.bootstrap.iter().flat_map(|b| {
            let zones = [&b.product, &b.slot_to_coeff, &b.coeff_to_slot];
            zones.into_iter().chain(&b.eval_mod)
        });
        let count = |z: &Zone| z.levels.saturating_mul(z.bits.len());
        let zones = bootstrap.chain([&self.residual]).map(count);
        zones.fold(1 + self.special_bits.len(), usize::saturating_add)
    }
    /// The primes of every level, from the bottom. Groups of equal shape are drawn together so that pairs can be matched to products
    /// near their target.
    fn draw_groups(&self, used: &mut Vec<u64>) -> Result<Vec<Vec<u64>>, Error> {
        let base = Zone::new(1, &[self.base_bits]);
        let mut zones = vec![&base];
        match &self.bootstrap {
            None => zones.push(&self.residual),
            Some(b) => {
                zones.extend([&b.product, &b.slot_to_coeff, &self.residual]);
                zones.extend(&b.eval_mod);
                zones.push(&b.coeff_to_slot);
            }
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
    /// Levels of products in coefficients.
    fn products(&self) -> usize {
        self.bootstrap.as_ref().map_or(0, |b| b.product.levels)
    }
    /// Levels above q0 and below the residual ones.
    fn floor(&self) -> usize {
        let below = |b: &BootstrapSpec| b.product.levels + b.slot_to_coeff.levels;
        self.bootstrap.as_ref().map_or(0, below)
    }
    /// Keeps canonical scales near 2^log_scale: each residual level takes the prime nearest to S²/2^log_scale.
    fn order_residual(&self, groups: &mut [Vec<u64>]) {
        if self.residual.bits.len() != 1 {
            return;
        }
        let nominal = f64::from(self.log_scale).exp2();
        let mut scale = nominal;
        let lowest = self.floor() + 1;
        for level in (lowest..lowest + self.residual.levels).rev() {
            let want = scale * scale / nominal;
            let off = |i: usize| (groups[i][0] as f64 - want).abs();
            let best = (lowest..=level)
                .min_by(|&i, &j| off(i).total_cmp(&off(j)))
                .unwrap_or(level);
            groups.swap(level, best);
            scale = scale * scale / groups[level][0] as f64;
        }
    }
    /// By how many bits the scale of any residual level is off 2^log_scale: it doubles from level to level, and few primes of a large ring lie
    /// near a small power of two.
    pub(crate) fn drift(&self) -> Result<f64, Error> {
        let mut groups = self.draw_groups(&mut Vec::new())?;
        self.order_residual(&mut groups);
        let modulus = |g: &Vec<u64>| g.iter().map(|&q| q as f64).product();
        let (scales, _) = self.scales(&groups.iter().map(modulus).collect::<Vec<f64>>())?;
        let residual = &scales[self.floor()..=self.floor() + self.residual.levels];
        let off = residual
            .iter()
            .map(|s| (s.log2() - f64::from(self.log_scale)).abs());
        Ok(off.fold(0.0, f64::max))
    }
    /// The canonical scale of every level, and that at EvalMod's end.
    fn scales(&self, moduli: &[f64]) -> Result<(Vec<f64>, f64), Error> {
        let (floor, residual) = (self.floor(), self.floor() + self.residual.levels);
        let nominal = f64::from(self.log_scale).exp2();
        let mut scales = vec![0.0; moduli.len()];
        scales[residual] = nominal;
        for level in (floor + 1..=residual).rev() {
            scales[level - 1] = scales[level] * scales[level] / moduli[level];
        }
        let Some(b) = &self.bootstrap else {
            return Ok((scales, nominal));
        };
        let top = moduli.len() - 1;
        let eval_top = top - b.coeff_to_slot.levels;
        let eval_bottom = eval_top - b.eval_mod_levels();
        let end = self.landing(moduli[residual + 1], b.log_ratio)?;
        // downwards S²/Q doubles what a scale is off by; upwards it is halved, whatever the primes
        let mut goal = end;
        for level in eval_bottom + 1..=eval_top {
            goal = (goal * moduli[level]).sqrt();
            scales[level] = goal;
        }
        self.scales_in_coefficients(&mut scales, moduli, b.log_ratio);
        // CoeffToSlot's plaintexts gain precision where the scale climbs to EvalMod's over its levels (measured: 2 bits)
        let raised = moduli[0];
        for (i, s) in scales[eval_top..=top].iter_mut().rev().enumerate() {
            *s = raised * (goal / raised).powf(i as f64 / b.coeff_to_slot.levels as f64);
        }
        Ok((scales, end))
    }
    /// The scale at EvalMod's end, for which the sine of a coefficient, 2π·x·S₀/q₀, is x at 2^log_scale; refused where it is not near the
    /// lowest of its own primes, at whose size its scale is stable.
    fn landing(&self, lowest: f64, log_ratio: f64) -> Result<f64, Error> {
        let sine = std::f64::consts::TAU.log2() - log_ratio;
        let (had, wanted) = (lowest.log2() + sine, f64::from(self.log_scale));
        if (had - wanted).abs() > LANDING_TOLERANCE {
            return Err(self.refuse(format!(
                "EvalMod's lowest level of {:.2} bits and q0/S0 = 2^{log_ratio} land at a scale of 2^{had:.2}, not near 2^{wanted}: a ratio of \
                 2^{:.2} would, or a log_scale of {had:.0}",
                lowest.log2(),
                log_ratio + had - wanted
            )));
        }
        Ok((wanted - sine).exp2())
    }
    /// Scales below the residual levels.
    fn scales_in_coefficients(&self, scales: &mut [f64], moduli: &[f64], log_ratio: f64) {
        let (products, floor) = (self.products(), self.floor());
        let unit = self.weight_unit();
        scales[0] = moduli[0] / log_ratio.exp2();
        for level in 1..=products {
            // a product with weights, rescaled, is at the canonical scale below
            scales[level] = scales[level - 1] * moduli[level] / unit;
        }
        // SlotToCoeff's maps share what lies between
        let (from, to) = (scales[floor], scales[products]);
        let levels = (floor - products) as f64;
        let between = scales.iter_mut().enumerate().take(floor).skip(products + 1);
        for (level, scale) in between {
            *scale = to * (from / to).powf((level - products) as f64 / levels);
        }
    }
    /// Ring indices of the primes at each level, by skipped levels.
    fn limbs(&self, groups: &[Vec<usize>]) -> Vec<Vec<Arc<[usize]>>> {
        let residual = self.floor() + self.residual.levels;
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

/// By how many bits the degree of a small ring is below N at most: every ciphertext has that many classes there.
const MOST_SMALLER: u32 = 6;

/// Bits that EvalMod's own scale may land beside the canonical one.
const LANDING_TOLERANCE: f64 = 0.5;

impl BootstrapSpec {
    /// Levels of EvalMod.
    pub fn eval_mod_levels(&self) -> usize {
        let levels = self.eval_mod.iter().map(|z| z.levels);
        levels.fold(0, usize::saturating_add)
    }
}

struct Inner {
    spec: ParametersSpec,
    /// The highest residual level.
    residual: usize,
    ring: Ring,
    /// Ring indices of each level's primes; level 0 is q0.
    groups: Vec<Vec<usize>>,
    moduli: Vec<f64>,
    scales: Vec<f64>,
    /// The scale at EvalMod's end.
    end: f64,
    special: Arc<[usize]>,
    /// How many of them key switching takes, [skip][index].
    enough: Vec<Vec<usize>>,
    digits: Vec<std::ops::Range<usize>>,
    /// limbs[skip][index]
    limbs: Vec<Vec<Arc<[usize]>>>,
    log_q: f64,
    log_p: f64,
    /// The lowest levels as sets of their own, in this ring and in the small one.
    bottoms: Option<[Parameters; 2]>,
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
        let (scales, end) = spec.scales(&moduli)?;
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
        let limbs = spec.limbs(&groups);
        let special: Arc<[usize]> = (q_limbs..q_limbs + special_values.len()).collect();
        let mut inner = Inner {
            enough: enough_at(&ring, &limbs, &digits, &special),
            limbs,
            residual: spec.floor() + spec.residual.levels,
            ring,
            groups,
            moduli,
            scales,
            end,
            special,
            digits,
            log_q,
            log_p,
            spec,
            bottoms: None,
        };
        if let Some(log_small) = inner.spec.small_ring() {
            let level = Level::new(inner.spec.products());
            let wide = inner.bottom(inner.spec.log_n, level)?;
            inner.bottoms = Some([wide, inner.bottom(log_small, level)?]);
        }
        let parameters = Self(Arc::new(inner));
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
        Level::new(self.0.residual)
    }
    /// The lowest level at which values lie in slots: that where SlotToCoeff begins; 0 without bootstrapping.
    pub fn floor(&self) -> Level {
        Level::new(self.0.spec.floor())
    }
    /// The level at which SlotToCoeff ends: as many as there are levels of products in coefficients.
    pub fn products(&self) -> Level {
        Level::new(self.0.spec.products())
    }
    /// The top of the chain, with `target` the residual level that a bootstrap returns to.
    pub fn top(&self, target: Level) -> Level {
        Level {
            index: self.0.groups.len() - 1,
            skip: self.0.residual - target.index.min(self.0.residual),
        }
    }
    /// The level below.
    pub fn below(&self, level: Level) -> Option<Level> {
        let residual = self.0.residual;
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
        let residual = self.0.residual;
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
    /// The scale of a product of canonical operands at a level, rescaled: the canonical one below, but at EvalMod's end, the highest residual level, its
    /// own.
    pub fn scale_below(&self, level: Level) -> Option<f64> {
        let below = self.below(level)?;
        let ends = level.index == self.0.residual + 1;
        Some(if ends { self.0.end } else { self.scale(below) })
    }
    /// The scale at which a bootstrap takes coefficients from level 0 if they are to come back unchanged at the canonical scale of `target`: S₀
    /// for the highest.
    pub fn base_scale(&self, target: Level) -> f64 {
        let base = Level::new(0);
        self.scale(target) / self.0.end * self.modulus(base) / std::f64::consts::TAU
    }
    /// The integer that stands for a weight of 1 in products in coefficients; 1 where there are no levels of products.
    pub fn weight_unit(&self) -> f64 {
        self.0.spec.weight_unit()
    }
    /// Ring indices of the special primes P.
    pub fn special(&self) -> &Arc<[usize]> {
        &self.0.special
    }
    /// The first of the special primes, which a switch of keys at a level extends its digits by: as many as its largest digit needs. Keys are made for the
    /// whole of P: a polynomial that is multiplied by the inverse of the others' product beforehand is switched with P' in P's place.
    pub fn special_at(&self, level: Level) -> &[usize] {
        let count = self.0.enough[level.skip.min(self.0.enough.len() - 1)][level.index];
        &self.0.special[..count]
    }
    /// Those that a key needs which covers so many of Q's primes: as many as at any level that it serves.
    pub fn special_up_to(&self, limit: usize) -> &[usize] {
        let limbs: Vec<usize> = (0..limit).collect();
        let Inner {
            ring,
            digits,
            special,
            ..
        } = &*self.0;
        &special[..enough(ring, &limbs, digits, special)]
    }
    /// Digits of the decomposition: ranges of ring indices.
    pub fn digits(&self) -> &[std::ops::Range<usize>] {
        &self.0.digits
    }
    /// The modulus with a ring index.
    pub fn prime(&self, limb: usize) -> &Modulus {
        self.0.ring.modulus(limb)
    }
    /// The product of some primes modulo a prime of the ring.
    pub fn product_mod(&self, primes: &[usize], limb: usize) -> u64 {
        let q = self.prime(limb);
        primes
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
        let mut all = security::keys(self.0.spec.log_n, self.log_qp(), sparse);
        if let Some([wide, small]) = self.bottoms() {
            let [log_n, log_small] = [wide, small].map(|p| p.spec().log_n);
            all.extend(security::ring_switch_keys(log_n, log_small, small.log_qp()));
        }
        all
    }
    /// The levels of products and q0 as sets of their own, in this ring and in the small one, if there is one: what keys of a change of rings are laid out
    /// by.
    pub fn bottoms(&self) -> Option<&[Self; 2]> {
        self.0.bottoms.as_ref()
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
    /// Ring index of the only special prime of the keys from the sparse secret, whose digit is below q0: the first of P.
    pub fn raising_prime(&self) -> usize {
        self.0.special[0]
    }
}

/// Bits that P' has more than the largest digit, so that the noise of keys is less than that of rounding.
const MARGIN: f64 = 2.0;

/// How many special primes extend the digits of these limbs.
fn enough(
    ring: &Ring,
    limbs: &[usize],
    digits: &[std::ops::Range<usize>],
    special: &[usize],
) -> usize {
    let log = |&i: &usize| (ring.modulus(i).value() as f64).log2();
    let of = |d: &std::ops::Range<usize>| limbs.iter().filter(|i| d.contains(i)).map(log).sum();
    let largest = digits.iter().map(of).fold(0.0, f64::max) + MARGIN;
    let mut sum = 0.0;
    let found = special.iter().position(|i| {
        sum += log(i);
        sum >= largest
    });
    found.map_or(special.len(), |k| k + 1)
}

/// [`enough`] for every list of limbs, [skip][index].
fn enough_at(
    ring: &Ring,
    limbs: &[Vec<Arc<[usize]>>],
    digits: &[std::ops::Range<usize>],
    special: &[usize],
) -> Vec<Vec<usize>> {
    let of = |limbs: &Arc<[usize]>| enough(ring, limbs, digits, special);
    (limbs.iter())
        .map(|all| all.iter().map(of).collect())
        .collect()
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
    fn a_small_ring_is_refused_unless_it_is_named_a_toy() {
        let spec = ParametersSpec {
            name: "fast".into(),
            ..ParametersSpec::toy(11)
        };
        assert!(matches!(Parameters::new(spec), Err(Error::Insecure { .. })));
    }

    #[test]
    fn sets_with_coefficients_are_secure_and_land_where_they_should() {
        for free in 2..=9 {
            let spec = ParametersSpec::coefficients(free).expect("a preset");
            let p = Parameters::new(spec).expect("secure");
            let (floor, top) = (p.floor().index(), p.residual());
            assert_eq!((floor, top.index()), (4, 4 + free));
            assert_eq!((p.security_bits(), p.digits().len()), (128, 2));
            assert!(p.log_qp() < 1747.0);
            // the circuit's own recursion, down from EvalMod's top
            let mut level = p.top(top);
            for _ in 0..3 {
                level = p.below(level).expect("EvalMod is below");
            }
            let mut scale = p.scale(level);
            while level.index() > top.index() {
                scale = scale * scale / p.modulus(level);
                level = p.below(level).expect("levels are left");
            }
            let landing =
                scale * std::f64::consts::TAU * p.base_scale(top) / p.modulus(Level::new(0));
            assert!((landing / p.scale(top) - 1.0).abs() < 1e-9, "{landing}");
            for level in floor..=top.index() {
                let bits = p.scale(Level::new(level)).log2();
                assert!((bits - 42.0).abs() < 0.02, "level {level}: 2^{bits}");
            }
            println!(
                "k {free}: {} limbs, log Q {:.1}, log QP {:.1}, S0 2^{:.3}, S1 2^{:.3}, EvalMod from 2^{:.3}",
                p.limbs(p.top(top)).len(),
                p.log_q(),
                p.log_qp(),
                p.scale(Level::new(0)).log2(),
                p.scale(p.products()).log2(),
                p.scale(Level::new(p.top(top).index() - 3)).log2(),
            );
        }
        assert!(ParametersSpec::coefficients(10).is_err());
    }

    /// Nothing but scales below the free levels moves: the same primes, keys and security, and products that land on S₀.
    #[test]
    fn weights_of_more_bits_take_no_room_in_the_modulus() {
        let secure = |free: usize, bits| {
            let spec = ParametersSpec::coefficients(free).expect("a preset");
            let spec = spec.with_weight_bits(bits).with_small_ring(Some(13));
            Parameters::new(spec).expect("secure")
        };
        for free in 2..=9 {
            let [few, many] = WEIGHT_BITS.map(|bits| secure(free, bits));
            assert_eq!(few.ring().moduli(), many.ring().moduli());
            assert_eq!((few.log_qp(), many.security_bits()), (many.log_qp(), 128));
            let small = many.bottoms().map(|[_, small]| small.log_qp());
            assert!(small.is_some_and(|log| log < 178.5), "{small:?}");
            for (p, bits) in [(&few, 16), (&many, 20)] {
                assert_eq!(p.spec().weight_bits(), Some(bits));
                let [base, product] = [0, 1].map(|l| p.scale(Level::new(l)));
                let landed = product * p.weight_unit() / p.modulus(Level::new(1));
                assert!((landed / base - 1.0).abs() < 1e-12, "{landed} {base}");
            }
            for level in few.floor().index()..=few.residual().index() {
                let at = |p: &Parameters| p.scale(Level::new(level));
                assert_eq!(at(&few), at(&many));
            }
        }
        let name = secure(9, 20).spec().name.clone();
        assert_eq!(name, "coefficients-16-9-20");
        let named = ParametersSpec::named(&name).expect("a preset");
        assert_eq!(named.weight_bits(), Some(20));
    }

    #[test]
    fn other_weights_are_refused() {
        for bits in [0, 15, 17, 22, u32::MAX] {
            let spec = ParametersSpec::toy_coefficients(10, 4).expect("a preset");
            let refused = Parameters::new(spec.with_weight_bits(bits)).expect_err("no such width");
            let text = refused.to_string();
            assert!(text.contains("[16, 20] are supported"), "{text}");
        }
        let refused = Parameters::new(ParametersSpec::toy(10).with_weight_bits(20));
        let text = refused.expect_err("no products").to_string();
        assert!(text.contains("0 levels of products"), "{text}");
        assert_eq!(ParametersSpec::toy(10).weight_bits(), None);
    }

    #[test]
    fn a_level_takes_as_many_special_primes_as_its_largest_digit_needs() {
        let p = Parameters::new(ParametersSpec::standard()).expect("secure");
        let log = |indices: &[usize]| -> f64 {
            let primes = indices.iter().map(|&i| p.prime(i).value() as f64);
            primes.map(f64::log2).sum()
        };
        for index in 0..=p.top(p.residual()).index() {
            let level = p.top(p.residual());
            let level = match index <= p.residual().index() {
                true => Level::new(index),
                false => Level { index, ..level },
            };
            let limbs = p.limbs(level);
            let digit = |d: &std::ops::Range<usize>| -> f64 {
                let own: Vec<usize> = limbs.iter().copied().filter(|i| d.contains(i)).collect();
                log(&own)
            };
            let largest = p.digits().iter().map(digit).fold(0.0, f64::max);
            let special = p.special_at(level);
            assert!(special.len() == p.special().len() || log(special) >= largest + MARGIN);
            assert!(log(&special[1..]) < largest + MARGIN, "one less would do");
            assert_eq!(p.special_up_to(p.key_limit(level)), special);
        }
        assert_eq!(p.special_at(Level::new(4)).len(), 5);
        assert_eq!(p.special_at(p.residual()).len(), 12);
    }

    #[test]
    fn a_chain_that_lands_off_its_scale_is_refused() {
        let with = |change: &dyn Fn(&mut ParametersSpec)| {
            let mut spec = ParametersSpec::toy_coefficients(10, 4).expect("a preset");
            change(&mut spec);
            Parameters::new(spec).map(drop)
        };
        let eval_mod = |spec: &mut ParametersSpec, zones: Vec<Zone>| {
            spec.bootstrap.as_mut().expect("bootstraps").eval_mod = zones;
        };
        with(&|_| {}).expect("lands");
        for off in [40, 41, 43, 45] {
            let refused = with(&|s| s.log_scale = off).expect_err("off by a bit at least");
            let text = refused.to_string();
            assert!(text.contains("land at a scale of 2^42.39"), "{text}");
        }
        // today's pairs under a ratio made for single primes
        let pairs = with(&|s| eval_mod(s, vec![Zone::new(8, &[31, 31])]));
        let text = pairs.expect_err("off by twelve bits").to_string();
        assert!(text.contains("2^54") && text.contains("22.65"), "{text}");
        let short = with(&|s| eval_mod(s, vec![Zone::new(5, &[50])]));
        assert!(
            short
                .expect_err("levels")
                .to_string()
                .contains("needs 8 levels")
        );
    }

    #[test]
    fn a_specification_survives_its_file() {
        let coefficients = ParametersSpec::coefficients(4).expect("a preset");
        let narrow = coefficients.clone().with_small_ring(Some(13));
        let fine = narrow.clone().with_weight_bits(20);
        for spec in [ParametersSpec::standard(), coefficients, narrow, fine] {
            let text = serde_json::to_string(&spec).expect("JSON");
            // files from before there was a choice stay the same
            assert_eq!(text.contains("weight_bits"), spec.weight_bits() == Some(20));
            let back: ParametersSpec = serde_json::from_str(&text).expect("JSON");
            assert_eq!(back, spec);
        }
    }
}
