//! What a server keeps of a client's sequence between the runs of a plan that is a step of it: ciphertexts, and how many runs there were.
//!
//! A cache belongs to one key pair and one plan, and says how many runs left it. As a file it has these in its header, and is refused for another client's key, another
//! plan, or where its sequence is as long as the plan's. It begins with nothing: encryptions of zero that hide nothing, since everybody knows what they hold.

use crate::interpreter::{Observer, State};
use crate::plan::Kept;
use crate::server::Server;
use crate::wire::ciphertexts::{
    CIPHERTEXT, META, ciphertext_bytes, read_ciphertext, write_ciphertext,
};
use crate::wire::conformance;
use crate::wire::container::{Ids, Kind, Reader, Writer, file_length};
use crate::wire::{Encrypted, KeyId};
use crate::{Error, Result, VerifiedPlan};
use ckks::{Ciphertext, Engine, Info, Level, Parameters, ParametersSpec, SeededCiphertext};
use ring::RnsPoly;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// What is kept between runs.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The key pair that it belongs to.
    key: KeyId,
    /// Runs that left it.
    runs: usize,
    ciphertexts: Vec<Ciphertext>,
}

/// What a cache's file says about itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    pub(crate) parameters: ParametersSpec,
    /// Runs that left it.
    pub(crate) runs: usize,
    /// Ciphertexts, slots and level of every tensor.
    pub(crate) kept: Vec<[usize; 3]>,
}

impl Meta {
    fn of(parameters: &Parameters, kept: &[Kept], runs: usize) -> Self {
        let tensor = |k: &Kept| [k.before.len(), k.slots, k.level];
        Self {
            parameters: parameters.spec().clone(),
            runs,
            kept: kept.iter().map(tensor).collect(),
        }
    }
}

/// Level and slots of every ciphertext.
fn each(kept: &[Kept]) -> impl Iterator<Item = (Level, usize)> {
    (kept.iter()).flat_map(|k| k.before.iter().map(|_| (Level::new(k.level), k.slots)))
}

impl Cache {
    /// Of a sequence that has not begun.
    ///
    /// # Errors
    /// [`Error::Input`] for a plan that keeps nothing.
    pub fn empty(plan: &VerifiedPlan, key: KeyId) -> Result<Self> {
        plan.require_runs(0)?;
        let parameters = plan.parameters();
        let zero = |(level, slots): (Level, usize)| {
            let limbs = parameters.limbs(level);
            let polynomials = vec![RnsPoly::zero(parameters.ring(), limbs.clone()); 2];
            let info = Info {
                level,
                scale: parameters.scale(level),
                slots,
                degree: 1,
            };
            Ok(Ciphertext::from_polynomials(parameters, polynomials, info)?)
        };
        Ok(Self {
            key,
            runs: 0,
            ciphertexts: each(plan.plan().kept()).map(zero).collect::<Result<_>>()?,
        })
    }

    /// Runs that left it.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// The key pair that it belongs to.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Bytes of its file.
    pub fn file_bytes(plan: &VerifiedPlan) -> u64 {
        let (parameters, kept) = (plan.parameters(), plan.plan().kept());
        let most = plan.plan().sequence.as_ref().map_or(0, |s| s.runs);
        let meta = conformance::json(&Meta::of(parameters, kept, most)).len() as u64;
        let own = each(kept).map(|(level, _)| ciphertext_bytes(parameters, level));
        file_length(std::iter::once(meta).chain(own))
    }

