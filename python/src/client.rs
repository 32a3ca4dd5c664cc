//! The client: the secret key, inputs that become ciphertexts, answers that become numbers.

use crate::arrays::{Array, answer_shape, doubles};
use crate::network::{existing, expect_new};
use crate::work::work;
use polyveil::client::Input;
use polyveil::files::{self, Content, Existing, Output};
use polyveil::keys::KeyFiles;
use polyveil::network::CLIENT_FILE;
use polyveil::runtime::ClientFile;
use polyveil::runtime::limits::resident;
use polyveil::runtime::machine::require_room;
use polyveil::runtime::sharing::RECORD_NAME;
use polyveil::runtime::wire::container::Kind;
use polyveil::session::rng;
use polyveil::task::Answer;
use polyveil::task::tokenizer::Long;
use polyveil::{Error, Help, Listener, Progress, Result, network};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes at hand, or a file of them.
#[derive(FromPyObject)]
pub(crate) enum Bytes {
    Held(PyBackedBytes),
    File(PathBuf),
}

/// What is encrypted.
#[derive(FromPyObject)]
pub(crate) enum Plain {
    Texts(Vec<String>),
    Array(Array),
}

/// Says a warning, which the other side makes one of Python's.
fn warn(tell: Listener<'_>, text: impl std::fmt::Display) {
    tell(Progress {
        message: &format!("warning: {text}"),
        fraction: None,
        remaining: None,
    });
}

/// Says how many of how many are done.
pub(crate) fn count(tell: Listener<'_>, what: &str, (done, all): (usize, usize)) {
    tell(Progress {
        message: &format!("{what} {done}/{all}"),
        fraction: Some(done as f64 / all.max(1) as f64),
        remaining: None,
    });
}

/// Holds a secret key.
#[pyclass(frozen, module = "polyveil._native")]
pub(crate) struct Client {
    client: polyveil::Client,
}

impl Client {
    fn write_keys<W: Write>(&self, out: W, name: &str, tell: Listener<'_>) -> Result<W> {
        let mut told = |done, all| count(tell, "key", (done, all));
        let keys = self.client.keys();
        Ok(keys.write_evaluation_keys(out, name, &mut rng(), &mut told)?)
    }

    /// Writes the secret key and its client file into a folder that holds no others.
    fn save_within(&self, folder: &Path, tell: Listener<'_>) -> Result<PathBuf> {
        files::private_folder(folder, "keys", tell)?;
        let KeyFiles { secret, public } = KeyFiles::within(folder);
        let (client, record) = (folder.join(CLIENT_FILE), folder.join(RECORD_NAME));
        let own = client.exists() && network::client_file(&client)? == *self.client.keys().file();
        let others = [&secret, &public, &record, &client].into_iter();
        if let Some(other) = others
            .filter(|p| !(own && **p == client))
            .find(|p| p.exists())
        {
            let what = format!(
                "{} is there, which belongs to a key (what was encrypted with it is lost without it)",
                other.display()
            );
            return Err(Error::Refused {
                what,
                help: Some(Help::ReplaceKeys),
            });
        }
        let mut create = |path: &Path, kind| {
            let content = Content::Container(kind);
            Output::create(path, content, &[], Existing::Kin, tell)
        };
        let files = [
            create(&secret, Kind::ClientKey)?,
            create(&client, Kind::ClientFile)?,
        ];
        let [key, beside] = files;
        let keys = self.client.keys();
        let (beside, ()) =
            beside.fill(|out, name| Ok(keys.file().write(out, name).map(drop)?))?;
        let (key, ()) = key.fill(|out, name| Ok(keys.write(out, name).map(drop)?))?;
        // a key is of no use without its client file, which is none of the secrets
        beside.place()?;
        key.place()?;
        Ok(secret)
    }
}

/// What an answer says, in order of the network's outputs.
fn said(answer: &Answer<'_>) -> Value {
    match answer {
        Answer::Classes(scores) => {
            let mut all = scores.top(scores.values().len());
            let best = scores.best();
            all.sort_by_key(|c| c.index);
            json!({
                "kind": "classes", "best": best, "names": all.iter().map(|c| &c.name).collect::<Vec<_>>(),
                "probabilities": all.iter().map(|c| c.probability).collect::<Vec<_>>(),
            })
        }
        Answer::Labels(all) => json!({
            "kind": "labels", "names": all.iter().map(|c| &c.name).collect::<Vec<_>>(),
            "probabilities": all.iter().map(|c| c.probability).collect::<Vec<_>>(),
        }),
        Answer::Probabilities(all) => json!({
            "kind": "labels", "names": all.iter().map(|v| &v.name).collect::<Vec<_>>(),
            "probabilities": all.iter().map(|v| v.value.clamp(0.0, 1.0)).collect::<Vec<_>>(),
        }),
        Answer::Values(all) => json!({
            "kind": "values", "names": all.iter().map(|v| &v.name).collect::<Vec<_>>(),
        }),
        Answer::Tensor(..) => json!({ "kind": "tensor" }),
        _ => json!({ "kind": "tokens" }),
    }
}

