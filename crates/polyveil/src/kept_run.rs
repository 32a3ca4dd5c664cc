//! A measured run that lies in a folder: the same command goes on with it after it was stopped. A large transformer's takes hours.

use crate::error::{Error, Result, named};
use crate::files::{self, Content, Existing, Output};
use crate::keys::{KeyFiles, KeygenOptions, keygen};
use crate::machine::Machine;
use crate::network::{self, PlanFiles};
use crate::progress::{Listener, Say};
use crate::serve::{Serving, measure};
use crate::session::{Outcome, rng};
use ckks::Ciphertext;
use nn::PolyGraph;
use runtime::wire::container::Kind;
use runtime::{Client, Done, Observer, Prediction, VerifiedPlan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Most bytes of the answers in the clear, and of the record of times.
const LIMIT: u64 = 1 << 32;

/// A network that was compiled, and what is needed of it afterwards.
pub(crate) struct Made {
    pub(crate) plan: Arc<VerifiedPlan>,
    /// Its answers in the clear, one after the other.
    pub(crate) clear: Vec<f64>,
    pub(crate) facts: Facts,
}

/// What is known of compiling.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) compile_seconds: f64,
    pub(crate) compile_peak_bytes: u64,
}

/// The files of one run.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder that only its owner can read, since a secret key lies in it; made if missing.
    pub(crate) fn open(path: PathBuf, tell: Listener<'_>) -> Result<Self> {
        files::private_folder(&path, "keys", tell)?;
        Ok(Self { path })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What an earlier process made, if it came so far.
    pub(crate) fn find(&self, tell: Listener<'_>) -> Result<Option<Made>> {
        let [facts, clear] = ["made.json", "clear.f64"].map(|name| self.place(name));
        if !facts.exists() {
            return Ok(None);
        }
        let bad = |e: serde_json::Error| named(&facts)(format!("{e}; begin in another folder"));
        let (text, bytes) = (files::read(&facts, LIMIT)?, files::read(&clear, LIMIT)?);
        let made = Made {
            facts: serde_json::from_slice(&text).map_err(bad)?,
            plan: Arc::new(network::plan(&self.place("net.plan"))?),
            clear: (bytes.chunks_exact(8))
                .map(|b| f64::from_le_bytes(b.try_into().unwrap_or_default()))
                .collect(),
        };
        let outputs = made.plan.plan().output.shape.iter().product::<usize>();
        if made.clear.is_empty() || !made.clear.len().is_multiple_of(outputs.max(1)) {
            let what = format!("{} values, the plan gives {outputs}", made.clear.len());
            return Err(named(&clear)(format!("{what}; begin in another folder")));
        }
        tell.note(format_args!(
            "the plan of an earlier run is in {}",
            self.path.display()
        ));
        Ok(Some(made))
    }

    /// Keeps what was made; the plan is read again from its file, so that what its weights are made of can go.
    pub(crate) fn keep(
        &self,
        made: &Made,
        graph: &PolyGraph,
        tell: Listener<'_>,
    ) -> Result<Arc<VerifiedPlan>> {
        let plan = self.place("net.plan");
        PlanFiles::create(&plan, &[], Existing::Kin, tell)?.save(&made.plan, graph)?;
        let clear: Vec<u8> = made.clear.iter().flat_map(|v| v.to_le_bytes()).collect();
        let facts = serde_json::to_vec(&made.facts).map_err(|e| Error::from(e.to_string()))?;
        // the last says that all are there
        for (name, bytes) in [("clear.f64", clear), ("made.json", facts)] {
            let path = self.place(name);
            Output::create(&path, Content::Other, &[], Existing::Any, tell)?.write_bytes(&bytes)?;
        }
        Ok(Arc::new(network::plan(&plan)?))
    }

    /// Carries the plan out on these values, or goes on with it.
    pub(crate) fn run(
        &self,
        (plan, prediction): (&Arc<VerifiedPlan>, &Prediction),
        values: &[f64],
        machine: &Machine,
        tell: Listener<'_>,
    ) -> Result<Outcome> {
        let [file, folder, input] = ["net.client", "keys", "x.input"].map(|name| self.place(name));
        let keys = KeyFiles::within(&folder);
        if !keys.secret.exists() {
            keygen(&file, &folder, KeygenOptions::default(), machine, tell)?;
        }
        let name = keys.secret.display().to_string();
        let client = network::client_file(&file)?;
        let client = Client::read(files::open(&keys.secret)?, &name, client)?;
        if !input.exists() {
            let content = Content::Container(Kind::Input);
            let out = Output::create(&input, content, &[], Existing::Kin, tell)?;
            out.write(|out, name| {
                Ok(client
                    .write_input(values, out, name, &mut rng())
                    .map(drop)?)
            })?;
        }
        let mut serving = Serving {
            plan: self.place("net.plan"),
            keys: keys.public,
            input,
            output: self.place("answer"),
            ..Serving::default()
        };
        serving.resume = serving.kept().exists();
        serving.expect(tell)?;
        let mut times = Times::of(self.place("times.json"), serving.kept(), serving.resume)?;
        let (mut measured, _) = measure(plan, prediction, None, &serving, &mut times, tell)?;
        measured.steps = times.steps;
        let sum = |of: fn(&(f64, f64)) -> f64| measured.steps.values().map(of).sum();
        (measured.seconds, measured.cpu_seconds) = (Some(sum(|s| s.0)), Some(sum(|s| s.1)));
        let answer = serving.output.display().to_string();
        let judged = client.read_doubtful(files::open(&serving.output)?, &answer)?;
        Ok(Outcome {
            values: judged.values,
            doubt: judged.doubt,
            measured,
        })
    }
}

