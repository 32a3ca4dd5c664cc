//! Small records in JSON: a machine's cost table, the count of shared answers.

use super::{Decoder, again, law, text_limit};
use crate::json;
use crate::toy::plans;
use cost::{MachineCost, Residual};
use runtime::machine_file::{MachineFile, Origin};
use runtime::sharing::releases::Ledger;
use runtime::{Basis, Prediction, VerifiedPlan};

fn records(name: &'static str, seeds: Vec<Vec<u8>>, decode: super::Decode) -> Decoder {
    let texts = seeds.clone();
    Decoder {
        name,
        seeds,
        limit: text_limit,
        generate: Box::new(move |r| json::generate(r, &texts)),
        decode,
    }
}

pub(super) fn all() -> Vec<Decoder> {
    let plan = VerifiedPlan::new(plans().remove(0)).expect("a valid seed");
    let here = Origin::here().expect("counts");
    let row = Residual {
        operation: "rotate".into(),
        seconds: 0.1,
        fitted: 0.101,
    };
    let table = MachineFile::new(
        here.clone(),
        "2000-01-31".into(),
        MachineCost::default(),
        &[row],
    );
    let ledgers = [
        r#"{"key": "0123456789abcdef0123456789abcdef", "security": 40, "releases": 16, "used": 3, "class_refused": true}"#,
        r#"{"key": "", "security": 64, "releases": 1048576, "used": 0}"#,
    ];
    vec![
        records(
            "machine",
            vec![table.to_json().into_bytes()],
            Box::new(move |probe| {
                let Ok(file) = probe.count(|b| MachineFile::read(b, "mutant")) else {
                    return Ok(false);
                };
                let back = again(MachineFile::read(file.to_json().as_bytes(), "again"))?;
                law(back == file, "a table read, written and read is the same")?;
                let basis = Basis {
                    source: file.stale(&here).unwrap_or_default(),
                    cost: file.cost,
                    scaled: None,
                };
                let prediction = Prediction::new(&plan, basis, 2);
                let fine = |s: f64| s.is_finite() && s >= 0.0;
                law(
                    fine(prediction.seconds()) && fine(prediction.cpu_seconds()),
                    "an accepted table predicts times",
                )?;
                Ok(true)
            }),
        ),
        records(
            "releases",
            ledgers.map(|l| l.as_bytes().to_vec()).to_vec(),
            Box::new(|probe| {
                let Ok(ledger) = probe.count(|b| Ledger::read(b, "mutant")) else {
                    return Ok(false);
                };
                let back = again(Ledger::read(ledger.to_json().as_bytes(), "again"))?;
                law(
                    back == ledger,
                    "a record read, written and read is the same",
                )?;
                Ok(true)
            }),
        ),
    ]
}
