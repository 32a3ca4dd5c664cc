//! What the kernels of the vector backends have in common.

/// The one-limb kernels that differ in nothing but their registers: instantiated beside a backend's `Wide`, `Product`, `load`, `store` and
/// `dots`, for its features, the words of a register, and how many registers one and two lazy sums take at a time.
macro_rules! limb_kernels {
    ($features:literal, $register:ty, $words:literal, $one:literal, $two:literal) => {
        /// a\[i\] = f(a\[i\]).
        #[inline]
        #[target_feature(enable = $features)]
        fn one(a: &mut [u64], f: impl Fn($register) -> $register) {
            let a = a.as_chunks_mut::<$words>().0;
            a.iter_mut().for_each(|a| store(a, f(load(a))));
        }

        /// a\[i\] = f(a\[i\], b\[i\]).
        #[inline]
        #[target_feature(enable = $features)]
        fn two(a: &mut [u64], b: &[u64], f: impl Fn($register, $register) -> $register) {
            let pairs = a
                .as_chunks_mut::<$words>()
                .0
                .iter_mut()
                .zip(b.as_chunks::<$words>().0);
            pairs.for_each(|(a, b)| store(a, f(load(a), load(b))));
        }

        /// out\[i\] = f(a\[i\], b\[i\]).
        #[inline]
        #[target_feature(enable = $features)]
        fn three(
            out: &mut [u64],
            a: &[u64],
            b: &[u64],
            f: impl Fn($register, $register) -> $register,
        ) {
            let pairs = a
                .as_chunks::<$words>()
                .0
                .iter()
                .zip(b.as_chunks::<$words>().0);
            let out = out.as_chunks_mut::<$words>().0.iter_mut();
            out.zip(pairs)
                .for_each(|(o, (a, b))| store(o, f(load(a), load(b))));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn add(q: &Modulus, a: &mut [u64], b: &[u64]) {
            let m = Wide::new(q);
            two(a, b, |a, b| m.add(a, b));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn add_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
            let m = Wide::new(q);
            three(out, a, b, |a, b| m.add(a, b));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn sub(q: &Modulus, a: &mut [u64], b: &[u64]) {
            let m = Wide::new(q);
            two(a, b, |a, b| m.sub(a, b));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn sub_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
            let m = Wide::new(q);
            three(out, a, b, |a, b| m.sub(a, b));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn neg(q: &Modulus, a: &mut [u64]) {
            let (m, zero) = (Wide::new(q), set(0));
            one(a, |a| m.sub(zero, a));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn mul(q: &Modulus, a: &mut [u64], b: &[u64]) {
            let p = Product::new(q);
            two(a, b, |a, b| p.mul(a, b));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn mul_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
            let p = Product::new(q);
            three(out, a, b, |a, b| p.mul(a, b));
        }

        #[target_feature(enable = $features)]
        pub(crate) fn add_scalar(q: &Modulus, a: &mut [u64], s: u64) {
            let (m, s) = (Wide::new(q), set(s));
            one(a, |a| m.add(a, s));
        }

        /// Falls back to the portable kernel for runs that are no power of two.
        #[target_feature(enable = $features)]
        pub(crate) fn dot_runs(q: &Modulus, out: &mut [u64], pairs: &[(&[u64], &[u64])]) {
            let n = out.len();
            let terms = pairs.iter().map(|(x, y)| Term::new(n, [x], y));
            match terms.collect() {
                // SAFETY: Term::new checked the lengths against out's.
                Some(terms) => unsafe { dots::<1, $one>(q, [out], terms) },
                None => portable::dot_runs(q, out, pairs),
            }
        }

        /// Falls back to the portable kernel for runs that are no power of two.
        #[target_feature(enable = $features)]
        pub(crate) fn dot2_runs(
            q: &Modulus,
            out0: &mut [u64],
            out1: &mut [u64],
            x0: &[&[u64]],
            x1: &[&[u64]],
            y: &[&[u64]],
        ) {
            let n = out0.len();
            assert!(out1.len() == n && x0.len() == y.len() && x1.len() == y.len());
            let terms = x0.iter().zip(x1).zip(y);
            let terms = terms.map(|((x0, x1), y)| Term::new(n, [x0, x1], y));
            match terms.collect() {
                // SAFETY: Term::new checked the lengths against those of both outputs.
                Some(terms) => unsafe { dots::<2, $two>(q, [out0, out1], terms) },
                None => portable::dot2_runs(q, out0, out1, x0, x1, y),
            }
        }
    };
}
pub(crate) use limb_kernels;

/// One term of O lazy sums: O factors in full, and one factor for all of them, shortened by 2^shift.
pub(crate) struct Term<const O: usize> {
    pub(crate) own: [*const u64; O],
    pub(crate) shared: *const u64,
    pub(crate) shift: u32,
}

impl<const O: usize> Term<O> {
    /// Checked: each own factor has n words, the shared one a divisor of n; None for a run that is no power of two.
    pub(crate) fn new(n: usize, own: [&[u64]; O], shared: &[u64]) -> Option<Self> {
        assert!(own.iter().all(|x| x.len() == n) && n.is_multiple_of(shared.len()));
        let run = n / shared.len();
        run.is_power_of_two().then(|| Term {
            own: own.map(|x| x.as_ptr()),
            shared: shared.as_ptr(),
            shift: run.trailing_zeros(),
        })
    }
}
