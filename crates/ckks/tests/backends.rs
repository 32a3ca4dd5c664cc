//! The whole scheme gives the same words on every set of kernels that this machine has. One test alone in its process, since the
//! choice of the kernels is the process's.

use ckks::coefficients::Parts;
use ckks::{
    Arithmetic, Bootstrap, Complex64, Context, Error, Evaluator, Level, Meter, Parameters,
    ParametersSpec, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use ring::{Backend, backend, force_backend};

const SLOTS: usize = 64;
const BOOTSTRAP: Bootstrap = Bootstrap {
    slots: SLOTS,
    target: 6,
    gain: 1.0,
};

/// A product, a key switch and a bootstrap.
fn circuit<A: Arithmetic>(a: &A, high: &A::Value, low: &A::Value) -> Result<Vec<A::Value>, Error> {
    let product = a.mul_rescale(high, high)?;
    let rotated = a.rotate(&product, 3)?;
    let conjugate = a.conjugate(high)?;
    Ok(vec![
        product,
        rotated,
        conjugate,
        a.bootstrap(&Parts::one(low.clone()), &BOOTSTRAP)?.first,
    ])
}

/// The words of all ciphertexts from the same seed, and what the last of them decrypts to.
fn run(parameters: &Parameters) -> Result<(Vec<u64>, Vec<Complex64>), Error> {
    let meter = Meter::new(&Context::new(parameters));
    let (high, low) = (Level::new(6), parameters.floor());
    let inputs = [
        meter.input(high, SLOTS, 1.0)?,
        meter.input(low, SLOTS, 0.5)?,
    ];
    circuit(&meter, &inputs[0], &inputs[1])?;
    let mut rng = ChaCha20Rng::seed_from_u64(14);
    let secret = SecretKey::generate(parameters, &mut rng);
    let keys = secret.evaluation_keys(&meter.keys(), &mut rng)?;
    let evaluator = Evaluator::new(&Context::new(parameters), keys);
    let x = message();
    let high = secret.encrypt(&x, high, &mut rng)?.expand(parameters);
    let low = secret.encrypt(&x, low, &mut rng)?.expand(parameters);
    let results = circuit(&evaluator, &high, &low)?;
    let all = [&high, &low].into_iter().chain(&results);
    let words = all.flat_map(|c| c.limbs().flatten().copied()).collect();
    Ok((words, secret.decrypt(&results[3])?))
}

fn message() -> Vec<Complex64> {
    let at = |j: usize| Complex64::new(0.5 * (j as f64).sin(), 0.0);
    (0..SLOTS).map(at).collect()
}

#[test]
fn every_backend_gives_the_same_ciphertexts() {
    let parameters = Parameters::new(ParametersSpec::toy(10)).expect("toy");
    force_backend(Some(Backend::Portable));
    let (want, message_back) = run(&parameters).expect("portable");
    let worst = message().into_iter().zip(&message_back);
    let worst = worst.map(|(x, y)| (x - y).norm()).fold(0.0, f64::max);
    assert!(worst < 1e-3, "the bootstrap errs by {worst:e}");
    for choice in Backend::available() {
        assert_eq!(force_backend(Some(choice)), choice);
        let (words, message_back_here) = run(&parameters).expect("runs");
        assert!(words == want, "{choice} differs from portable");
        assert_eq!(message_back_here, message_back);
        assert_eq!(backend(), choice, "nothing else chose meanwhile");
    }
}
