//! Whole layers on ciphertexts: products, packing, rescale, in one ring and by way of a small one, against the plain convolution.

use super::rings::Both;
use super::{Layer, Random, layers, parameters};
use ckks::parameters::WEIGHT_BITS;
use ckks::{Arithmetic, Clear, Coefficients, Context, Level, Meter, ParametersSpec};

fn quotient(v: Vec<i32>, by: f64) -> Vec<f64> {
    v.into_iter().map(|v| f64::from(v) / by).collect()
}

/// A layer as any interpreter does it, in the small ring if there is one.
fn products<A: Arithmetic>(
    a: &A,
    xs: &[Coefficients<A::Value>],
    layer: &Layer,
    weights: &Vec<i32>,
) -> Vec<Coefficients<A::Value>> {
    let (n, unit) = (a.parameters().n(), a.parameters().weight_unit());
    match a.small() {
        None => {
            let folded = layer.folded(n, 1);
            let out = a.convolve(xs, &folded, weights, unit).expect("a layer");
            let present = out.into_iter().map(|y| y.expect("channels everywhere"));
            present.collect::<Vec<_>>()
        }
        Some(small) => {
            let t = n / small.parameters().n();
            let folded = layer.folded(n, t);
            let xs: Vec<_> = xs
                .iter()
                .flat_map(|x| a.narrow(x).expect("narrow"))
                .collect();
            let out = small
                .convolve(&xs, &folded, weights, unit)
                .expect("a layer");
            out.chunks(t).map(|c| a.widen(c).expect("widen")).collect()
        }
    }
}

/// A layer, rescaled to level 0.
fn run<A: Arithmetic>(
    a: &A,
    xs: &[Coefficients<A::Value>],
    layer: &Layer,
    weights: &Vec<i32>,
) -> Vec<Coefficients<A::Value>> {
    let out = products(a, xs, layer, weights).into_iter();
    out.map(|y| y.rescale(a).expect("rescaled")).collect()
}

/// A layer on random values: the answer against its definition, and every coefficient, garbage included, against the clear interpreter.
fn check(both: &Both, clear: &Clear, layer: Layer, random: &mut Random, most: f64) -> f64 {
    let level = both.switch.small().parameters().residual();
    let count = layer.channels * layer.size[0] * layer.size[1];
    let unit = both.p.weight_unit();
    let bits = unit.log2() as u32 - 1;
    let (x, w) = (
        random.signed(14, count),
        random.signed(bits, layer.outputs * layer.row()),
    );
    let integers: Vec<i128> = x.iter().map(|&v| i128::from(v)).collect();
    let denominator = 65536.0 * layer.row() as f64;
    let want: Vec<f64> = layer
        .plain(&integers, &w)
        .iter()
        .map(|&v| v as f64 / denominator / unit)
        .collect();
    let folded = layer.folded(both.p.n(), 1);
    // values of at most 1/4, by the number of terms of a sum
    let inputs = folded
        .input()
        .place(&quotient(x, denominator))
        .expect("placed");
    let xs: Vec<Coefficients> = inputs
        .iter()
        .zip(11..)
        .map(|(v, seed)| both.encrypt(v, level, seed))
        .collect();
    let out = run(&both.evaluator, &xs, &layer, &w);
    let got: Vec<Vec<f64>> = out
        .iter()
        .map(|y| {
            assert_eq!(y.value().level(), Level::new(0));
            both.key.decrypt_coefficients(y).to_vec()
        })
        .collect();
    let values = folded.output().read(&got).expect("read");
    let worst = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max)
    };
    let error = worst(&values, &want);
    assert!(error < most, "{layer:?}: {error:e}");
    let xs: Vec<_> = inputs
        .iter()
        .map(|v| clear.coefficients(v, level).expect("coefficients"))
        .collect();
    let meant = run(clear, &xs, &layer, &w);
    for ((have, want), y) in got.iter().zip(&meant).zip(&out) {
        assert_eq!(clear.info(want.value()), both.evaluator.info(y.value()));
        let garbage = worst(have, &clear.read(want).expect("read"));
        assert!(garbage < most, "{layer:?}, garbage: {garbage:e}");
    }
    error
}

#[test]
fn layers_on_ciphertexts_are_convolutions_in_one_ring() {
    let p = parameters(ParametersSpec::toy_coefficients(9, 2));
    let mut both = Both::new(&p, 6, p.products(), 3);
    // one ring alone, with all keys of packing
    both.evaluator = {
        let mut request = ckks::KeyRequest::default();
        for name in ckks::packing::packing_keys(&p, p.n()) {
            request.need(name, p.key_limit(p.products()));
        }
        let mut rng =
            <rand_chacha::ChaCha20Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(4);
        let keys = both.key.evaluation_keys(&request, &mut rng).expect("keys");
        ckks::Evaluator::new(&Context::new(&p), keys)
    };
    let clear = Clear::new(&Context::new(&p), 1);
    let mut random = Random::new(11);
    let worst = layers()
        .into_iter()
        .map(|layer| check(&both, &clear, layer, &mut random, 1e-7))
        .fold(0.0, f64::max);
    println!("worst error 2^{:.1}", worst.log2());
}

