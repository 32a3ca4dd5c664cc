//! What may be asked of a share, and its refusal.

use crate::{Error, Help, Remedy, Result};
use std::ops::RangeInclusive;

/// Bits of statistical security where nobody says otherwise.
pub const DEFAULT_SECURITY: u32 = 40;
/// What may be asked for: less protects nothing, more drowns every answer.
pub const SECURITY: RangeInclusive<u32> = 20..=64;
/// Most answers that one key may be promised for.
pub const MOST_RELEASES: u64 = 1 << 20;
/// −log2 of the probability with which a class may be wrong, where nobody says otherwise.
pub const DEFAULT_CLASS_BITS: u32 = 20;
/// What may be asked for.
pub const CLASS_BITS: RangeInclusive<u32> = 4..=64;

/// What the user asks of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bits of statistical security, in [`SECURITY`]; none: as recorded, at first [`DEFAULT_SECURITY`].
    pub security: Option<u32>,
    /// How many answers will ever be shared under this key; none: as recorded.
    pub releases: Option<u64>,
    /// The class is wrong with probability at most 2^−this, in [`CLASS_BITS`]; none of an answer that is no class.
    pub class_bits: Option<u32>,
}

/// Refuses a security outside [`SECURITY`] and a number of releases outside 1 to [`MOST_RELEASES`].
pub(crate) fn in_range(security: u32, releases: u64) -> Result<()> {
    if !SECURITY.contains(&security) {
        return Err(refuse(
            format!("{security} bits of statistical security"),
            Help::Terms.with(format!(
                "ask for {} to {} bits",
                SECURITY.start(),
                SECURITY.end()
            )),
        ));
    }
    if !(1..=MOST_RELEASES).contains(&releases) {
        return Err(refuse(
            format!("{releases} releases"),
            Help::Terms.with(format!(
                "say how many answers will be shared under this key, 1 to {MOST_RELEASES}"
            )),
        ));
    }
    Ok(())
}

pub(crate) fn refuse(reason: String, remedy: impl Into<Remedy>) -> Error {
    Error::Sharing {
        reason,
        remedy: remedy.into(),
    }
}
