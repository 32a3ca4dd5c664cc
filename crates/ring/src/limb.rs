//! Operations on one limb: vectors of residues modulo one prime, canonical in and out.
//!
//! Every function panics if its slices differ in length. Lengths that are a multiple of 8 run on the vector unit where
//! there is one. Sums of products allocate a few words per term, nothing else
//! allocates.

#[cfg(target_arch = "x86_64")]
use crate::{Backend, avx2, backend, ifma};
use crate::{Modulus, portable};

/// Calls the kernel of the backend in force.
macro_rules! dispatch {
    ($len:expr, $name:ident($($arg:expr),*)) => {{
        #[cfg(target_arch = "x86_64")]
        if $len.is_multiple_of(8) {
            match backend() {
                Backend::Portable => {}
                Backend::Avx2 => {
                    // SAFETY: backend() is Avx2 only where the processor has every feature that the kernels enable.
                    unsafe { avx2::limb::$name($($arg),*) };
                    return;
                }
                Backend::Ifma => {
                    // SAFETY: backend() is Ifma only where the processor has every feature that the kernels enable.
                    unsafe { ifma::limb::$name($($arg),*) };
                    return;
                }
            }
        }
        portable::$name($($arg),*)
    }};
}

fn same(a: usize, b: usize) {
    assert_eq!(a, b, "limbs differ in length");
}

/// a += b.
pub fn add(q: &Modulus, a: &mut [u64], b: &[u64]) {
    same(a.len(), b.len());
    dispatch!(a.len(), add(q, a, b))
}

/// out = a + b.
pub fn add_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    same(out.len(), a.len());
    same(out.len(), b.len());
    dispatch!(out.len(), add_to(q, out, a, b))
}

/// a -= b.
pub fn sub(q: &Modulus, a: &mut [u64], b: &[u64]) {
    same(a.len(), b.len());
    dispatch!(a.len(), sub(q, a, b))
}

/// out = a - b.
pub fn sub_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    same(out.len(), a.len());
    same(out.len(), b.len());
    dispatch!(out.len(), sub_to(q, out, a, b))
}

/// a = -a.
pub fn neg(q: &Modulus, a: &mut [u64]) {
    dispatch!(a.len(), neg(q, a))
}

/// a = a ⊙ b.
pub fn mul(q: &Modulus, a: &mut [u64], b: &[u64]) {
    same(a.len(), b.len());
    dispatch!(a.len(), mul(q, a, b))
}

/// out = a ⊙ b.
pub fn mul_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    same(out.len(), a.len());
    same(out.len(), b.len());
    dispatch!(out.len(), mul_to(q, out, a, b))
}

/// a = s·a.
pub fn mul_scalar(q: &Modulus, a: &mut [u64], s: u64) {
    let s = q.shoup(s);
    dispatch!(a.len(), mul_scalar(q, a, s))
}

/// out = s·a.
pub fn mul_scalar_to(q: &Modulus, out: &mut [u64], a: &[u64], s: u64) {
    same(out.len(), a.len());
    let s = q.shoup(s);
    dispatch!(out.len(), mul_scalar_to(q, out, a, s))
}

/// acc += s·a.
pub fn mul_scalar_add(q: &Modulus, acc: &mut [u64], a: &[u64], s: u64) {
    same(acc.len(), a.len());
    let s = q.shoup(s);
    dispatch!(acc.len(), mul_scalar_add(q, acc, a, s))
}

/// a += s in every element (in NTT form: adds the constant polynomial s).
pub fn add_scalar(q: &Modulus, a: &mut [u64], s: u64) {
    debug_assert!(s < q.value());
    dispatch!(a.len(), add_scalar(q, a, s))
}

/// out = (out - b)·s.
pub fn sub_mul_scalar(q: &Modulus, out: &mut [u64], b: &[u64], s: u64) {
    same(out.len(), b.len());
    let s = q.shoup(s);
    dispatch!(out.len(), sub_mul_scalar(q, out, b, s))
}

/// The most products that one lazy sum takes; longer lists are summed in parts.
///
/// A product is below 2^100; the vector kernels keep the low 52 bits of the products in one 64-bit word and the high 48 bits
/// in another, so 4095 would still fit.
pub const DOT_TERMS: usize = 2048;

