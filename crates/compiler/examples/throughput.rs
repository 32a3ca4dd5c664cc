//! What a transformer layer would cost with a batch in the slots, one ciphertext a channel: counted, not compiled.
//!
//! ```text
//! cargo run --release -p polyveil-compiler --example throughput
//! ```
//! A ciphertext holds one channel of 32 tokens of 1,024 prompts, so that linear layers are sums of multiples without a rotation. Products
//! and sums are counted at level 5, the middle; stories260K's shape.

use ckks::{
    Arithmetic, Bootstrap, Error, Level, Meter, Parameters, ParametersSpec, meter::CostTable,
};
use runtime::plan::Operation;

const WIDTH: f64 = 64.0;
const KV: f64 = 32.0;
const HEADS: f64 = 8.0;
const HIDDEN: f64 = 172.0;
const LENGTH: f64 = 32.0;
const PROMPTS: f64 = 1024.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parameters = Parameters::new(ParametersSpec::standard())?;
    let slots = parameters.max_slots();
    type Value = <Meter as Arithmetic>::Value;
    let seconds = |level: usize, f: &dyn Fn(&Meter, &Value) -> Result<(), Error>| {
        let meter = Meter::new(&parameters);
        let x = meter.input(Level::new(level), slots, 1.0)?;
        f(&meter, &x)?;
        Ok::<f64, Error>(meter.cost().seconds(&CostTable::default()))
    };
    let level = 5;
    let scale = parameters.scale(Level::new(level)).powi(2);
    let multiple = seconds(level, &|m, x| {
        let terms = vec![(0.3, x); 64];
        m.linear_combination(&terms, 0.0, Level::new(level), scale)
            .map(drop)
    })? / 64.0;
    let rescale = seconds(level, &|m, x| m.rescale(x).map(drop))?;
    let product = seconds(level, &|m, x| m.mul(x, x).map(drop))?;
    let relinearisation = seconds(level, &|m, x| m.mul_rescale(x, x).map(drop))? - product;
    let mask = seconds(level, &|m, x| {
        let ones = vec![ckks::Complex64::new(1.0, 0.0); LENGTH as usize];
        m.mul_plain(x, &ones, 1e12).map(drop)
    })?;
    let rotations = seconds(level, &|m, x| {
        let by: Vec<i64> = (1..LENGTH as i64).map(|d| -d).collect();
        m.rotate_many(x, &by).map(drop)
    })?;
    let polynomial = |degree: usize| {
        let p = ckks::Polynomial::new(vec![0.1; degree + 1])?;
        seconds(level + 2, &|m, x| {
            ckks::polynomial::evaluate(m, x, &p).map(drop)
        })
    };
    let bootstrap = seconds(0, &|m, x| {
        let operation = Operation::Bootstrap {
            input: 0,
            output: 1,
            bootstrap: Bootstrap {
                slots,
                target: 10,
                gain: 1.0,
            },
        };
        operation.apply(m, &[*x]).map(drop)
    })?;

    let weights = WIDTH * (WIDTH + 2.0 * KV + WIDTH + 3.0 * HIDDEN);
    let linear = weights * multiple
        + (3.0 * WIDTH + 2.0 * KV + 2.0 * HIDDEN) * rescale
        + 2.0 * (WIDTH + KV) * mask;
    let unfold = 2.0 * KV * rotations + KV * LENGTH * mask;
    let attention = 2.0 * WIDTH * LENGTH * product
        + (HEADS * LENGTH + WIDTH) * relinearisation
        + 2.0 * HEADS * LENGTH * (product + relinearisation);
    let divisions = (HEADS * 14.0 + WIDTH) * (product + relinearisation);
    let norms = 2.0 * (WIDTH * (2.0 * product + relinearisation) + polynomial(15)?);
    let gate = HIDDEN * (polynomial(15)? + product + relinearisation);
    // as the plan of one prompt places them: two roots, 1/x and its companion for each head, the heads' values; two real ones in one
    let bootstraps = ((2.0 + 2.0 * HEADS + WIDTH) / 2.0).ceil();
    let rows = [
        ("projections", linear),
        ("rotations and masks of keys and values", unfold),
        ("scores, powers, weighted sums", attention),
        ("divisions", divisions),
        ("norms", norms),
        ("gate", gate),
        ("bootstraps", bootstraps * bootstrap),
    ];
    let all: f64 = rows.iter().map(|r| r.1).sum();
    for (what, seconds) in rows {
        println!("{what:42} {seconds:8.1} CPU s");
    }
    println!(
        "one layer {all:.0} CPU s for {PROMPTS} prompts, {:.2} CPU s a prompt; {bootstraps} bootstraps of {bootstrap:.2} CPU s",
        all / PROMPTS
    );
    Ok(())
}
