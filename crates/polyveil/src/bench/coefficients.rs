//! What linear layers in coefficients are made of, at N and in the small ring that they may change to.

use crate::error::Result;
use crate::machine::{clock, pool};
use crate::session::rng;
use ckks::packing::packing_keys;
use ckks::{
    Arithmetic, Coefficients, Context, Convolution, Evaluator, Folded, KeyRequest, Parameters,
    RingSwitch, SecretKey,
};
use cost::workload::{Reading, Timing, time_beside_reference};

/// Input ciphertexts, and outputs, of the layer that products are timed in; channels of a ciphertext.
const INPUTS: usize = 8;
const OUTPUTS: usize = 16;
const CHANNELS: usize = 64;

/// How to measure, and what.
pub(super) struct Wanted<'a> {
    /// Runs per row.
    pub(super) runs: usize,
    /// Thread counts.
    pub(super) counts: &'a [usize],
    /// Whether a row of this name is asked for.
    pub(super) row: &'a dyn Fn(&str) -> bool,
}

/// What was measured: a name, threads, one call's time, the parameters.
pub(super) type Measured = (String, usize, Timing, Parameters);

/// A product of a ciphertext with weights, two primes each, and a switch of keys of packing: at the lowest levels of a set, with as few special primes as
/// they need.
pub(super) fn rows(p: &Parameters, log_small: u32, wanted: &Wanted<'_>) -> Result<Vec<Measured>> {
    let names = |log_n: u32| ["pair", "key_switch"].map(|row| format!("{row} 2^{log_n}"));
    let all = [names(p.spec().log_n), names(log_small)];
    let mut rows = Vec::new();
    if !all.iter().flatten().any(|name| (wanted.row)(name)) {
        return Ok(rows);
    }
    let switch = RingSwitch::new(p, log_small, p.products())?;
    for (context, names) in [switch.wide(), switch.small()].into_iter().zip(all) {
        rows.extend(ring(context, names, wanted)?);
    }
    Ok(rows)
}

fn ring(
    context: &Context,
    [pair, switch]: [String; 2],
    wanted: &Wanted<'_>,
) -> Result<Vec<Measured>> {
    let p = context.parameters();
    let (n, level, runs) = (p.n(), p.residual(), wanted.runs);
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
    let on = |threads: usize,
              count: usize,
              mut call: Box<dyn FnMut() -> Result<()> + Send + '_>| {
        let timing = pool(threads)?.install(|| time_beside_reference(runs, &clock(), &mut call));
        Ok::<_, crate::error::Error>(each(timing?, count as f64))
    };
    let mut rows = Vec::new();
    for &threads in wanted.counts {
        if (wanted.row)(&pair) {
            let products = || {
                let products = evaluator.weigh(&xs, &layer, 0..OUTPUTS, &weights, 65536.0);
                Ok(products.map(drop)?)
            };
            let timing = on(threads, layer.pairs(), Box::new(products))?;
            rows.push((pair.clone(), threads, timing, p.clone()));
        }
        if (wanted.row)(&switch) {
            let x = xs[0].value();
            // X → X^(1 + N): packing's last step
            let by = n as i64 / 4;
            let switches = || {
                (0..INPUTS).try_for_each(|_| evaluator.rotate(x, by).map(drop))?;
                Ok(())
            };
            let timing = on(threads, INPUTS, Box::new(switches))?;
            rows.push((switch.clone(), threads, timing, p.clone()));
        }
    }
    Ok(rows)
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
