//! The file that `polyveil bench --save` writes: what one machine costs, and where and with what it was measured.
//!
//! JSON, so that people can read and compare it. A file that is damaged is an error; one that was measured elsewhere or with another
//! engine is [`stale`](MachineFile::stale) and left aside by the caller.

use crate::{Error, Help, Result, machine};
use cost::{MachineCost, Residual, meter_version};
use serde::{Deserialize, Serialize};

/// Version of the file's fields.
const FORMAT: u32 = 2;
/// Larger files are refused.
pub const MACHINE_FILE_LIMIT: u64 = 1 << 20;

/// What a table was measured with and on; a table serves only there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Version of the program.
    pub engine: String,
    /// What the meter counts: [`meter_version`].
    pub meter: String,
    /// Name of the processor.
    pub processor: String,
    /// Instructions that the kernels use.
    pub backend: String,
}

impl Origin {
    /// This program on this machine.
    ///
    /// # Errors
    /// As [`meter_version`].
    pub fn here() -> Result<Self> {
        Ok(Self {
            engine: env!("CARGO_PKG_VERSION").into(),
            meter: meter_version()?,
            processor: machine::processor(),
            backend: format!("{:?}", ring::backend()).to_lowercase(),
        })
    }
}

/// An operation's share in the measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name.
    pub operation: String,
    /// CPU seconds.
    pub cpu_seconds: f64,
    /// CPU seconds by the table.
    pub fitted: f64,
    /// fitted/measured − 1.
    pub relative: f64,
}

impl From<&Residual> for Row {
    fn from(r: &Residual) -> Self {
        Self {
            operation: r.operation.clone(),
            cpu_seconds: r.seconds,
            fitted: r.fitted,
            relative: r.relative(),
        }
    }
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineFile {
    format: u32,
    /// Day of the measurement.
    pub date: String,
    /// Where it serves.
    pub origin: Origin,
    /// The costs.
    pub cost: MachineCost,
    /// What they were fitted to.
    pub rows: Vec<Row>,
}

impl MachineFile {
    /// From a measurement.
    pub fn new(origin: Origin, date: String, cost: MachineCost, residuals: &[Residual]) -> Self {
        Self {
            format: FORMAT,
            date,
            origin,
            cost,
            rows: residuals.iter().map(Row::from).collect(),
        }
    }
    /// Its text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is always JSON") + "\n"
    }
    /// Reads a file of at most [`MACHINE_FILE_LIMIT`] bytes.
    ///
    /// # Errors
    /// [`Error::File`] where it is longer, no JSON of this form, of another format, or holds costs that nobody measured.
    pub fn read(bytes: &[u8], name: &str) -> Result<Self> {
        let refuse = |field: &str, problem: String| {
            let remedy = Help::Measure.with("measure again, or delete the file");
            Err(Error::file(name, field, problem, remedy))
        };
        if bytes.len() as u64 > MACHINE_FILE_LIMIT {
            return refuse("length", "this is too long for a cost table".into());
        }
        /// The part that every format has.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { format }) if format != FORMAT => {
                return refuse(
                    "format",
                    format!("format {format} but {FORMAT} is read here"),
                );
            }
            _ => {}
        }
        let file: Self = match serde_json::from_slice(bytes) {
            Ok(file) => file,
            Err(e) => return refuse("cost table", e.to_string()),
        };
        match file.cost.check() {
            Ok(()) => Ok(file),
            Err(e) => refuse("cost", e.to_string()),
        }
    }
    /// Why it does not serve here, if it does not.
    pub fn stale(&self, here: &Origin) -> Option<String> {
        let Origin {
            engine,
            meter,
            processor,
            backend,
        } = &self.origin;
        let differs = |what: &str, had: &str, needed: &str| {
            (had != needed).then(|| format!("measured {what} {had}, this is {needed}"))
        };
        differs("by engine", engine, &here.engine)
            .or_else(|| differs("with the meter's counts", meter, &here.meter))
            .or_else(|| differs("on processor", processor, &here.processor))
            .or_else(|| differs("with instructions", backend, &here.backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> MachineFile {
        let residual = Residual {
            operation: "rotate".into(),
            seconds: 0.1,
            fitted: 0.101,
        };
        let here = Origin::here().expect("counts");
        MachineFile::new(
            here,
            "2000-01-31".into(),
            MachineCost::default(),
            &[residual],
        )
    }

    #[test]
    fn a_table_survives_its_file() {
        let file = file();
        let again = MachineFile::read(file.to_json().as_bytes(), "machine.json").expect("reads");
        assert_eq!(again, file);
        assert!((again.rows[0].relative - 0.01).abs() < 1e-9);
        assert_eq!(again.stale(&file.origin), None);
    }

    #[test]
    fn files_that_are_no_cost_table_are_refused_in_one_line() {
        let good = file().to_json();
        let spoiled = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            text
        };
        for (text, word) in [
            (good[..good.len() / 2].to_owned(), "cost table"),
            ("[]".into(), "cost table"),
            (spoiled("\"format\": 2", "\"format\": 1"), "format 1"),
            (spoiled("\"date\"", "\"day\""), "day"),
            (spoiled("\"ntt\": ", "\"ntt\": -"), "cost"),
            (spoiled("\"threads\": 2", "\"threads\": 0"), "threads"),
            (" ".repeat(MACHINE_FILE_LIMIT as usize + 1), "length"),
        ] {
            let message = MachineFile::read(text.as_bytes(), "machine.json")
                .expect_err(word)
                .to_string();
            assert!(
                message.starts_with("machine.json: ")
                    && message.contains(word)
                    && message.contains("measure again")
                    && !message.contains('\n'),
                "{message}"
            );
        }
    }

    #[test]
    fn other_engines_and_machines_are_stale() {
        let file = file();
        let here = file.origin.clone();
        let change = |f: &dyn Fn(&mut Origin)| {
            let mut other = here.clone();
            f(&mut other);
            file.stale(&other).expect("stale")
        };
        assert!(change(&|o| o.engine = "9.9.9".into()).contains("9.9.9"));
        assert!(change(&|o| o.meter = "00000000".into()).contains("counts"));
        assert!(change(&|o| o.processor = "Abacus".into()).contains("Abacus"));
        assert!(change(&|o| o.backend = "beads".into()).contains("beads"));
    }
}
