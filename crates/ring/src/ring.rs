//! The ring: a degree and an ordered list of primes with their NTT tables.

use std::sync::Arc;

use rayon::prelude::*;

use crate::primes::check_degree;
use crate::{Error, Modulus, NttTable};

/// N and an ordered list of moduli with their NTT tables; a clone costs one reference count.
///
/// Memory: about 22·N bytes per modulus.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

struct Shared {
    log_n: u32,
    moduli: Vec<Modulus>,
    tables: Vec<NttTable>,
}

impl Ring {
    /// Builds the tables, one modulus per task.
    ///
    /// # Errors
    /// [`Error::Degree`] outside 2^3 … 2^17, [`Error::Modulus`], [`Error::NoRoot`] or [`Error::Repeated`] for an unusable prime.
    pub fn new(log_n: u32, moduli: &[u64]) -> Result<Self, Error> {
        check_degree(log_n)?;
        if let Some((_, &q)) = moduli
            .iter()
            .enumerate()
            .find(|(i, q)| moduli[..*i].contains(q))
        {
            return Err(Error::Repeated { q });
        }
        let moduli = moduli
            .iter()
            .map(|&q| Modulus::new(q))
            .collect::<Result<Vec<_>, _>>()?;
        let tables = moduli
            .par_iter()
            .map(|m| NttTable::new(log_n, m))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Ring {
            shared: Arc::new(Shared {
                log_n,
                moduli,
                tables,
            }),
        })
    }

    /// log2 of the degree.
    pub fn log_n(&self) -> u32 {
        self.shared.log_n
    }

    /// The degree N.
    pub fn n(&self) -> usize {
        1 << self.shared.log_n
    }

    /// All moduli in order.
    pub fn moduli(&self) -> &[Modulus] {
        &self.shared.moduli
    }

    /// The modulus number `i`.
    ///
    /// # Panics
    /// If `i` is not below the number of moduli.
    pub fn modulus(&self, i: usize) -> &Modulus {
        &self.shared.moduli[i]
    }

    /// The NTT of modulus number `i`.
    ///
    /// # Panics
    /// If `i` is not below the number of moduli.
    pub fn ntt(&self, i: usize) -> &NttTable {
        &self.shared.tables[i]
    }

    /// Whether two handles name the very same ring.
    pub fn same(&self, other: &Ring) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let primes: Vec<u64> = self.moduli().iter().map(Modulus::value).collect();
        f.debug_struct("Ring")
            .field("log_n", &self.log_n())
            .field("moduli", &primes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntt_primes;

    #[test]
    fn refuses_bad_lists() {
        let q = ntt_primes(4, 1 << 31, 2, &[]).expect("primes");
        assert!(Ring::new(4, &q).is_ok());
        assert_eq!(Ring::new(2, &q).err(), Some(Error::Degree { log_n: 2 }));
        assert_eq!(
            Ring::new(4, &[q[0], q[1], q[0]]).err(),
            Some(Error::Repeated { q: q[0] })
        );
        assert_eq!(
            Ring::new(4, &[1 << 20]).err(),
            Some(Error::Modulus { q: 1 << 20 })
        );
        assert_eq!(
            Ring::new(17, &[65537]).err(),
            Some(Error::NoRoot {
                q: 65537,
                log_n: 17
            })
        );
    }
}
