//! A change of rings: N → N' → N, for what is cheaper in a small ring.
//!
//! Down: one switch of keys from s to s'(X^t), t = N/N', s' a dense ternary secret of degree N'. Under it the residue classes modulo t of
//! both polynomials are t ciphertexts of degree N': products with polynomials in X^t act on each class apart. Up: Σ X^i·c_i(X^t) is a
//! ciphertext under s'(X^t), and one switch of keys leads back to s. A product with weights costs t-th parts of what it costs at N, and so do the
//! switches of packing, which are what the change is for.
//!
//! Secrets. s' is drawn for these keys and dropped after. The down key is RLWE samples of degree N' (each of its polynomials gives t of them),
//! and so are the small ring's Galois and relinearisation keys: both are judged at N', with the modulus of the lowest levels and as
//! few special primes as they need. The up key encrypts s' under s and is judged at N.

use crate::keys::{EvaluationKeys, KeyName, KeyRequest, SwitchingKey};
use crate::security::{self, KeySecurity};
use crate::typing::{self, Info};
use crate::{Context, Error, Level, Parameters};

/// The two rings of a change, over the same primes: q's of the lowest levels, and the first special ones.
#[derive(Clone, Debug)]
pub struct RingSwitch {
    wide: Context,
    small: Context,
}

/// What a client publishes for a change of rings; holds no secret.
#[derive(Clone, Debug)]
pub struct RingSwitchKeys {
    /// s → s'(X^t).
    pub down: SwitchingKey,
    /// s'(X^t) → s.
    pub up: SwitchingKey,
    /// Under s', in the small ring.
    pub small: EvaluationKeys,
}

impl RingSwitchKeys {
    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.down.bytes() + self.up.bytes() + self.small.bytes()
    }
}

impl RingSwitch {
    /// Between the ring of the parameters and the one of degree 2^log_n, for values at `level` and below.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the degree is not below N or not supported, or P is too small; [`Error::Insecure`] if a key of the small ring would
    /// have less than 128 bits and the parameters are not a toy's.
    pub fn new(parameters: &Parameters, log_n: u32, level: Level) -> Result<Self, Error> {
        let spec = parameters.spec();
        if !(4..spec.log_n).contains(&log_n) {
            return Err(Error::Parameters {
                name: spec.name.clone(),
                reason: format!(
                    "a small ring of degree 2^{log_n}; 2^4 to 2^{} are supported",
                    spec.log_n - 1
                ),
            });
        }
        let switch = Self {
            wide: Context::new(&parameters.bottom(spec.log_n, level)?),
            small: Context::new(&parameters.bottom(log_n, level)?),
        };
        let mut keys = switch.key_security();
        keys.sort_by_key(|k| k.bits);
        let limiting = keys.swap_remove(0);
        if limiting.bits < 128 && !spec.is_toy() {
            return Err(Error::Insecure {
                name: spec.name.clone(),
                key: limiting.name,
                bits: limiting.bits,
            });
        }
        Ok(switch)
    }
    /// That of a set which names a small ring.
    pub fn of(context: &Context) -> Option<Self> {
        let [wide, small] = context.bottoms()?.clone();
        Some(Self { wide, small })
    }
    /// Bytes in memory of all keys: both of the change, and these of the small ring.
    pub fn key_bytes(&self, small: &KeyRequest) -> u64 {
        let of = |p: &Parameters, name, limit| SwitchingKey::bytes_for(p, name, limit);
        let [wide, inner] = [&self.wide, &self.small].map(Context::parameters);
        let change = of(wide, KeyName::CHANGE, wide.key_limit(wide.residual()));
        let keys = small.0.iter().map(|(&name, &limit)| of(inner, name, limit));
        2 * change + keys.sum::<u64>()
    }
    /// The lowest levels in the large ring: what the down and the up key belong to.
    pub fn wide(&self) -> &Context {
        &self.wide
    }
    /// The lowest levels in the small ring.
    pub fn small(&self) -> &Context {
        &self.small
    }
    /// t = N/N'.
    pub fn classes(&self) -> usize {
        self.wide.parameters().n() / self.small.parameters().n()
    }
    /// Every kind of key that a change of rings publishes, each judged at the degree of the secret that it is under.
    pub fn key_security(&self) -> Vec<KeySecurity> {
        let [wide, small] = [&self.wide, &self.small].map(Context::parameters);
        security::ring_switch_keys(wide.spec().log_n, small.spec().log_n, small.log_qp())
    }
    /// Where a value stands in the small ring, and whether it may go there.
    ///
    /// # Errors
    /// [`Error::Degree`], or [`Error::Levels`] above the small ring's highest.
    pub fn narrowed(&self, x: &Info) -> Result<Info, Error> {
        let highest = self.small.parameters().residual();
        typing::linear_degree("narrow", x)?;
        if x.level > highest {
            return Err(Error::Levels {
                operation: "narrow, at most",
                needed: highest.index(),
                had: x.level.index(),
            });
        }
        Ok(Info {
            slots: self.small.parameters().max_slots(),
            ..*x
        })
    }
    /// Where classes stand in the large ring, if they are all of one value: nothing stands for those that are zero.
    ///
    /// # Errors
    /// [`Error::Conformance`] for another number of classes, or none; what does not fit together.
    pub fn widened(
        &self,
        classes: impl ExactSizeIterator<Item = Option<Info>>,
    ) -> Result<Info, Error> {
        let had = classes.len();
        let infos: Vec<Info> = classes.flatten().collect();
        let Some(first) = infos.first().filter(|_| had == self.classes()) else {
            let reason = format!(
                "{had} classes, {} of them zero, but {} are needed, not all zero",
                had - infos.len(),
                self.classes()
            );
            return Err(Error::conformance("change of rings", reason));
        };
        for x in &infos {
            typing::linear_degree("widen", x)?;
            typing::levels("widen", first.level, x.level)?;
            typing::scales("widen", first.scale, x.scale)?;
        }
        Ok(Info {
            slots: self.wide.parameters().max_slots(),
            ..*first
        })
    }
}

/// An interpreter of the small ring beside the change that leads to it.
#[derive(Debug)]
pub(crate) struct Small<A> {
    pub(crate) switch: RingSwitch,
    pub(crate) inner: Box<A>,
}

impl<A> Small<A> {
    pub(crate) fn new(switch: RingSwitch, inner: A) -> Self {
        let inner = Box::new(inner);
        Self { switch, inner }
    }
}
