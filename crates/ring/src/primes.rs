//! Primality, and the search for NTT-friendly primes.

use crate::Error;

const SMALL: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];

/// Whether `q` is prime; deterministic Miller–Rabin, exact for every 64-bit number.
pub fn is_prime(q: u64) -> bool {
    if q < 2 {
        return false;
    }
    for p in SMALL {
        if q.is_multiple_of(p) {
            return q == p;
        }
    }
    let twos = (q - 1).trailing_zeros();
    SMALL.iter().all(|&base| {
        let mut x = pow_mod(base, (q - 1) >> twos, q);
        if x == 1 || x == q - 1 {
            return true;
        }
        for _ in 1..twos {
            x = mul_mod(x, x, q);
            if x == q - 1 {
                return true;
            }
        }
        false
    })
}

/// `count` primes ≡ 1 modulo 2·2^log_n nearest to `center`, none of them in `exclude`, ordered by distance from the center
/// (the smaller first at equal distance), all between 2^14 and 2^50.
///
/// # Errors
/// [`Error::Degree`] for an unsupported degree, [`Error::TooFewPrimes`] if the range holds fewer.
pub fn ntt_primes(
    log_n: u32,
    center: u64,
    count: usize,
    exclude: &[u64],
) -> Result<Vec<u64>, Error> {
    check_degree(log_n)?;
    let step = 2u64 << log_n;
    let (least, most) = (1u64 << 14, 1u64 << 50);
    let center = center.clamp(least, most);
    let mut below = Some(center - (center - 1) % step);
    let mut above = below.map(|b| b + step);
    let mut found = Vec::new();
    while found.len() < count {
        below = below.filter(|&b| b > least);
        above = above.filter(|&a| a < most);
        let candidate = match (below, above) {
            (Some(b), Some(a)) if a - center < center - b => a,
            (Some(b), _) => b,
            (None, Some(a)) => a,
            (None, None) => {
                return Err(Error::TooFewPrimes {
                    log_n,
                    needed: count,
                    had: found.len(),
                });
            }
        };
        if below == Some(candidate) {
            below = candidate.checked_sub(step);
        } else {
            above = Some(candidate + step);
        }
        if !exclude.contains(&candidate) && is_prime(candidate) {
            found.push(candidate);
        }
    }
    Ok(found)
}

pub(crate) fn check_degree(log_n: u32) -> Result<(), Error> {
    if (3..=17).contains(&log_n) {
        Ok(())
    } else {
        Err(Error::Degree { log_n })
    }
}

fn mul_mod(a: u64, b: u64, q: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(q)) as u64
}

fn pow_mod(mut base: u64, mut e: u64, q: u64) -> u64 {
    let mut out = 1;
    base %= q;
    while e > 0 {
        if e & 1 == 1 {
            out = mul_mod(out, base, q);
        }
        base = mul_mod(base, base, q);
        e >>= 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primality_agrees_with_trial_division() {
        for q in 0..20_000u64 {
            let trial = q >= 2 && (2..).take_while(|d| d * d <= q).all(|d| q % d != 0);
            assert_eq!(is_prime(q), trial, "{q}");
        }
        for composite in [3215031751u64, 341550071728321, 3825123056546413051] {
            assert!(!is_prime(composite));
        }
        assert!(is_prime(18446744073709551557));
    }

    #[test]
    fn primes_are_friendly_nearest_and_new() {
        for (log_n, center) in [
            (10, 1u64 << 31),
            (16, 1 << 40),
            (16, 1 << 46),
            (17, 1 << 50),
            (3, 20_000),
        ] {
            let first = ntt_primes(log_n, center, 6, &[]).expect("primes");
            let distance = |q: &u64| q.abs_diff(center);
            assert!(first.windows(2).all(|w| distance(&w[0]) <= distance(&w[1])));
            assert!(
                first
                    .iter()
                    .all(|&q| is_prime(q) && q % (2 << log_n) == 1 && q < 1 << 50)
            );
            let rest = ntt_primes(log_n, center, 4, &first[..2]).expect("primes");
            assert_eq!(rest, first[2..]);
            let step = 2u64 << log_n;
            let worst = distance(&first[5]);
            let mut all: Vec<u64> = (0..=worst / step + 1)
                .flat_map(|k| {
                    let b = center - (center - 1) % step;
                    [b.wrapping_sub(k * step), b + (k + 1) * step]
                })
                .filter(|q| *q > 1 << 14 && *q < 1 << 50 && distance(q) <= worst && is_prime(*q))
                .collect();
            all.sort();
            let mut sorted = first.clone();
            sorted.sort();
            assert!(sorted.iter().all(|q| all.contains(q)) && all.len() <= 7);
        }
    }

    #[test]
    fn refuses_what_does_not_exist() {
        assert_eq!(
            ntt_primes(40, 1 << 40, 1, &[]),
            Err(Error::Degree { log_n: 40 })
        );
    }
}