#[pymethods]
impl Client {
    #[new]
    fn new(
        py: Python<'_>,
        file: Bytes,
        insecure_toy: bool,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        work(py, hear, |_| {
            let file = match &file {
                Bytes::Held(bytes) => ClientFile::read(&bytes[..], "client file")?,
                Bytes::File(path) => network::client_file(path)?,
            };
            let spec = file.parameters().spec();
            if spec.is_toy() && !insecure_toy {
                let what = format!(
                    "`{}` is a toy parameter set that protects nothing; accept it by insecure_toy=True, or compile for a secure one",
                    spec.name
                );
                return Err(what.into());
            }
            Ok(Self {
                client: polyveil::Client::new(file)?,
            })
        })
    }

    #[staticmethod]
    fn load(
        py: Python<'_>,
        key: PathBuf,
        file: Option<PathBuf>,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        work(py, hear, |tell| {
            let key = match key.is_dir() {
                true => KeyFiles::within(&key).secret,
                false => key,
            };
            let client = polyveil::Client::open(&key, file.as_deref())?;
            if let Some(warning) = files::readable_by_others(&key)? {
                warn(tell, warning);
            }
            Ok(Self { client })
        })
    }

    fn save(&self, py: Python<'_>, folder: PathBuf, hear: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
        work(py, hear, |tell| self.save_within(&folder, tell))
    }

    fn evaluation_keys<'py>(
        &self,
        py: Python<'py>,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = work(py, hear, |tell| {
            let length = self.client.keys().evaluation_keys_bytes();
            // once here and once as Python's
            let needed = resident() + 2 * length;
            require_room(
                "evaluation keys as bytes",
                needed,
                ", or write them to a file",
            )?;
            let room = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            self.write_keys(room, "evaluation keys", tell)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn save_evaluation_keys(
        &self,
        py: Python<'_>,
        path: PathBuf,
        overwrite: bool,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        work(py, hear, |tell| {
            expect_new(&path, overwrite)?;
            let content = Content::Container(Kind::EvaluationKeys);
            let output = Output::create(&path, content, &[], existing(overwrite), tell)?;
            output.require_room(self.client.keys().evaluation_keys_bytes())?;
            output.write(|out, name| self.write_keys(out, name, tell).map(drop))
        })
    }

    #[getter]
    fn batch(&self) -> usize {
        self.client.keys().spec().input.batch
    }

    #[getter]
    fn key(&self) -> String {
        self.client.keys().key().to_string()
    }

    fn encrypt<'py>(
        &self,
        py: Python<'py>,
        plain: Plain,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = work(py, hear, |tell| {
            let inputs = match &plain {
                Plain::Array(array) => array.inputs(self.client.task())?.0,
                Plain::Texts(texts) => {
                    let text = |t: &String| Input::Text(t.clone(), Long::Refuse);
                    texts.iter().map(text).collect()
                }
            };
            let values = self.client.encode(&inputs, tell)?;
            Ok(self.client.keys().input(&values, &mut rng())?)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The values of the first `count` answers, the lengths of their axes, and what they say as JSON.
    fn read<'py>(
        &self,
        py: Python<'py>,
        answer: Bytes,
        answers: Option<usize>,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<usize>, String)> {
        let (values, shape, said) = work(py, hear, |tell| {
            let (keys, task) = (self.client.keys(), self.client.task());
            let (spec, port) = (keys.spec(), &keys.spec().output);
            let count = match answers {
                Some(n) if (1..=port.batch).contains(&n) => n,
                None if port.batch == 1 => 1,
                asked => {
                    let had = asked.map_or("nobody says how many".into(), |n| n.to_string());
                    let what = format!(
                        "answers: {had}; the plan takes {} inputs at a time",
                        port.batch
                    );
                    return Err(Error::Refused {
                        what,
                        help: Some(Help::NameCount),
                    });
                }
            };
            let judged = match &answer {
                Bytes::Held(bytes) => keys.read_doubtful(&bytes[..], "the answer")?,
                Bytes::File(path) => {
                    keys.read_doubtful(files::open(path)?, &path.display().to_string())?
                }
            };
            if let Some(doubt) = &judged.doubt {
                warn(
                    tell,
                    format_args!(
                        "nobody can tell whether this answer is right: {doubt}; compare with the network in the clear on the same input, and don't rely on it alone"
                    ),
                );
            }
            let each = port.elements();
            let values = judged.values[..count * each].to_vec();
            let one = answer_shape(task, each);
            let shape = match answers {
                Some(count) => [vec![count], one].concat(),
                None => one,
            };
            let all = values
                .chunks_exact(each)
                .map(|v| Ok(said(&task.decode(v)?)));
            let all: Vec<Value> = all.collect::<Result<_>>()?;
            let text = json!({
                "answers": all, "error": spec.answer.of_network(), "doubt": judged.doubt.map(|d| d.to_string()),
                "alarm": judged.alarm.map(|a| [a.measured, a.allowed]),
            });
            Ok((values, shape, text.to_string()))
        })?;
        Ok((doubles(py, &values), shape, said))
    }
}