/// With weights of every precision: those of 20 bits keep the errors of those of 16.
#[test]
fn layers_on_ciphertexts_are_convolutions_by_way_of_a_small_ring() {
    for bits in WEIGHT_BITS {
        let spec = ParametersSpec::toy_coefficients(11, 2);
        let p = parameters(spec.map(|s| s.with_weight_bits(bits)));
        let both = Both::new(&p, 9, p.products(), 3);
        let clear = Clear::new(&Context::new(&p), 1).with_small(&both.switch);
        let mut random = Random::new(12);
        let worst = layers()
            .into_iter()
            .map(|layer| check(&both, &clear, layer, &mut random, 1e-7))
            .fold(0.0, f64::max);
        println!("{bits} bits: worst error 2^{:.1}", worst.log2());
    }
}

/// Encryption's error times a row of weights, packing's and that of the change of rings, before the rescale, which would hide them, as the meter says.
#[test]
fn the_error_of_a_layer_is_what_the_meter_says() {
    let p = parameters(ParametersSpec::toy_coefficients(10, 2));
    let level = p.products();
    let both = Both::new(&p, 8, level, 5);
    let clear = Clear::new(&Context::new(&p), 1).with_small(&both.switch);
    let meter = Meter::new(&Context::new(&p)).with_small(&both.switch);
    let mut random = Random::new(14);
    for (layer, bits) in [
        (Layer::new(16, 16, [6, 6], [3, 3]), 2),
        (Layer::new(32, 16, [6, 6], [3, 3]), 12),
    ] {
        let w = random.signed(bits, layer.outputs * layer.row());
        let folded = layer.folded(p.n(), 1);
        let values: Vec<Vec<f64>> = (0..folded.input().ciphertexts())
            .map(|_| quotient(random.signed(10, p.n()), 1048576.0))
            .collect();
        let xs: Vec<_> = values
            .iter()
            .zip(31..)
            .map(|(v, s)| both.encrypt(v, level, s))
            .collect();
        let meant: Vec<_> = values
            .iter()
            .map(|v| clear.coefficients(v, level).expect("coefficients"))
            .collect();
        let known: Vec<_> = values
            .iter()
            .map(|_| meter.input(level, p.max_slots(), 1.0).expect("an input"))
            .map(|x| Coefficients::of(&meter, x).expect("coefficients"))
            .collect();
        let [got, want] = [0, 1].map(|i| -> Vec<f64> {
            if i == 0 {
                let out = products(&both.evaluator, &xs, &layer, &w);
                out.iter()
                    .flat_map(|y| both.key.decrypt_coefficients(y).to_vec())
                    .collect()
            } else {
                let out = products(&clear, &meant, &layer, &w);
                out.iter()
                    .flat_map(|y| clear.read(y).expect("read"))
                    .collect()
            }
        });
        let squares: f64 = got.iter().zip(&want).map(|(g, w)| (g - w).powi(2)).sum();
        let measured = (squares / got.len() as f64).sqrt();
        let out = products(&meter, &known, &layer, &w);
        let predicted = out[0].value().deviation() / (p.n() as f64).sqrt();
        println!(
            "{bits} bits: measured 2^{:.2}, predicted 2^{:.2}",
            measured.log2(),
            predicted.log2()
        );
        assert!(
            (measured / predicted - 1.0).abs() < 0.15,
            "{measured:e} {predicted:e}"
        );
    }
}

/// ResNet-18's third stage at full size: 128 channels of 28×28 at N = 2^16 by way of 2^13, and its stride of 2.
#[test]
#[ignore = "a ring of degree 2^16"]
fn a_layer_of_resnet_18_at_full_size() {
    let p = parameters(ParametersSpec::coefficients(4));
    let both = Both::new(&p, 13, p.products(), 3);
    let clear = Clear::new(&Context::new(&p), 1).with_small(&both.switch);
    let mut random = Random::new(13);
    for layer in [
        Layer::new(128, 128, [28, 28], [3, 3]),
        Layer::new(128, 64, [28, 28], [3, 3]).stride(2),
    ] {
        let error = check(&both, &clear, layer, &mut random, 1e-6);
        println!("{layer:?}: worst error 2^{:.1}", error.log2());
    }
}
