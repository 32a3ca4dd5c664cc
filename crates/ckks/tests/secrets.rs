//! What is secret is wiped: nothing of a key or of a decryption is in memory that is handed out again.

use ckks::keys::{KeyName, galois_element};
use ckks::{Complex64, Level, Parameters, ParametersSpec, SecretKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use ring::buffer::AlignedVec;

/// Buffers as the arena hands them out: those that were given back last come first.
fn handed_out(n: usize) -> Vec<AlignedVec> {
    (0..400).map(|_| AlignedVec::dirty(n)).collect()
}

/// Both in one test: they look through one process's arena.
#[test]
fn nothing_of_a_dropped_key_is_found_in_memory() {
    let p = Parameters::new(ParametersSpec::toy_levelled(10, 4)).expect("toy");
    let (n, q) = (p.n(), *p.prime(0));
    let mut rng = ChaCha20Rng::seed_from_u64(9);

    // s, s² and σ⁻¹(s), of which evaluation keys are made
    let mut s = vec![0u64; n];
    let g = galois_element(&p, 1);
    {
        let key = SecretKey::generate(&p, &mut rng);
        let wide: Vec<i64> = key.coefficients().iter().map(|&c| c.into()).collect();
        key.key(KeyName::Relinearization, 3, &mut rng)
            .expect("a key");
        key.key(KeyName::Galois(g), 3, &mut rng).expect("a key");
        ring::limb::from_i64(&q, &mut s, &wide);
        p.ring().ntt(0).forward(&mut s);
    }
    let mut square = s.clone();
    ring::limb::mul(&q, &mut square, &s);
    let inverse = (0..2 * n as u64).find(|h| h * g % (2 * n as u64) == 1);
    let permutation = ring::automorphism(p.spec().log_n, inverse.expect("odd"));
    let mut image = vec![0u64; n];
    ring::limb::permute(&mut image, &s, &permutation);
    let dirty = handed_out(n);
    for (name, wanted) in [("s", &s), ("its square", &square), ("its image", &image)] {
        assert!(dirty.iter().all(|d| d[..] != wanted[..]), "{name} is there");
    }
    drop(dirty);

    // the decrypted phase is c0 + c1·s: with the public ciphertext it gives s
    let key = SecretKey::generate(&p, &mut rng);
    let v: Vec<Complex64> = (0..n / 2)
        .map(|i| Complex64::new((i as f64).sin(), 0.0))
        .collect();
    let c = key
        .encrypt(&v, Level::new(0), &mut rng)
        .expect("encrypts")
        .expand(&p);
    key.decrypt(&c).expect("decrypts");
    drop(key);
    let public: Vec<Vec<u64>> = c.limbs().map(<[u64]>::to_vec).collect();
    drop(c);
    for d in handed_out(n)
        .iter()
        .filter(|d| d.iter().all(|&x| x < q.value()))
    {
        for form in ["coefficients", "transformed"] {
            let mut s = d.to_vec();
            if form == "coefficients" {
                p.ring().ntt(0).forward(&mut s);
            }
            ring::limb::sub(&q, &mut s, &public[0]);
            for (s, c1) in s.iter_mut().zip(&public[1]) {
                *s = q.mul(*s, q.inv(*c1));
            }
            p.ring().ntt(0).inverse(&mut s);
            // the public half itself gives zero
            let ternary = s.iter().all(|&x| x <= 1 || x == q.value() - 1);
            let found = ternary && s.iter().any(|&x| x != 0);
            assert!(!found, "the phase ({form}) is there, and gives the key");
        }
    }
}
