//! Ciphertexts: as computed with, and as freshly encrypted.

use crate::typing::{self, Info};
use crate::{Error, Level, Parameters};
use ring::buffer::AlignedVec;
use ring::{Expander, Ntt, RnsPoly};
use std::sync::Arc;

/// A ciphertext of degree 1 or 2 in NTT form: phase = c0 + c1·s (+ c2·s²) = scale·(values) + noise.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    pub(crate) polys: Vec<RnsPoly<Ntt>>,
    /// Of the degree that the polynomials have.
    pub(crate) info: Info,
}

impl Ciphertext {
    /// Its level.
    pub fn level(&self) -> Level {
        self.info.level
    }
    /// Its scale.
    pub fn scale(&self) -> f64 {
        self.info.scale
    }
    /// Period of its slots.
    pub fn slots(&self) -> usize {
        self.info.slots
    }
    /// 1, or 2 before relinearisation.
    pub fn degree(&self) -> usize {
        self.info.degree
    }
    /// Its polynomials c0, c1 (and c2 before relinearisation), in NTT form: for engines that move them elsewhere.
    pub fn polynomials(&self) -> &[RnsPoly<Ntt>] {
        &self.polys
    }
    /// From its polynomials, all with the limbs of `level` ([`Parameters::limbs`]).
    ///
    /// # Errors
    /// [`Error::Conformance`] for other limbs or another number of polynomials than 2 or 3, [`Error::Slots`].
    pub fn from_polynomials(
        parameters: &Parameters,
        polys: Vec<RnsPoly<Ntt>>,
        info: Info,
    ) -> Result<Self, Error> {
        typing::slots(parameters, "ciphertext", info.slots)?;
        let limbs = parameters.limbs(info.level);
        if polys.len() != info.degree + 1
            || !(1..=2).contains(&info.degree)
            || polys.iter().any(|p| p.indices() != &limbs[..])
        {
            return Err(Error::conformance(
                "ciphertext",
                format!(
                    "{} polynomials, but {} with the limbs of level {} are needed",
                    polys.len(),
                    info.degree + 1,
                    info.level.index()
                ),
            ));
        }
        Ok(Self { polys, info })
    }
    /// All limbs: c0's, then c1's.
    pub fn limbs(&self) -> impl Iterator<Item = &[u64]> {
        self.polys
            .iter()
            .flat_map(|p| (0..p.limbs()).map(move |k| p.limb(k)))
    }
    /// Reads a ciphertext of degree 1 at a residual level and its canonical scale, limb by limb.
    ///
    /// # Errors
    /// What the reader refuses, an impossible level or slot count, or a residue that is not below its prime.
    pub fn read<E: From<Error>>(
        parameters: &Parameters,
        level: Level,
        slots: usize,
        mut read: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let c0 = read_poly(parameters, level, slots, &mut read)?;
        let offset = c0.limbs();
        let c1 = read_poly(parameters, level, slots, |k, limb: &mut [u64]| {
            read(k + offset, limb)
        })?;
        Ok(Self {
            polys: vec![c0, c1],
            info: Info::fresh(parameters, level, slots),
        })
    }
}

/// A fresh ciphertext: c0 and the seed of c1.
#[derive(Clone, Debug)]
pub struct SeededCiphertext {
    pub(crate) seed: [u8; 32],
    pub(crate) level: Level,
    pub(crate) slots: usize,
    pub(crate) c0: RnsPoly<Ntt>,
}

impl SeededCiphertext {
    /// The seed of c1.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
    /// Its level.
    pub fn level(&self) -> Level {
        self.level
    }
    /// Its slots.
    pub fn slots(&self) -> usize {
        self.slots
    }
    /// Limbs of c0.
    pub fn limbs(&self) -> impl Iterator<Item = &[u64]> {
        (0..self.c0.limbs()).map(|k| self.c0.limb(k))
    }
    /// The ciphertext, at the canonical scale.
    pub fn expand(&self, parameters: &Parameters) -> Ciphertext {
        let expander = Expander::new(self.seed);
        let indices = self.c0.indices().to_vec();
        let c1 = RnsPoly::from_limbs(parameters.ring(), indices.clone(), |k, limb| {
            expander.uniform(indices[k] as u64, parameters.prime(indices[k]), limb);
        });
        Ciphertext {
            polys: vec![self.c0.clone(), c1],
            info: Info::fresh(parameters, self.level, self.slots),
        }
    }
    /// Reads one limb by limb.
    ///
    /// # Errors
    /// What the reader refuses, an impossible level or slot count, or a residue that is not below its prime.
    pub fn read<E: From<Error>>(
        parameters: &Parameters,
        level: Level,
        slots: usize,
        seed: [u8; 32],
        read: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let c0 = read_poly(parameters, level, slots, read)?;
        Ok(Self {
            seed,
            level,
            slots,
            c0,
        })
    }
}

/// Reads one polynomial at a residual level.
fn read_poly<E: From<Error>>(
    parameters: &Parameters,
    level: Level,
    slots: usize,
    mut read: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
) -> Result<RnsPoly<Ntt>, E> {
    let refuse = |reason: String| Err(Error::conformance("ciphertext", reason).into());
    if level.index() > parameters.residual().index() || level.skip() != 0 {
        return refuse(format!(
            "level {} but the highest is {}",
            level.index(),
            parameters.residual().index()
        ));
    }
    typing::slots(parameters, "ciphertext", slots)?;
    let indices = parameters.limbs(level).clone();
    let mut poly = RnsPoly::<Ntt>::zero(parameters.ring(), indices.clone());
    for (k, &index) in indices.iter().enumerate() {
        let limb = poly.limb_mut(k);
        read(k, limb)?;
        let q = parameters.prime(index).value();
        if limb.iter().any(|&x| x >= q) {
            return refuse("a residue is not below its prime".into());
        }
    }
    Ok(poly)
}

/// A plaintext in NTT form, limb by limb; short where its values repeat.
pub struct EncodedPlain {
    pub(crate) indices: Arc<[usize]>,
    pub(crate) limbs: Vec<AlignedVec>,
    pub(crate) level: Level,
    pub(crate) scale: f64,
    pub(crate) slots: usize,
}

impl std::fmt::Debug for EncodedPlain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncodedPlain({} limbs)", self.limbs.len())
    }
}
