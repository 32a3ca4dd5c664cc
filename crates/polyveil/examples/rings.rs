//! What units of work cost in rings of N = 2^13 to 2^16, relative to what N = 2^16 costs by proportion: `CostTable::for_ring` has the figures.
//!
//! `cargo run --release -p polyveil --example rings [RUNS]`

use ckks::{CostTable, Parameters, ParametersSpec};
use cost::workload::{self, OPERATIONS, Reading, Workload};
use cost::{Observation, fit};
use rand_core::SeedableRng;
use runtime::machine::cpu_seconds;
use std::time::Instant;

fn main() -> polyveil::Result<()> {
    let runs = std::env::args().nth(1).and_then(|a| a.parse().ok());
    let start = Instant::now();
    let clock = || Reading {
        cpu: cpu_seconds(),
        wall: start.elapsed().as_secs_f64(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|e| e.to_string())?;
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let mut whole: Option<CostTable> = None;
    println!(
        "{:6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "NTT", "mul-add", "convert", "pass", "expand", "encode"
    );
    for log_n in (13..=16u32).rev() {
        // as many limbs everywhere, so that only the ring differs
        let set = ParametersSpec {
            name: "toy-rings".into(),
            ..ParametersSpec::levelled(log_n, 9, 38, 4)
        };
        let p = Parameters::new(set)?;
        let mut work = Workload::new(&p, &OPERATIONS, &mut rng)?;
        let operations: Vec<_> = work.operations().collect();
        let mut observations = Vec::new();
        for (i, (o, cost)) in operations.iter().enumerate() {
            let taken =
                pool.install(|| workload::time(runs.unwrap_or(9), &clock, || work.run(i)))?;
            observations.push(Observation {
                operation: o.name.into(),
                cost: *cost,
                seconds: taken.cpu,
                weight: o.weight,
            });
        }
        let share = (f64::from(log_n) - 16.0).exp2();
        let by_proportion = |t: CostTable| CostTable {
            ntt: t.ntt * share * f64::from(log_n) / 16.0,
            multiply_add: t.multiply_add * share,
            conversion: t.conversion * share,
            pass: t.pass * share,
            expansion: t.expansion * share,
            encode: t.encode,
        };
        let prior = by_proportion(whole.unwrap_or_default());
        let (table, residuals) = fit(&observations, &prior)?;
        let whole = *whole.get_or_insert(table);
        let relative = table.units().into_iter().zip(by_proportion(whole).units());
        print!("2^{log_n:4}");
        relative.for_each(|(had, want)| print!(" {:9.3}", had / want));
        println!();
        for r in residuals {
            println!(
                "   {:24} {:10.4} ms, by table {:+.1} %",
                r.operation,
                r.seconds * 1e3,
                100.0 * r.relative()
            );
        }
    }
    Ok(())
}