    /// Writes a cache's file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<W: Write>(&self, plan: &VerifiedPlan, out: W, name: &str) -> Result<W> {
        let (parameters, kept) = (plan.parameters(), plan.plan().kept());
        let meta = conformance::json(&Meta::of(parameters, kept, self.runs));
        let lengths = (self.ciphertexts.iter()).map(|c| ciphertext_bytes(parameters, c.level()));
        let ids = plan.ids(self.key);
        let head = (META, &meta[..]);
        let mut file = Writer::list(out, name, Kind::Cache, ids, head, CIPHERTEXT, lengths)?;
        for c in &self.ciphertexts {
            file.begin()?;
            write_ciphertext(&mut file, parameters, c)?;
        }
        file.finish()
    }

    /// Reads the file of a client's cache.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong, [`Error::OtherKey`] for another client's, [`Error::Input`] for a plan that keeps nothing.
    pub fn read(plan: &VerifiedPlan, key: KeyId, input: impl Read, name: &str) -> Result<Self> {
        plan.require_runs(0)?;
        let mut file = Reader::new(input, name, Kind::Cache)?;
        let ids: Ids = plan.ids(key);
        file.expect(&ids)?;
        let (parameters, kept) = (plan.parameters(), plan.plan().kept());
        let meta: Meta = file.json(META, 1 << 20)?;
        let most = plan.plan().sequence.as_ref().map_or(0, |s| s.runs);
        let needed = Meta::of(parameters, kept, meta.runs);
        if meta != needed || meta.runs > most {
            let problem = format!(
                "{} runs of {:?} ciphertexts, slots and levels, the plan has {most} at most of {:?}",
                meta.runs, meta.kept, needed.kept
            );
            let remedy = "begin the sequence anew with this plan";
            return Err(Error::file(name, "section `meta`", problem, remedy));
        }
        let ciphertexts = each(kept)
            .map(|(level, slots)| read_ciphertext(&mut file, parameters, level, slots))
            .collect::<Result<_>>()?;
        file.finish()?;
        Ok(Self {
            key,
            runs: meta.runs,
            ciphertexts,
        })
    }
}

impl VerifiedPlan {
    /// Refuses a plan that keeps nothing from run to run, and more runs than a sequence may have.
    pub(crate) fn require_runs(&self, runs: usize) -> Result<()> {
        match &self.plan().sequence {
            None => Err(Error::Input {
                reason: "the plan keeps nothing from run to run".into(),
                remedy: "take a plan of a step of a sequence".into(),
            }),
            Some(s) if runs > s.runs => Err(Error::Input {
                reason: format!("run {runs} of a sequence, which has {} at most", s.runs),
                remedy: "begin a new sequence, or compile a step with a longer context".into(),
            }),
            Some(_) => Ok(()),
        }
    }
}

impl<E: Engine> Server<E> {
    /// One run of a plan that is a step of a sequence: its answer, and what is kept for the next run.
    ///
    /// # Errors
    /// [`Error::OtherKey`] for another client's input or cache, [`Error::Input`] for one run too many; those of [`Server::run`].
    pub fn step(
        &self,
        input: &Encrypted<SeededCiphertext>,
        cache: &Cache,
        observer: &mut (impl Observer<E::Value> + ?Sized),
    ) -> Result<(Encrypted<Ciphertext>, Cache)> {
        let (plan, engine, key) = (self.plan(), self.engine(), self.key());
        plan.require_runs(cache.runs + 1)?;
        key.expect(&input.key, "the encrypted input")?;
        key.expect(&cache.key, "the cache")?;
        let fresh = (input.ciphertexts.iter()).map(|c| c.expand(plan.parameters()));
        let all = fresh.chain(cache.ciphertexts.iter().cloned());
        let given = all.map(|c| Ok(engine.upload(c)?));
        let state: State<E::Value> = plan.start(given.collect::<Result<_>>()?, key)?;
        let [answer, kept] = plan.run_keeping(engine, state, observer)?;
        let download = |values: Vec<E::Value>| {
            let all = values.iter().map(|y| Ok(engine.download(y)?));
            all.collect::<Result<Vec<_>>>()
        };
        let answer = Encrypted {
            key,
            ciphertexts: download(answer)?,
        };
        let cache = Cache {
            key,
            runs: cache.runs + 1,
            ciphertexts: download(kept)?,
        };
        Ok((answer, cache))
    }
}