/// What steps took, those of the processes before included: a step that was carried out twice counts as it was the last time.
struct Times {
    record: PathBuf,
    checkpoint: PathBuf,
    /// When the checkpoint was written for which times are on disk.
    written: Option<SystemTime>,
    /// (wall, CPU) seconds.
    steps: BTreeMap<usize, (f64, f64)>,
}

impl Times {
    fn of(record: PathBuf, checkpoint: PathBuf, resume: bool) -> Result<Self> {
        let mut steps = BTreeMap::new();
        if resume && record.exists() {
            let bad =
                |e: serde_json::Error| named(&record)(format!("{e}; begin in another folder"));
            let list =
                serde_json::from_slice::<Vec<(usize, (f64, f64))>>(&files::read(&record, LIMIT)?);
            steps.extend(list.map_err(bad)?);
        }
        Ok(Self {
            record,
            checkpoint,
            written: None,
            steps,
        })
    }

    fn save(&self) -> std::io::Result<()> {
        let list: Vec<_> = self.steps.iter().collect();
        let new = self.record.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&list)?)?;
        std::fs::rename(new, &self.record)
    }
}

impl Observer<Ciphertext> for Times {
    fn end(&mut self, done: &Done<'_, Ciphertext>) -> runtime::Result<()> {
        self.steps
            .insert(done.index, (done.seconds, done.cpu_seconds));
        let written = modified(&self.checkpoint);
        if written.is_some() && written != self.written {
            self.written = written;
            self.save().map_err(|source| runtime::Error::Io {
                file: self.record.display().to_string(),
                source,
            })?;
        }
        Ok(())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::{Operation, Purpose, State, Step};

    #[test]
    fn times_of_a_run_go_on_behind_the_last_checkpoint() {
        let folder = std::env::temp_dir().join(format!("polyveil-times-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let [record, checkpoint] = ["times.json", "x.checkpoint"].map(|n| folder.join(n));
        let step = Step {
            layer: "x".into(),
            purpose: Purpose::Weights,
            operation: Operation::Align {
                input: 0,
                output: 1,
                level: 0,
            },
            unit: 1.0,
            interval: None,
        };
        let state = State {
            next: 1,
            key: runtime::KeyId::default(),
            live: BTreeMap::new(),
        };
        let ended = |times: &mut Times, index, seconds| {
            let done = Done {
                index,
                step: &step,
                results: &[],
                state: &state,
                seconds,
                cpu_seconds: 2.0 * seconds,
            };
            times.end(&done).expect("written");
        };
        let of = |resume| Times::of(record.clone(), checkpoint.clone(), resume).expect("read");
        let mut first = of(false);
        ended(&mut first, 0, 1.0);
        assert!(!record.exists());
        std::fs::write(&checkpoint, b"0").expect("written");
        ended(&mut first, 1, 1.0);
        // not in the record, as the step that a killed run carries out again
        ended(&mut first, 2, 9.0);
        let mut second = of(true);
        ended(&mut second, 2, 3.0);
        let want = [(0, (1.0, 2.0)), (1, (1.0, 2.0)), (2, (3.0, 6.0))];
        assert_eq!(second.steps, BTreeMap::from(want));
        assert!(of(false).steps.is_empty());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
