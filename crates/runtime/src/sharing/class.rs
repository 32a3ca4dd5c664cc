//! Sharing the class alone: the answer's largest value, by index, where it leads by more than the error can make up.
//!
//! A decrypted answer is f(m) + e with |e_i| ≤ B. Where its largest value leads by more than 2B, that value is the largest of f(m)
//! too, whatever e is: the class says nothing about the error, and so nothing about the key. It needs no noise.
//!
//! **What a refusal tells.** Whether the lead exceeds 2B does depend on e where the exact answer's own lead is at most 4B (above, it
//! always does). Somebody who knows that exact answer and learns of the refusal, or of its absence, learns on which side of a threshold a
//! difference of two errors lies. The first refusal under a key is therefore its last: it is recorded, and no class leaves under this key
//! again. All that is seen of τ tries is then a function of the exact answers and of the number of tries before the refusal, one
//! of τ + 1 possibilities, which can be guessed: whatever anybody finds with these answers they find without them with at least
//! 1/(τ + 1) of the probability. Sharing classes takes at most log2(τ + 1) bits from the security of the key, and nothing at all
//! while exact leads are above 4B. Tries are counted, refused ones too, in the record that noisy answers are counted in.
//!
//! As for noisy answers, B is an average-case bound, inputs that somebody hostile chose are not covered, and neither is a server
//! that did not run the plan: SECURITY.md.

use super::releases::{self, Ledger};
use super::terms::{Terms, in_range, refuse};
use crate::Help;
use crate::Result;
use crate::answer::AnswerBounds;
use serde::Serialize;
use std::path::Path;
use zeroize::Zeroizing;

/// A class that may be passed on. Every field is a function of the exact answer or of public terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SharedClass {
    /// Index of the largest value.
    pub class: usize,
    /// Lead that it needed, network units: twice the plan's error bound.
    pub needed_margin: f64,
    /// Answers that may ever be shared under this key.
    pub releases: u64,
    /// Answers shared under this key so far, this one included.
    pub used: u64,
}

impl std::fmt::Display for SharedClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "may be passed on: the class alone; it leads by more than {:.1e}, twice the error bound, so that it says nothing about the error; this is number {} of {}",
            self.needed_margin, self.used, self.releases
        )
    }
}

/// The largest value by index, where it leads by more than `needed`; there are two values or more.
fn leader(values: &[f64], needed: f64) -> Option<usize> {
    let (class, best) = values
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))?;
    let others = values.iter().enumerate().filter(|(i, _)| *i != class);
    let second = others.map(|(_, &v)| v).max_by(f64::total_cmp)?;
    // false where a value is no number
    (best - second > needed).then_some(class)
}

/// Finds a decrypted answer's class and takes it into account in the key's record, which is on disk before anything is returned. An answer that
/// was refused counts as one whose class is.
///
/// # Errors
/// That of the answer; [`crate::Error::Sharing`] where the class leads by too little, for an answer of one value, for a record that is used up, has other
/// terms or holds a refusal; [`crate::Error::File`] and [`crate::Error::Io`] for a record that cannot be read or written.
pub(crate) fn share(
    (values, count): (Result<Zeroizing<Vec<f64>>>, usize),
    bounds: AnswerBounds,
    key: &str,
    record: &Path,
    terms: &Terms,
) -> Result<SharedClass> {
    if count < 2 {
        return Err(refuse(
            "an answer of one value has no class".into(),
            "share it with noise",
        ));
    }
    bounds
        .check()
        .map_err(|e| refuse(e, Help::Compile.with("compile the plan again")))?;
    let needed_margin = 2.0 * bounds.shared_error();
    let class = values.as_ref().map_or(None, |v| leader(v, needed_margin));
    let charge = |ledger: &mut Ledger, name: &str| {
        if ledger.class_refused {
            return Err(refuse(
                format!(
                    "a class was refused under this key before, and the next answer could tell by how little ({name})"
                ),
                Help::MakeKeys.with("make new keys, or keep this answer to yourself"),
            ));
        }
        ledger.class_refused = class.is_none();
        in_range(ledger.security, ledger.releases)
    };
    let ((), charged) = releases::charge(record, key, terms, charge)?;
    values.map_err(|e| e.counted((charged.used, charged.releases)))?;
    // the lead itself is not told: it depends on the error
    let class = class.ok_or_else(|| {
        refuse(
            format!(
                "the class leads by less than {needed_margin:.1e}, twice the error bound, so that it may depend on the error (this try counts: {} of {}; no class can be shared under this key any more)",
                charged.used, charged.releases
            ),
            Help::MakeKeys.with("keep this answer to yourself, refusal included; for other answers make new keys, and compile with a last stage at larger scale if it happens again (see SECURITY.md)"),
        )
    })?;
    Ok(SharedClass {
        class,
        needed_margin,
        releases: charged.releases,
        used: charged.used,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lead_that_no_error_can_make_up_has_a_class() {
        let (b, exact) = (0.25, [0.0, 3.0, 2.0, -7.0]);
        // above 4B every error within the bound gives the exact class
        for signs in 0..16u32 {
            let e = |i: usize| if signs >> i & 1 == 1 { b } else { -b };
            let v: Vec<f64> = exact
                .iter()
                .enumerate()
                .map(|(i, x)| x * 1.01 + e(i))
                .collect();
            assert_eq!(leader(&v, 2.0 * b), Some(1));
        }
        // and whatever passes is the exact class, however small the exact lead is
        let mut passed = 0;
        for lead in [0.01, 0.4, 0.99] {
            for signs in 0..4u32 {
                let e = |i: u32| if signs >> i & 1 == 1 { b } else { -b };
                if let Some(class) = leader(&[1.0 + e(0), 1.0 + lead + e(1)], 2.0 * b) {
                    assert_eq!(class, 1);
                    passed += 1;
                }
            }
        }
        assert_eq!(passed, 5);
        assert_eq!(leader(&[1.0, 1.5], 0.5), None);
        assert_eq!(leader(&[2.0, 2.0], 1e-300), None);
        assert_eq!(leader(&[f64::NAN, 1.0], 0.1), None);
        assert_eq!(leader(&[f64::INFINITY, f64::INFINITY], 0.1), None);
    }
}
