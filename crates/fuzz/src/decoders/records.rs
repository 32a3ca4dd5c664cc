//! Small records in JSON: a machine's cost table, the count of shared answers.

use crate::decoder::{Decoder, law, same};
use crate::json;
use crate::toy::plans;
use cost::{MachineCost, Residual};
use runtime::machine_file::{MachineFile, Origin};
use runtime::sharing::releases::Ledger;
use runtime::{Basis, Prediction, VerifiedPlan};

pub(super) fn all() -> Vec<Decoder> {
    let plan = VerifiedPlan::new(plans()[0].clone()).expect("a valid seed");
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
    let machine = Decoder::new("machine", vec![table.to_json().into_bytes()])
        .mutants(json::generate)
        .reads(
            |b| MachineFile::read(b, "mutant"),
            move |file| {
                same(&file, MachineFile::read(file.to_json().as_bytes(), "again"))?;
                let basis = Basis {
                    source: file.stale(&here).unwrap_or_default(),
                    cost: file.cost,
                    scaled: None,
                };
                let made = Prediction::new(&plan, basis, 2);
                let fine = [made.seconds, made.cpu_seconds];
                let fine = fine.iter().all(|s| s.is_finite() && *s >= 0.0);
                law(fine, "an accepted table predicts times")
            },
        );
    let releases = Decoder::new("releases", ledgers.map(|l| l.as_bytes().to_vec()).into())
        .mutants(json::generate)
        .reads(
            |b| Ledger::read(b, "mutant"),
            |ledger| same(&ledger, Ledger::read(ledger.to_json().as_bytes(), "again")),
        );
    vec![machine, releases]
}
