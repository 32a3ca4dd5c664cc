//! The bottom of a chain in a ring of its own: what a change of rings computes with.

use super::{Inner, Level, Parameters, Zone, enough_at};
use crate::Error;
use std::sync::Arc;

impl Parameters {
    /// The levels up to `level` and as few of P's primes as one digit needs, over the same primes, in the ring of degree 2^log_n: a set without
    /// bootstrapping, whose keys are as small as its modulus.
    ///
    /// Its security is for the caller to judge: a key is judged by the degree of the secret that it is under ([`crate::RingSwitch`]).
    ///
    /// # Errors
    /// If P is smaller than the digit, or the degree is not supported.
    pub fn bottom(&self, log_n: u32, level: Level) -> Result<Self, Error> {
        self.0.bottom(log_n, level)
    }
}

impl Inner {
    /// [`Parameters::bottom`].
    pub(super) fn bottom(&self, log_n: u32, level: Level) -> Result<Parameters, Error> {
        let from = self;
        let mut spec = from.spec.clone();
        let count = from.limbs[0][level.index].len();
        let log = |indices: &[usize]| -> f64 {
            let primes = indices.iter().map(|&i| from.ring.modulus(i).value() as f64);
            primes.map(f64::log2).sum()
        };
        let indices: Vec<usize> = (0..count).collect();
        let log_q = log(&indices);
        let enough = (1..=from.special.len()).find(|&k| log(&from.special[..k]) >= log_q);
        let Some(special) = enough.map(|k| &from.special[..k]) else {
            return Err(spec.refuse(format!(
                "the lowest {count} primes have {log_q:.0} bits, but all of P has {:.0}: add special primes",
                from.log_p
            )));
        };
        spec.name = format!("{}-bottom-{log_n}", spec.name);
        spec.log_n = log_n;
        spec.bootstrap = None;
        spec.dnum = 1;
        spec.special_bits.truncate(special.len());
        spec.residual = Zone {
            levels: level.index,
            ..spec.residual
        };
        let groups = from.groups[..=level.index].to_vec();
        let ring = from.ring.over(log_n, &[&indices, special].concat())?;
        let limbs = spec.limbs(&groups);
        // one digit of all primes
        let digits: Vec<_> = std::iter::once(0..count).collect();
        let all: Arc<[usize]> = (count..count + special.len()).collect();
        Ok(Parameters(Arc::new(Self {
            enough: enough_at(&ring, &limbs, &digits, &all),
            limbs,
            residual: level.index,
            ring,
            groups,
            moduli: from.moduli[..=level.index].to_vec(),
            scales: from.scales[..=level.index].to_vec(),
            end: from.end,
            special: all,
            digits,
            log_q,
            log_p: log(special),
            spec,
            bottoms: None,
        })))
    }
}
