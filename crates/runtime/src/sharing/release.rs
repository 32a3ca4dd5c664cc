//! What a client passes on of an answer, counted in the record beside its key.

use super::class::{self, SharedClass};
use super::{Shared, Terms, releases, share};
use crate::{Client, Error, Help, Result};
use rand_core::CryptoRng;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

impl Client {
    /// As [`Client::read_answer`], to be counted: what cannot be right comes back as such, everything else as an error.
    fn to_count(&self, input: impl Read, name: &str) -> Result<(Result<Vec<f64>>, usize)> {
        let count = self.spec().output.elements();
        match self.read_answer(input, name) {
            Err(e) if !matches!(e, Error::Answer { .. }) => Err(e),
            values => Ok((values, count)),
        }
    }
    /// Noise is counted for one answer: a batch of them is not shared.
    fn alone(&self) -> Result<()> {
        match self.spec().output.batch {
            1 => Ok(()),
            n => Err(Error::Sharing {
                reason: format!("the answer is that of {n} inputs, noise is sized for one"),
                remedy: Help::Compile
                    .with("compile for one input at a time where answers are passed on"),
            }),
        }
    }
    /// Reads an answer file and makes of it what may be passed on, under the terms in `record`, the key's list of shared answers:
    /// noisy values, as [`crate::sharing`] explains.
    ///
    /// # Errors
    /// [`Error::Sharing`] where it must not be shared, [`Error::File`] and [`Error::Io`] for the answer and the record; [`Error::Answer`],
    /// which is counted as a release.
    pub fn share_answer(
        &self,
        input: impl Read,
        name: &str,
        record: &Path,
        terms: &Terms,
        rng: &mut impl CryptoRng,
    ) -> Result<Shared> {
        self.alone()?;
        let values = self.to_count(input, name)?;
        let key = releases::key_name(self.secret_key().coefficients());
        share(values, self.spec().answer, &key, record, terms, rng)
    }
    /// Reads an answer file and gives its class alone, where that says nothing about the error; counted in the same `record`.
    ///
    /// # Errors
    /// As [`Client::share_answer`].
    pub fn share_class(
        &self,
        input: impl Read,
        name: &str,
        record: &Path,
        terms: &Terms,
    ) -> Result<SharedClass> {
        self.alone()?;
        let (values, count) = self.to_count(input, name)?;
        let values = (values.map(Zeroizing::new), count);
        let key = releases::key_name(self.secret_key().coefficients());
        class::share(values, self.spec().answer, &key, record, terms)
    }
}
