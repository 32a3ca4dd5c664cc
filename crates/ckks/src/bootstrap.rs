//! Bootstrapping: ModRaise, CoeffToSlot, EvalMod, SlotToCoeff, with sparse-secret encapsulation.

/// A bootstrap: the operand (at level 0, |x| ≤ 1/2) comes back as gain·x at level `target`.
///
/// A vector of `slots` complex slots; real vectors are refreshed the same way. The gain is folded into scales and costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bootstrap {
    /// Period of the operand.
    pub slots: usize,
    /// Residual level of the result.
    pub target: usize,
    /// The result is gain·x.
    pub gain: f64,
}
