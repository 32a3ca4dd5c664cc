//! What linear layers in coefficients are made of, at N and in the small ring that they may change to.

use super::{Bench, Row, on};
use crate::error::Result;
use crate::session::rng;
use ckks::packing::packing_keys;
use ckks::{
    Arithmetic, Coefficients, Context, Convolution, Evaluator, Folded, KeyRequest, Parameters,
    RingSwitch, SecretKey,
};
use cost::workload::{Reading, Timing};

/// Input ciphertexts, and outputs, of the layer that products are timed in; channels of a ciphertext.
const INPUTS: usize = 8;
const OUTPUTS: usize = 16;
const CHANNELS: usize = 64;

/// A product of a ciphertext with weights, two primes each, and a switch of keys of packing: at the lowest levels of a set, with as few special primes as
/// they need.
pub(super) fn rows(bench: &mut Bench<'_, '_>, p: &Parameters, log_small: u32) -> Result<()> {
    let names = |log_n: u32| ["pair", "key_switch"].map(|row| format!("{row} 2^{log_n}"));
    let all = [names(p.spec().log_n), names(log_small)];
    if !all.iter().flatten().any(|name| bench.wants(name)) {
        return Ok(());
    }
    let switch = RingSwitch::new(p, log_small, p.products())?;
    for (context, names) in [switch.wide(), switch.small()].into_iter().zip(all) {
        ring(bench, context, names)?;
    }
    Ok(())
}

fn ring(bench: &mut Bench<'_, '_>, context: &Context, [pair, switch]: [String; 2]) -> Result<()> {
    let p = context.parameters();
    let (n, level, runs) = (p.n(), p.residual(), bench.runs());
    let limbs = p.limbs(level).len();
    let fold = |channels| Folded::new(n, CHANNELS, 1, 1, [channels, 1, 1]);
    let (input, output) = (fold(INPUTS * CHANNELS)?, fold(OUTPUTS)?);
    let layer = Convolution::new(&input, &output, [1, 1], [0, 0], 1, 1)?;
    let weights: Vec<i32> = (0..OUTPUTS * layer.row())
        .map(|i| (i * 9973 % 65536) as i32 - 32768)
        .collect();
    let secret = SecretKey::generate(p, &mut rng());
    let mut request = KeyRequest::default();
    for name in packing_keys(p, 2) {
        request.need(name, p.key_limit(level));
    }
    let keys = secret.evaluation_keys(&request, &mut rng())?;
    let evaluator = Evaluator::new(context, keys);
    let xs = (0..INPUTS)
        .map(|_| {
            let x = secret.encrypt_coefficients(&vec![0.25; n], level, &mut rng())?;
            Coefficients::of(&evaluator, x.expand(p))
        })
        .collect::<Result<Vec<_>, _>>()?;
    for threads in bench.counts.clone() {
        if bench.wants(&pair) {
            let timing = on(threads, runs, || {
                Ok(evaluator
                    .weigh(&xs, &layer, 0..OUTPUTS, &weights, 65536.0)
                    .map(drop)?)
            })?;
            let timing = each(timing, layer.pairs() as f64);
            bench.add(Row::new(&pair, threads, timing, runs).on(p, limbs));
        }
        if bench.wants(&switch) {
            let x = xs[0].value();
            let timing = on(threads, runs, || {
                // X → X^(1 + N): packing's last step
                (0..INPUTS).try_for_each(|_| evaluator.rotate(x, n as i64 / 4).map(drop))?;
                Ok(())
            })?;
            let timing = each(timing, INPUTS as f64);
            bench.add(Row::new(&switch, threads, timing, runs).on(p, limbs));
        }
    }
    Ok(())
}

/// One of so many alike.
fn each(timing: Timing, count: f64) -> Timing {
    Timing {
        taken: Reading {
            cpu: timing.taken.cpu / count,
            wall: timing.taken.wall / count,
        },
        references: timing.references / count,
        ..timing
    }
}
