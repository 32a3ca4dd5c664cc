//! What a server runs plans with.

use crate::{Arithmetic, Ciphertext, CostTable, Error, KeyRequest, Level};

/// An interpreter over ciphertexts that a server can run plans with: where values live, and what they take there, is its own affair.
///
/// [`crate::Evaluator`] computes on the processor; an engine elsewhere has [`crate::Context`], [`crate::EvaluationKeys`] and
/// [`crate::linear::typed`] to build on, and overrides as much of [`Arithmetic`] as pays.
#[allow(clippy::missing_errors_doc, reason = "as for Arithmetic")]
pub trait Engine: Arithmetic + Send + Sync {
    /// Takes a ciphertext in.
    fn upload(&self, x: Ciphertext) -> Result<Self::Value, Error>;
    /// Gives a value out as a ciphertext: bit for bit what an upload of it would give back.
    fn download(&self, x: &Self::Value) -> Result<Ciphertext, Error>;
    /// The evaluation keys that it has.
    fn key_request(&self) -> KeyRequest;
    /// Bytes that it holds beside values: keys in memory and encoded plaintexts.
    fn held_bytes(&self) -> u64;
    /// Bytes of a value of degree 1 at a level: what a server says of its memory counts with it. Provided: as in main memory.
    fn value_bytes(&self, level: Level) -> u64 {
        crate::memory::ciphertext(self.parameters(), level)
    }
    /// What its units of work cost: a server predicts its steps by it. Provided: the table shipped for processors.
    fn cost_table(&self) -> CostTable {
        CostTable::default()
    }
}
