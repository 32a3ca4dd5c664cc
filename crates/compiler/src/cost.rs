//! What operations cost, in seconds on one thread: the planner's only view of the machine.

use serde::{Deserialize, Serialize};

/// Seconds of the pieces that circuits are made of, at one ring degree. Replace the defaults by measured values (`polyveil bench`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// One transform of one limb.
    pub ntt: f64,
    /// One pass of element-wise work over one limb (multiply-add, permutation).
    pub pass: f64,
    /// Encoding one plaintext, transforms of limbs not counted.
    pub encode: f64,
    /// One further rotation key in the plan (memory, reading): a tie-breaker between splits.
    pub key: f64,
    /// Limbs of P.
    pub special_limbs: usize,
    /// Limbs of q0 and of each residual level.
    pub limbs_per_level: usize,
    /// Limbs above the residual levels.
    pub bootstrap_limbs: usize,
    /// A bootstrap with one slot to the highest level: ModRaise and EvalMod of one ciphertext.
    pub bootstrap_base: f64,
    /// What each doubling of the slots adds to a bootstrap (CoeffToSlot and SlotToCoeff).
    pub bootstrap_per_doubling: f64,
    /// A second EvalMod, needed with all N/2 slots.
    pub bootstrap_full: f64,
}

impl Default for CostTable {
    /// Rough values for N = 2^16 on one core with AVX-512 IFMA, standard parameters.
    fn default() -> Self {
        Self {
            ntt: 0.35e-3,
            pass: 0.06e-3,
            encode: 1.5e-3,
            key: 3e-3,
            special_limbs: 10,
            limbs_per_level: 1,
            bootstrap_limbs: 22,
            bootstrap_base: 4.0,
            bootstrap_per_doubling: 0.15,
            bootstrap_full: 2.5,
        }
    }
}

/// Sizes of a block map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapSize {
    /// Diagonals.
    pub diagonals: usize,
    /// Baby rotations, 0 not counted, summed over inputs.
    pub babies: usize,
    /// Giant rotations, 0 not counted, summed over outputs.
    pub giants: usize,
    /// Rotations folded onto the outputs, summed over outputs.
    pub folds: usize,
    /// Input ciphertexts.
    pub inputs: usize,
    /// Output ciphertexts.
    pub outputs: usize,
}

impl CostTable {
    fn limbs(&self, level: usize) -> f64 {
        (self.limbs_per_level * (level + 1)) as f64
    }
    /// Bringing one ciphertext into the extended basis for key switching.
    fn decompose(&self, level: usize) -> f64 {
        self.ntt * (2.0 * self.limbs(level) + self.special_limbs as f64)
    }
    /// Product with one key in the extended basis.
    fn with_key(&self, level: usize) -> f64 {
        4.0 * self.pass * (self.limbs(level) + self.special_limbs as f64)
    }
    /// Division by P.
    fn mod_down(&self, level: usize) -> f64 {
        2.0 * self.ntt * (self.limbs(level) + self.special_limbs as f64)
    }
    /// One baby rotation at `level`, its decomposition shared.
    pub fn baby(&self, level: usize) -> f64 {
        self.with_key(level)
    }
    /// One giant rotation at `level`.
    pub fn giant(&self, level: usize) -> f64 {
        self.mod_down(level) + self.decompose(level) + self.with_key(level)
    }
    /// One key switch by itself.
    pub fn rotation(&self, level: usize) -> f64 {
        self.decompose(level) + self.with_key(level) + self.mod_down(level)
    }
    /// One rescale of a ciphertext.
    pub fn rescale(&self, level: usize) -> f64 {
        2.0 * (self.ntt + self.pass) * self.limbs(level)
    }
    /// A block map applied at `level`.
    pub fn linear(&self, size: &MapSize, level: usize) -> f64 {
        let extended = self.limbs(level) + self.special_limbs as f64;
        size.diagonals as f64 * (self.encode + (self.ntt + 2.0 * self.pass) * extended)
            + size.inputs as f64 * self.decompose(level)
            + size.babies as f64 * self.baby(level)
            + size.giants as f64 * self.giant(level)
            + size.folds as f64 * self.rotation(level)
            + size.outputs as f64 * (self.mod_down(level) + self.rescale(level))
    }
    /// A product of two ciphertexts at `level`, relinearised and rescaled.
    pub fn product(&self, level: usize) -> f64 {
        self.rotation(level) + 5.0 * self.pass * self.limbs(level) + self.rescale(level)
    }
    /// A polynomial of this degree in the Chebyshev basis, from `level` on.
    pub fn polynomial(&self, degree: usize, level: usize) -> f64 {
        let products = (2.0 * degree as f64).sqrt().ceil() + ((degree.max(1)) as f64).log2().floor() - 1.0;
        products.max(1.0) * self.product(level)
    }
    /// A bootstrap of one ciphertext of `slots` slots out of `max_slots`, back to `target` of `residual` levels.
    pub fn bootstrap(&self, slots: usize, max_slots: usize, target: usize, residual: usize) -> f64 {
        let full = if slots >= max_slots { self.bootstrap_full } else { 0.0 };
        let all = self.bootstrap_base + full + self.bootstrap_per_doubling * f64::from(slots.max(1).ilog2());
        let limbs = |level: usize| self.limbs(level) + self.bootstrap_limbs as f64;
        all * limbs(target) / limbs(residual)
    }
    /// Moving a value to another level's scale.
    pub fn align(&self, level: usize) -> f64 {
        2.0 * self.pass * self.limbs(level) + self.rescale(level)
    }
}