/// out = Σ_k x_k ⊙ y_k, reduced once at the end; zero for no pairs.
///
/// Cost: two multiply-adds per 8 products and a reduction per 8 results.
pub fn dot(q: &Modulus, out: &mut [u64], pairs: &[(&[u64], &[u64])]) {
    pairs.iter().for_each(|(_, y)| same(out.len(), y.len()));
    dot_runs(q, out, pairs);
}

/// out\[i\] = Σ_k x_k\[i\]·y_k\[i / (N/m_k)\] with N = `out.len()` and m_k = `y_k.len()`, a divisor of N: products with plaintexts
/// that lie in a subring and are kept short. Each y_k may have its own length.
///
/// # Panics
/// Also if a `y_k.len()` does not divide `out.len()`.
pub fn dot_runs(q: &Modulus, out: &mut [u64], pairs: &[(&[u64], &[u64])]) {
    check_runs(out.len(), pairs);
    if pairs.len() > DOT_TERMS {
        let (head, rest) = pairs.split_at(DOT_TERMS);
        dot_runs(q, out, head);
        let mut more = vec![0; out.len()];
        dot_runs(q, &mut more, rest);
        add(q, out, &more);
        return;
    }
    dispatch!(out.len(), dot_runs(q, out, pairs))
}

/// out0 = Σ_k x_k ⊙ y0_k and out1 = Σ_k x_k ⊙ y1_k, as two calls of [`dot`], but reads each x_k once.
///
/// # Panics
/// Also if the lists differ in length.
pub fn dot2(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    x: &[&[u64]],
    y0: &[&[u64]],
    y1: &[&[u64]],
) {
    x.iter().for_each(|x| same(out0.len(), x.len()));
    dot2_runs(q, out0, out1, y0, y1, x);
}

/// out0\[i\] = Σ_k x0_k\[i\]·y_k\[i / (N/m_k)\] and out1 likewise with x1_k: two calls of [`dot_runs`] with the same short
/// factors, but each y_k is read once.
///
/// # Panics
/// Also if the lists differ in length or a `y_k.len()` does not divide `out0.len()`.
pub fn dot2_runs(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    x0: &[&[u64]],
    x1: &[&[u64]],
    y: &[&[u64]],
) {
    same(out0.len(), out1.len());
    assert!(
        x0.len() == y.len() && x1.len() == y.len(),
        "lists of {}, {} and {} factors",
        x0.len(),
        x1.len(),
        y.len()
    );
    for (x, y) in x0.iter().chain(x1).zip(y.iter().chain(y)) {
        check_run(out0.len(), x, y);
    }
    if y.len() > DOT_TERMS {
        for (out, x) in [(out0, x0), (out1, x1)] {
            let pairs: Vec<_> = x.iter().copied().zip(y.iter().copied()).collect();
            dot_runs(q, out, &pairs);
        }
        return;
    }
    dispatch!(out0.len(), dot2_runs(q, out0, out1, x0, x1, y))
}

/// One factor of a pair of sums: of the first and of the second, and the one that both share.
pub type Shared<'a> = ([&'a [u64]; 2], &'a [u64]);

