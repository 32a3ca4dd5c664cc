//! What a pass is for.

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, guards; keeps what the backward pass needs.
    Train,
    /// Running statistics, no guard, nothing kept.
    Evaluate,
    /// [`Mode::Train`] on the same batch once more: nothing is recorded.
    Again,
}

impl Mode {
    /// Whether a backward pass follows.
    pub(crate) fn trains(self) -> bool {
        self != Self::Evaluate
    }

    /// Whether what units see is recorded.
    pub(crate) fn records(self) -> bool {
        self != Self::Again
    }
}
