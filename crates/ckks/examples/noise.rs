//! The meter's bootstrap bound (development probe).
use ckks::*;
fn main() {
    let p = Parameters::new(ParametersSpec::standard()).unwrap();
    for log in [15, 14, 13, 12] {
        let meter = Meter::new(&p);
        let x = meter.input(Level::new(0), 1 << log, 0.5).unwrap();
        let y = meter.bootstrap(&x, &Bootstrap { slots: 1 << log, target: 10, gain: 2.0 }).unwrap();
        println!("2^{log}: bound 2^{:.1}", y.error_bound().log2());
    }
}