/// Several pairs of sums, each as by [`dot2_runs`]: a piece of all factors in full length, which the sums have in common, stays in the
/// nearest cache for all of them.
///
/// # Panics
/// Also if there is not a list of factors for each pair, or a shared one's length does not divide N.
pub fn dot2_runs_each(q: &Modulus, out: &mut [[&mut [u64]; 2]], factors: &[Vec<Shared<'_>>]) {
    assert_eq!(out.len(), factors.len(), "a list of factors for each pair");
    let Some(n) = out.first().map(|o| o[0].len()) else {
        return;
    };
    for (out, factors) in out.iter().zip(factors) {
        out.iter().for_each(|o| same(n, o.len()));
        for (x, y) in factors {
            x.iter().for_each(|x| check_run(n, x, y));
        }
    }
    #[cfg(target_arch = "x86_64")]
    if n.is_multiple_of(8)
        && backend() == Backend::Ifma
        && factors.iter().all(|f| f.len() <= DOT_TERMS)
    {
        // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
        if unsafe { ifma::limb::dot2_runs_each(q, out, factors) } {
            return;
        }
    }
    for ([out0, out1], factors) in out.iter_mut().zip(factors) {
        let own = |o: usize| -> Vec<&[u64]> { factors.iter().map(|(x, _)| x[o]).collect() };
        let shared: Vec<&[u64]> = factors.iter().map(|(_, y)| *y).collect();
        dot2_runs(q, out0, out1, &own(0), &own(1), &shared);
    }
}

fn check_runs(n: usize, pairs: &[(&[u64], &[u64])]) {
    pairs.iter().for_each(|(x, y)| check_run(n, x, y));
}

fn check_run(n: usize, x: &[u64], y: &[u64]) {
    same(n, x.len());
    assert!(
        n == 0 || (!y.is_empty() && n.is_multiple_of(y.len())),
        "a run-length factor of {} in {n}",
        y.len()
    );
}

/// out\[i\] = a\[perm\[i\]\]. Fast where every aligned group of 8 indices stays inside one aligned group of 8, as automorphisms do.
///
/// # Panics
/// Also if an index is not below `a.len()`.
pub fn permute(out: &mut [u64], a: &[u64], perm: &[u32]) {
    same(out.len(), a.len());
    same(out.len(), perm.len());
    dispatch!(out.len(), permute(out, a, perm))
}

/// acc\[i\] += a\[perm\[i\]\].
///
/// # Panics
/// Also if an index is not below `a.len()`.
pub fn permute_add(q: &Modulus, acc: &mut [u64], a: &[u64], perm: &[u32]) {
    same(acc.len(), a.len());
    same(acc.len(), perm.len());
    dispatch!(acc.len(), permute_add(q, acc, a, perm))
}

/// Residues of signed words.
pub fn from_i64(q: &Modulus, out: &mut [u64], x: &[i64]) {
    same(out.len(), x.len());
    dispatch!(out.len(), from_i64(q, out, x))
}

/// out = centered(x mod `from`) mod `to`: the representative in (-from/2, from/2) of each residue, modulo another prime.
pub fn lift_centered(from: &Modulus, to: &Modulus, out: &mut [u64], x: &[u64]) {
    same(out.len(), x.len());
    dispatch!(out.len(), lift_centered(from, to, out, x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Expander;

    const PRIMES: [u64; 5] = [16411, 65537, 2147473409, 1099511480321, 1125899906842597];

    fn modulus(q: u64) -> Modulus {
        let q = (0..)
            .map(|d| q + 2 * d)
            .find(|&q| crate::is_prime(q))
            .expect("prime");
        Modulus::new(q).expect("prime")
    }

    /// Random residues of which some are 0 and q-1.
    fn residues(q: &Modulus, n: usize, stream: u64) -> Vec<u64> {
        let mut a = vec![0; n];
        Expander::new([3; 32]).uniform(stream, q, &mut a);
        for (i, x) in a.iter_mut().enumerate() {
            match (i as u64 * 2654435761 + stream * 40503) >> 7 & 7 {
                0 => *x = 0,
                1 | 2 => *x = q.value() - 1,
                _ => {}
            }
        }
        a
    }

    #[test]
    fn elementwise_operations_equal_scalar_ones() {
        for p in PRIMES {
            let q = modulus(p);
            for n in [8, 12, 64, 136, 1] {
                let (a, b, s) = (residues(&q, n, 1), residues(&q, n, 2), q.value() - 3);
                let check = |have: &[u64], want: &dyn Fn(u64, u64) -> u64| {
                    (0..n).for_each(|i| assert_eq!(have[i], want(a[i], b[i]), "q = {p}, n = {n}"));
                };
                let mut o = vec![0; n];
                let in_place = |f: &dyn Fn(&mut [u64])| {
                    let mut o = a.clone();
                    f(&mut o);
                    o
                };
                check(&in_place(&|o| add(&q, o, &b)), &|x, y| q.add(x, y));
                check(&in_place(&|o| sub(&q, o, &b)), &|x, y| q.sub(x, y));
                check(&in_place(&|o| mul(&q, o, &b)), &|x, y| q.mul(x, y));
                check(&in_place(&|o| neg(&q, o)), &|x, _| q.neg(x));
                check(&in_place(&|o| mul_scalar(&q, o, s)), &|x, _| q.mul(x, s));
                check(&in_place(&|o| add_scalar(&q, o, s)), &|x, _| q.add(x, s));
                check(&in_place(&|o| mul_scalar_add(&q, o, &b, s)), &|x, y| {
                    q.add(x, q.mul(y, s))
                });
                check(&in_place(&|o| sub_mul_scalar(&q, o, &b, s)), &|x, y| {
                    q.mul(q.sub(x, y), s)
                });
                add_to(&q, &mut o, &a, &b);
                check(&o, &|x, y| q.add(x, y));
                sub_to(&q, &mut o, &a, &b);
                check(&o, &|x, y| q.sub(x, y));
                mul_to(&q, &mut o, &a, &b);
                check(&o, &|x, y| q.mul(x, y));
                mul_scalar_to(&q, &mut o, &a, s);
                check(&o, &|x, _| q.mul(x, s));
            }
        }
    }

    #[test]
    fn dots_equal_naive_sums() {
        for p in PRIMES {
            let q = modulus(p);
            for n in [8usize, 24, 64, 256, 1024] {
                for terms in [0usize, 1, 2, 3, 15, 16, 17, 64] {
                    for longest in [1, 2, 3, 4, 8, 16, 32, 64, 256] {
                        if n % longest != 0 || (terms > 3 && n > 256) {
                            continue;
                        }
                        let xs: Vec<_> = (0..terms).map(|k| vec_or_top(&q, n, k as u64)).collect();
                        let runs: Vec<_> = (0..terms)
                            .map(|k| if k % 5 == 4 { 1 } else { longest })
                            .collect();
                        let ys: Vec<_> = (0..terms)
                            .map(|k| vec_or_top(&q, n / runs[k], 100 + k as u64))
                            .collect();
                        let pairs: Vec<_> =
                            xs.iter().zip(&ys).map(|(x, y)| (&x[..], &y[..])).collect();
                        let want = |i: usize| {
                            (0..terms).fold(0, |s, k| q.add(s, q.mul(xs[k][i], ys[k][i / runs[k]])))
                        };
                        let mut out = vec![5; n];
                        dot_runs(&q, &mut out, &pairs);
                        (0..n)
                            .for_each(|i| assert_eq!(out[i], want(i), "{p} {n} {terms} {longest}"));
                        let mut acc = vec![6; n];
                        // The second list is the first one reversed where the lengths allow.
                        let x0: Vec<_> = xs.iter().map(|x| &x[..]).collect();
                        let x1: Vec<_> = xs.iter().rev().map(|x| &x[..]).collect();
                        let y: Vec<_> = ys.iter().map(|y| &y[..]).collect();
                        let (mut out0, mut out1) = (vec![7; n], vec![8; n]);
                        dot2_runs(&q, &mut out0, &mut out1, &x0, &x1, &y);
                        assert_eq!(out0, out);
                        let pairs1: Vec<_> = x1.iter().copied().zip(y.iter().copied()).collect();
                        dot_runs(&q, &mut acc, &pairs1);
                        assert_eq!(out1, acc);
                        if longest == 1 {
                            if terms < 5 {
                                dot2(&q, &mut out0, &mut out1, &y, &x0, &x1);
                                assert!(out0 == out && out1 == acc);
                            }
                            dot(&q, &mut acc, &pairs);
                            assert_eq!(acc, out);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn sums_of_common_factors_equal_single_ones() {
        for (p, n) in PRIMES
            .into_iter()
            .flat_map(|p| [12, 64, 96, 8192].map(|n| (p, n)))
        {
            let q = modulus(p);
            let xs: Vec<_> = (0..40).map(|k| vec_or_top(&q, n, k)).collect();
            let ys: Vec<_> = (0..20)
                .map(|k| vec_or_top(&q, n >> (k % 3), 100 + k))
                .collect();
            // some sums of few terms, one of many, one of none
            let factors: Vec<Vec<Shared<'_>>> = [3, 8, 20, 0, 1]
                .map(|terms| {
                    let each =
                        (0..terms).map(|k| ([&xs[2 * k][..], &xs[2 * k + 1][..]], &ys[k][..]));
                    each.collect()
                })
                .into();
            let mut had = vec![[vec![1; n], vec![2; n]]; factors.len()];
            let mut out: Vec<[&mut [u64]; 2]> = had
                .iter_mut()
                .map(|h| h.each_mut().map(|v| &mut v[..]))
                .collect();
            dot2_runs_each(&q, &mut out, &factors);
            for (had, factors) in had.iter().zip(&factors) {
                for (o, had) in had.iter().enumerate() {
                    let pairs: Vec<_> = factors.iter().map(|(x, y)| (x[o], *y)).collect();
                    let mut one = vec![3; n];
                    dot_runs(&q, &mut one, &pairs);
                    assert_eq!(had, &one, "{p} {n} {}", factors.len());
                }
            }
        }
    }

    fn vec_or_top(q: &Modulus, n: usize, stream: u64) -> Vec<u64> {
        if stream.is_multiple_of(3) {
            vec![q.value() - 1; n]
        } else {
            residues(q, n, stream)
        }
    }

    #[test]
    fn a_dot_longer_than_the_lazy_bound_is_exact() {
        let q = modulus(1125899906842597);
        let x = [q.value() - 1; 8];
        let pairs = vec![(&x[..], &x[..]); 2 * DOT_TERMS + 9];
        let mut out = vec![1; 8];
        dot(&q, &mut out, &pairs);
        assert_eq!(out, vec![2 * DOT_TERMS as u64 + 9; 8]);
        let list = vec![&x[..]; 2 * DOT_TERMS + 9];
        let mut other = vec![1; 8];
        dot2(&q, &mut other, &mut out, &list, &list, &list);
        assert!(other == out && out == vec![2 * DOT_TERMS as u64 + 9; 8]);
    }

    #[test]
    fn permutations_gather() {
        let q = modulus(65537);
        for n in [8usize, 20, 256] {
            let a = residues(&q, n, 9);
            let near: Vec<u32> = (0..n as u32)
                .map(|i| (i & !7) | ((i * 3 + 1) & 7))
                .map(|i| i.min(n as u32 - 1))
                .collect();
            let far: Vec<u32> = (0..n as u32).map(|i| (i * 7 + 3) % n as u32).collect();
            for perm in [near, far] {
                let mut out = vec![0; n];
                permute(&mut out, &a, &perm);
                (0..n).for_each(|i| assert_eq!(out[i], a[perm[i] as usize]));
                permute_add(&q, &mut out, &a, &perm);
                (0..n).for_each(|i| {
                    assert_eq!(out[i], q.add(a[perm[i] as usize], a[perm[i] as usize]))
                });
            }
        }
    }

    #[test]
    #[should_panic]
    fn a_permutation_out_of_range_panics() {
        permute(&mut [0; 8], &[0; 8], &[0, 1, 2, 3, 4, 5, 6, 8]);
    }

    #[test]
    #[should_panic]
    fn a_permutation_far_out_of_range_panics() {
        permute(&mut [0; 8], &[0; 8], &[u32::MAX, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn lifts_equal_scalar_ones() {
        for p in PRIMES {
            let q = modulus(p);
            let mut x: Vec<i64> = (0..64)
                .map(|i: i64| (i - 30).wrapping_mul(0x0123_4567_89ab_cdef) >> (i % 50))
                .collect();
            x.extend([
                0,
                1,
                -1,
                i64::MAX,
                i64::MIN,
                i64::MIN + 1,
                q.value() as i64,
                -(q.value() as i64),
            ]);
            let mut out = vec![0; x.len()];
            from_i64(&q, &mut out, &x);
            x.iter()
                .zip(&out)
                .for_each(|(x, o)| assert_eq!(q.from_i64(*x), *o));
            for other in PRIMES {
                let to = modulus(other);
                let mut r = residues(&q, 64, 3);
                r.extend([
                    q.value() / 2,
                    q.value() / 2 + 1,
                    0,
                    1,
                    q.value() - 1,
                    2,
                    3,
                    4,
                ]);
                let mut out = vec![0; r.len()];
                lift_centered(&q, &to, &mut out, &r);
                r.iter()
                    .zip(&out)
                    .for_each(|(r, o)| assert_eq!(to.from_i64(q.centered(*r)), *o));
            }
        }
    }

    /// Runs a vector kernel on `$x` and its portable twin on `$y`, which must agree.
    #[cfg(target_arch = "x86_64")]
    macro_rules! twins {
        ($vector:ident, $x:ident, $y:ident, $name:ident($q:expr $(, $arg:expr)*)) => {{
            // SAFETY: the caller has seen that the processor has the features.
            unsafe { $vector::limb::$name($q, &mut $x $(, $arg)*) };
            portable::$name($q, &mut $y $(, $arg)*);
            assert_eq!($x, $y, "{} of {}", stringify!($name), stringify!($vector));
        }};
    }

    /// A test that a vector backend gives the words of the portable one, where the processor has it.
    #[cfg(target_arch = "x86_64")]
    macro_rules! equals_portable {
        ($test:ident, $vector:ident, $has:ident) => {
            #[test]
            fn $test() {
                if !crate::backend::$has() {
                    return;
                }
                for (p, n) in PRIMES
                    .into_iter()
                    .flat_map(|p| [8, 16, 40, 256].map(|n| (p, n)))
                {
                    let q = &modulus(p);
                    let (top, some) = (vec![q.value() - 1; n], residues(q, n, 2));
                    for (a, b) in [(&some, &top), (&top, &some), (&top, &top), (&some, &some)] {
                        let (mut x, mut y) = (a.clone(), a.clone());
                        for s in [1, q.value() / 2, q.value() / 2 + 1, q.value() - 1] {
                            let s = q.shoup(s);
                            twins!($vector, x, y, mul_scalar(q, s));
                            twins!($vector, x, y, mul_scalar_to(q, a, s));
                            twins!($vector, x, y, mul_scalar_add(q, b, s));
                            twins!($vector, x, y, sub_mul_scalar(q, b, s));
                        }
                        twins!($vector, x, y, add(q, b));
                        twins!($vector, x, y, sub(q, b));
                        twins!($vector, x, y, neg(q));
                        twins!($vector, x, y, mul(q, b));
                        twins!($vector, x, y, add_to(q, a, b));
                        twins!($vector, x, y, sub_to(q, a, b));
                        twins!($vector, x, y, mul_to(q, a, b));
                        twins!($vector, x, y, add_scalar(q, q.value() - 1));
                        (x[0], y[0]) = (0, 0);
                        twins!($vector, x, y, neg(q));
                        for terms in [0, 1, 2, 3, 4, 7, 8, 15, 16, 40] {
                            let runs = [1, 2, 4, 8, 1, n];
                            let factor = |k: usize| &b[..n / runs[k % 6]];
                            let own = |k: usize| if k % 3 == 0 { &b[..] } else { &a[..] };
                            let pairs: Vec<_> = (0..terms).map(|k| (own(k), factor(k))).collect();
                            twins!($vector, x, y, dot_runs(q, &pairs));
                            let (mut x1, mut y1) = (a.clone(), a.clone());
                            let lists = [0, 1].map(|o| (0..terms).map(|k| own(k + o)).collect());
                            let [own0, own1]: [Vec<&[u64]>; 2] = lists;
                            let short: Vec<_> = (0..terms).map(factor).collect();
                            // SAFETY: the processor has the features.
                            unsafe {
                                $vector::limb::dot2_runs(q, &mut x, &mut x1, &own0, &own1, &short)
                            };
                            portable::dot2_runs(q, &mut y, &mut y1, &own0, &own1, &short);
                            assert!(x == y && x1 == y1, "dot2_runs of {terms} terms");
                        }
                        let back: Vec<u32> = (0..n as u32).rev().collect();
                        let far: Vec<u32> = (0..n as u32).map(|i| (i * 7 + 3) % n as u32).collect();
                        let same = vec![n as u32 - 3; n];
                        for perm in [&back, &far, &same] {
                            twins!($vector, x, y, permute_add(q, a, perm));
                            // SAFETY: the processor has the features.
                            unsafe { $vector::limb::permute(&mut x, b, perm) };
                            portable::permute(&mut y, b, perm);
                            assert_eq!(x, y);
                        }
                        let mut signed: Vec<i64> = a
                            .iter()
                            .zip(0..)
                            .map(|(&x, i)| (x << (i % 14)) as i64 - (1 << (i % 60)))
                            .collect();
                        signed[0] = i64::MIN;
                        signed[1] = i64::MAX;
                        signed[2] = -(q.value() as i64);
                        twins!($vector, x, y, from_i64(q, &signed));
                        for to in PRIMES.map(modulus) {
                            let mut r = a.clone();
                            r[..4].copy_from_slice(&[p / 2, p / 2 + 1, q.value() / 2, 0]);
                            // SAFETY: the processor has the features.
                            unsafe { $vector::limb::lift_centered(q, &to, &mut x, &r) };
                            portable::lift_centered(q, &to, &mut y, &r);
                            assert_eq!(x, y);
                        }
                    }
                }
            }
        };
    }

    #[cfg(target_arch = "x86_64")]
    equals_portable!(avx2_kernels_equal_portable_ones, avx2, has_avx2);
    #[cfg(target_arch = "x86_64")]
    equals_portable!(ifma_kernels_equal_portable_ones, ifma, has_ifma);
}
