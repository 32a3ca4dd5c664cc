//! The client's side: inputs become ciphertexts, answers become what they mean.

use crate::error::{Error, Help, Result, named};
use crate::files::{self, Output, folder_of};
use crate::inputs::{self, Source, encode_picture, encode_text};
use crate::memory;
use crate::network::{CLIENT_FILE, answer_lines, client_file, label, task_or};
use crate::positions::{Missing, listed, missing, require_some};
use crate::progress::{Listener, Say};
use crate::session::{doubted, rng};
use runtime::sharing::{RECORD_NAME, Terms};
use runtime::wire::container::{Header, Kind, expect_together};
use runtime::{ClientFile, size};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use task::scores::margin;
use task::tokenizer::Long;
use task::{Answer, Outputs, Picture, Prompts, Task, Tokens};

/// Something to encrypt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A number of a file or a set.
    Item(Source, usize),
    /// A picture at hand, of the network's size.
    Picture(Picture),
    /// A row of numbers.
    Row(Vec<f64>),
    /// A prompt or a sentence; whether one that is too long is cut.
    Text(String, Long),
}

impl Input {
    /// All files that are read.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Item(source, _) => source.files(),
            _ => Vec::new(),
        }
    }
}

/// A client: its secret key, and what its network's inputs and answers mean.
#[derive(Debug)]
pub struct Client {
    keys: runtime::Client,
    task: Task,
    /// Where the key lies, of a client from a file.
    path: PathBuf,
}

/// Refuses an answer that was made for another key, by the headers of both alone; what is no regular file can be read but once, and is compared
/// later.
///
/// # Errors
/// As said, and files of other kinds.
pub fn expect_own(key: &Path, answer: &Path) -> Result<()> {
    if !answer.is_file() {
        return Ok(());
    }
    let [of_key, of_answer] = [key, answer].map(|p| p.display().to_string());
    let header = |path, name: &str| Ok::<_, Error>(Header::read(&mut files::open(path)?, name)?);
    let headers = [
        (&*of_key, header(key, &of_key)?),
        (&*of_answer, header(answer, &of_answer)?),
    ];
    Ok(expect_together(&headers)?)
}

impl Client {
    /// A client with a new secret key.
    ///
    /// # Errors
    /// A client file whose task can't be read.
    pub fn new(file: ClientFile) -> Result<Self> {
        Self::with(runtime::Client::new(file, &mut rng()), PathBuf::new())
    }

    /// From a key file and its client file: `file`, or the one that lies beside the key.
    ///
    /// # Errors
    /// Other kinds of files, damaged ones, and those of different clients.
    pub fn open(key: &Path, file: Option<&Path>) -> Result<Self> {
        let beside = key.with_file_name(CLIENT_FILE);
        let place = file.unwrap_or(&beside);
        let (file, name) = (client_file(place)?, key.display().to_string());
        let (header, secret) = Header::ahead(files::open(key)?, &name)?;
        header.expect(Kind::ClientKey, &name)?;
        if header.ids.client != *file.digest() {
            return Err(named(place)(format!(
                "it is another client file than {name} was made from; give its own, which lies beside it as {CLIENT_FILE} where nobody moved it"
            )));
        }
        Self::with(runtime::Client::read(secret, &name, file)?, key.into())
    }

    fn with(keys: runtime::Client, path: PathBuf) -> Result<Self> {
        let shape = |dims: &[usize]| match *dims {
            [channels, height, width] => nn::Shape::image(channels, height, width),
            _ => nn::Shape::Vector(dims.iter().product()),
        };
        let (spec, bytes) = (keys.spec(), keys.file().task());
        let task = match bytes.is_empty() {
            true => None,
            false => Some(Task::from_bytes(bytes)?),
        };
        let task = task_or(task, shape(&spec.input.shape), shape(&spec.output.shape))?;
        Ok(Self { keys, task, path })
    }

    /// The key and the ciphertexts' side of it.
    pub fn keys(&self) -> &runtime::Client {
        &self.keys
    }

    /// What inputs and answers mean.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The evaluation keys, which the server needs.
    ///
    /// # Errors
    /// What the scheme refuses.
    pub fn evaluation_keys(&self) -> Result<Vec<u8>> {
        let name = "evaluation keys";
        let keys = &self.keys;
        Ok(keys.write_evaluation_keys(Vec::new(), name, &mut rng(), &mut |_, _| {})?)
    }

    /// Inputs as the values that the plan takes, one after the other.
    ///
    /// # Errors
    /// Inputs of another kind or size than the network takes.
    pub fn encode(&self, items: &[Input], tell: Listener<'_>) -> Result<Vec<f64>> {
        Ok(self.encode_counted(items, tell)?.0)
    }

    /// As [`Client::encode`], with the bytes that decoding the largest picture took.
    fn encode_counted(&self, items: &[Input], tell: Listener<'_>) -> Result<(Vec<f64>, u64)> {
        let mut memory = 0;
        let text = matches!(self.task, Task::Prompts(_) | Task::Sentences(_));
        let mut values = Vec::new();
        // a batch mostly comes from one file, which is read once
        let mut opened: Option<inputs::One<'_>> = None;
        for input in items {
            let encoded = match input {
                Input::Text(text, long) => encode_text(&self.task, text, *long)?,
                Input::Item(source, _) if text => {
                    let what = format!("{}: this plan takes text", source.path.display());
                    return Err(Error::refused(what, Help::GiveText));
                }
                Input::Item(source, i) => {
                    let at_hand = opened.take().filter(|one| one.is(source));
                    let one = match at_hand {
                        Some(one) => one,
                        None => inputs::One::open(&self.task, source, tell)?,
                    };
                    opened.insert(one).encode(*i, tell)?
                }
                Input::Picture(picture) => encode_picture(&self.task, picture, false)?.into(),
                Input::Row(row) => self.task.encode(&task::Input::Row(row))?.into(),
            };
            if let Some((tokens, true)) = &encoded.tokens {
                tell.note(format_args!("the text was cut to {} tokens", tokens.len()));
            }
            if let (Task::Prompts(prompts), Some((tokens, _))) = (&self.task, &encoded.tokens)
                && let Some(lacks) = require_some(prompts, tokens.len())?
            {
                tell.note(format_args!(
                    "{lacks}: what follows the prompt is not among them"
                ));
            }
            if let Input::Item(source, i) = input {
                self.require_within(source, *i, encoded.tensor.values())?;
            }
            memory = encoded.memory.max(memory);
            values.extend(encoded.tensor.into_values());
        }
        Ok((values, memory))
    }

    /// Refuses an input of values that the network was not calibrated for, and says where in the file they are. What is no file's is refused when it
    /// is encrypted.
    fn require_within(&self, source: &Source, index: usize, values: &[f64]) -> Result<()> {
        let most = self.keys.spec().description.input_bound;
        let mut all = values.iter().copied().enumerate();
        let Some((at, value)) = all.find(|(_, v)| most > 0.0 && v.abs() > most) else {
            return Ok(());
        };
        let what = match &self.task {
            Task::Vectors(t) => {
                let (mean, deviation) = match t.normalization() {
                    Some(n) => (n.mean[at], n.deviation[at]),
                    None => (0.0, 1.0),
                };
                let range = deviation.abs() * most;
                format!(
                    "row {index}, counted from 0, column {:?} is {:.6}, the network was calibrated for {:.6} to {:.6}",
                    t.columns()[at],
                    value * deviation + mean,
                    mean - range,
                    mean + range
                )
            }
            _ => format!(
                "number {index}, counted from 0: a value of the input is {value:.4}, the network was calibrated for magnitudes up to {most:.4}"
            ),
        };
        let remedy = "check it, or ask whoever gave you the client file to calibrate on data that have such values";
        Err(named(&source.path)(format!("{what}; {remedy}")))
    }

    /// Inputs as bytes for the server.
    ///
    /// # Errors
    /// As [`Client::encode`], and another number of inputs than the plan takes at once.
    pub fn encrypt(&self, inputs: &[Input]) -> Result<Vec<u8>> {
        let values = self.encode(inputs, &mut crate::progress::silent)?;
        let written = self
            .keys
            .write_input(&values, Vec::new(), "input", &mut rng());
        Ok(written?)
    }

    /// As [`Client::encrypt`], into a file.
    ///
    /// # Errors
    /// As [`Client::encrypt`], those of the file system, and a lack of memory.
    pub fn encrypt_file(&self, inputs: &[Input], output: Output, tell: Listener<'_>) -> Result<()> {
        let name = |input: &Input| match input {
            Input::Item(source, _) => source.path.display().to_string(),
            _ => "what is at hand".into(),
        };
        let names: Vec<String> = inputs.iter().map(name).collect();
        let (count, batch) = (inputs.len(), self.keys.spec().input.batch);
        if count > batch {
            // before the output's file has a part in it
            let error = runtime::Error::Input {
                reason: format!("{count} inputs, the plan takes {batch} at a time"),
                remedy: runtime::Help::Batch.with("run them in turns, or compile for more"),
            };
            return Err(error.into());
        }
        let table = |input: &Input| match (input, &self.task) {
            (Input::Item(source, _), Task::Vectors(_)) => memory::reading(&source.path),
            _ => 0,
        };
        // the table is gone before the input is encrypted
        let reading = inputs.iter().map(table).max().unwrap_or(0);
        let memory = memory::encrypt(self.keys.file(), &names.join(", "))?.max(reading);
        // and so is a picture as it was decoded
        let (values, decoding) = self.encode_counted(inputs, tell)?;
        tell.note(format_args!(
            "encrypting into {} ciphertexts: {}, {} of memory, about a second",
            self.keys.spec().input.registers.len(),
            size(self.keys.input_bytes()),
            size(memory.max(decoding))
        ));
        output.require_room(self.keys.input_bytes())?;
        output.write(|out, name| {
            let written = self.keys.write_input(&values, out, name, &mut rng());
            Ok(written.map(drop)?)
        })
    }

    /// The values of a server's answer, those of one input after the other: for the key's owner alone.
    ///
    /// # Errors
    /// Answers of another key or plan, and those that can't be right ([`runtime::answer`]).
    pub fn decrypt(&self, answer: &[u8]) -> Result<Vec<f64>> {
        Ok(self.keys.read_answer(answer, "answer")?)
    }

    /// What the values of one answer say.
    ///
    /// # Errors
    /// Another number of values.
    pub fn read<'a>(&'a self, values: &'a [f64]) -> Result<Answer<'a>> {
        Ok(self.task.decode(values)?)
    }

    /// Decrypts a file, for each of the prompts that were encrypted or for the first `count` inputs, the first alone if nothing is said. What is shared is counted beside the key.
    ///
    /// # Errors
    /// Answers of another key or plan; those that can't be right ([`refusal`]), which count as shared where they should have been; what sharing
    /// refuses.
    pub fn decrypt_file(
        &self,
        answer: &Path,
        release: &Release,
        (prompts, count): (&[String], Option<usize>),
        tell: Listener<'_>,
    ) -> Result<Vec<Decrypted>> {
        let task = &self.task;
        let text = matches!(task, Task::Prompts(_) | Task::Sentences(_));
        if text && !matches!(release, Release::Private) {
            return Err("such answers can't be shared: their worst-case error bound is too wide for noise to leave a class or a token standing; keep them to yourself".into());
        }
        if !prompts.is_empty() && !text {
            return Err(format!("this plan takes {}, no text", task.kind()).into());
        }
        let (port, count) = (
            &self.keys.spec().output,
            count.unwrap_or(prompts.len().max(1)),
        );
        if !(1..=port.batch).contains(&count) {
            let what = format!("{count} answers: the plan takes {} at a time", port.batch);
            return Err(Error::refused(what, Help::NameCount));
        }
        memory::decrypt(self.keys.file())?;
        let (name, file) = (answer.display().to_string(), files::open(answer)?);
        if self.keys.parameters().spec().is_toy() {
            tell.note(
                "INSECURE: these are the keys of a toy parameter set, which protects nothing",
            );
        }
        // one key has one record, by whatever link it is reached
        let record = || -> Result<PathBuf> {
            let key = self.path.canonicalize().map_err(named(&self.path))?;
            Ok(folder_of(&key).join(RECORD_NAME))
        };
        let classes = task.outputs().and_then(Outputs::classes);
        let labels = classes.unwrap_or_default();
        if let (Release::Class(_), None) = (release, classes) {
            return Err("an answer of this network is no class: share it with noise".into());
        }
        let (mut doubt, mut alarm) = (None, None);
        let (values, shared) = match release {
            Release::Class(terms) => {
                let shared = self.keys.share_class(file, &name, &record()?, terms)?;
                tell.note(shared);
                return Ok(vec![Decrypted {
                    text: label(labels, shared.class) + "\n",
                    json: json!({ "class": shared.class, "label": labels.get(shared.class), "may_be_shared": true, "sharing": shared }),
                    values: None,
                }]);
            }
            Release::Shared(terms) => {
                let (record, mut terms) = (record()?, *terms);
                terms.class_bits = terms.class_bits.filter(|_| classes.is_some());
                let shared = self
                    .keys
                    .share_answer(file, &name, &record, &terms, &mut rng())?;
                tell.note(&shared);
                (shared.values.clone(), Some(shared))
            }
            Release::Private => {
                let judged = self.keys.read_doubtful(file, &name)?;
                (doubt, alarm) = (judged.doubt, judged.alarm);
                tell.note(silent(alarm.as_ref(), self.keys.spec()));
                (judged.values, None)
            }
        };
        if let Some(doubt) = &doubt {
            tell.note(format_args!("warning: {}", doubted(doubt)));
        }
        if matches!(task, Task::Prompts(_)) && prompts.is_empty() {
            tell.note("positions beyond the prompt's end continue the passage that fills it up; give the prompt to see what follows it alone");
        }
        if classes.is_some() {
            tell.note("shares are the softmax of the network's scores (logits), taken here: the encrypted network ends before it");
        }
        let each = values.chunks(port.elements()).take(count);
        if let (false, None) = (text, &shared) {
            let within = self.keys.spec().answer.of_network();
            each.clone()
                .for_each(|values| tell.note(uncertain(values, classes.is_some(), within)));
            if let Some(said) = repeated(&each.clone().collect::<Vec<_>>(), within) {
                tell.note(said);
            }
        }
        let said = each
            .enumerate()
            .map(|(i, values)| match (task, task.decode(values)?) {
                (Task::Prompts(format), Answer::Tokens(tokens)) => {
                    let prompt = prompts.get(i).map(String::as_str);
                    let network = &self.keys.spec().description.name;
                    continuation(network, format, &tokens, prompt)
                }
                (_, answer) => {
                    let kind = task.outputs().map(Outputs::kind);
                    let bounds = self.keys.spec().answer;
                    let shape = match &answer {
                        Answer::Tensor(shape, _) => shape.dims(),
                        _ => vec![values.len()],
                    };
                    let mut json = json!({ "answers": kind, "shape": shape, "error_bound": bounds.of_network(), "stated_error": bounds.stated_error(), "encryption_error_bound": bounds.error, "may_be_shared": shared.is_some(), "sharing": shared });
                    match &answer {
                        Answer::Classes(scores) => {
                            json["class"] = scores.best().into();
                            json["label"] = json!(labels.get(scores.best()));
                            json["logits"] = json!(values);
                        }
                        Answer::Labels(all) => json["labels"] = json!(all),
                        Answer::Values(all) => json["values"] = json!(all),
                        Answer::Probabilities(all) => json["probabilities"] = json!(all),
                        Answer::Tensor(_, all) => json["values"] = json!(all),
                        _ => {}
                    }
                    let text = answer_lines(&answer);
                    let values = Some((shape, values.to_vec()));
                    Ok(Decrypted { text, json, values })
                }
            });
        let mut said: Vec<Decrypted> = said.collect::<Result<_>>()?;
        if let Some(doubt) = doubt {
            said.iter_mut().for_each(|d| d.json["doubt"] = json!(doubt));
        }
        if let Some(alarm) = alarm {
            let reads = json!({ "reads": alarm.measured, "most": alarm.allowed });
            said.iter_mut()
                .for_each(|d| d.json["alarm"] = reads.clone());
        }
        Ok(said)
    }
}

/// How far one answer's values may be off, and where that leaves nothing of them. One number is stated for all: small values are known less well.
fn uncertain(values: &[f64], classes: bool, within: f64) -> String {
    let small = values.iter().filter(|v| v.abs() < within).count();
    let doubt = match (classes, small) {
        (true, _) if margin(values) < 2.0 * within => {
            "; the two largest lie so close that either may be first".into()
        }
        (true, _) | (false, 0) => String::new(),
        (false, small) => {
            format!("; {small} of {} are smaller than that", values.len())
        }
    };
    format!("each value is within {within:.1e} of the polynomial network's in the clear{doubt}")
}

/// From which answer on they are the first ones again, where they are: places of a batch that nothing was encrypted for repeat its inputs.
fn repeated(answers: &[&[f64]], within: f64) -> Option<String> {
    let near = |(a, b): (&&[f64], &&[f64])| {
        let mut values = a.iter().zip(b.iter());
        values.all(|(a, b)| (a - b).abs() <= 2.0 * within)
    };
    let first = (1..answers.len()).find(|&m| answers[m..].iter().zip(answers).all(near))?;
    Some(format!(
        "warning: answer {} is answer 1 again, as if {first} of {} inputs were encrypted: what a run has no input for repeats the others",
        first + 1,
        answers.len()
    ))
}

/// What the alarm says of an answer that it does not refuse.
fn silent(reads: Option<&runtime::Measure>, spec: &runtime::ClientSpec) -> String {
    match (reads, &spec.description.alarm) {
        (Some(reads), Some(alarm)) => format!(
            "the alarm is silent (reads {:.2} of {:.1} allowed): no value is far outside its interval, none {:.1} half widths or more from the middle, at an end that is no nearer to 0 than the other; what lies beyond an end and nearer than that is not seen, and there polynomials leave the functions that they stand for",
            reads.measured, reads.allowed, alarm.reach
        ),
        _ => "this plan has no alarm: nobody can tell whether a value left its interval".into(),
    }
}

/// Why an answer is refused that can't be right, as a JSON object; none of other errors.
pub fn refusal(error: &Error) -> Option<Value> {
    match error.cause() {
        Error::Runtime(runtime::Error::Answer { why, counted, .. }) => Some(json!({
            "refused": why.test, "measured": why.measured, "allowed": why.allowed, "input": why.input,
            "counted": counted.map(|(used, releases)| json!({ "used": used, "releases": releases })), "may_be_shared": false,
        })),
        _ => None,
    }
}

/// For whose eyes an answer is decrypted.
#[derive(Clone, Copy, Debug)]
pub enum Release {
    /// The key's owner's.
    Private,
    /// Anybody's: with noise, and counted.
    Shared(Terms),
    /// Anybody's: the class alone, and counted.
    Class(Terms),
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Decrypted {
    /// In words.
    pub text: String,
    /// As a JSON object.
    pub json: Value,
    /// The numbers themselves with the lengths of their axes; none of a class alone, or of tokens.
    pub values: Option<(Vec<usize>, Vec<f64>)>,
}

/// Answers as one NumPy array, the first axis the answers', as a network gives them.
///
/// # Errors
/// Answers that are no numbers.
pub fn array(answers: &[Decrypted]) -> Result<Vec<u8>> {
    let mut dims = vec![answers.len()];
    let mut all = Vec::new();
    for (i, answer) in answers.iter().enumerate() {
        let Some((shape, values)) = &answer.values else {
            return Err("a class alone and tokens are no array of numbers".into());
        };
        if i == 0 {
            dims.extend(shape);
        }
        all.extend(values);
    }
    Ok(data::array_bytes(&dims, &all))
}

/// What comes after a prompt, and after each of its tokens.
fn continuation(
    network: &str,
    format: &Prompts,
    answer: &Tokens<'_>,
    prompt: Option<&str>,
) -> Result<Decrypted> {
    let prompt = prompt.map(|text| format.encode(text)).transpose()?;
    let tokens = prompt.as_ref().map_or(format.length(), Vec::len);
    let (mut text, mut next, mut candidates) = (String::new(), Vec::new(), Vec::new());
    // of a prompt that is not given, the last position that there is
    let lacks = prompt.as_ref().and_then(|p| missing(format, p.len()));
    if let Some(Missing::All(said)) = &lacks {
        return Err(format!("{said}: nothing of it is in the answer").into());
    }
    let mut positions = Vec::new();
    for position in 0..tokens - format.public() {
        let Some(scores) = answer.at(position) else {
            continue;
        };
        positions.push(position);
        let shown = |p: &Vec<u32>| format.tokenizer().show(p[position + format.public()]);
        let (seen, best) = (prompt.as_ref().map(shown), scores.best());
        text += &format!(
            "  {position:4}  {:14} → {}\n",
            seen.unwrap_or_default(),
            scores.name(best)
        );
        next.push(best);
        candidates = scores.top(5);
    }
    match lacks {
        Some(Missing::Last(said)) => {
            text += &format!("{said}: what follows it is not in the answer\n");
            candidates.clear();
        }
        _ if format.positions().is_some() => {
            text += &format!(
                "next token after position {}:\n",
                listed(&positions[positions.len().saturating_sub(1)..])
            );
        }
        _ => text += "next token:\n",
    }
    let each = candidates.iter().map(|c| {
        let (share, logit) = (100.0 * c.probability, c.score);
        text += &format!("  {:14} {share:5.1}%  (logit {logit:+.4})\n", c.name);
        json!({ "token": c.index, "text": c.name, "probability": c.probability, "logit": logit })
    });
    let candidates: Vec<Value> = each.collect();
    Ok(Decrypted {
        text,
        json: json!({ "network": network, "positions": positions, "next": next, "candidates": candidates, "may_be_shared": false }),
        values: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_come_again_are_said() {
        let [a, b, c] = [[0.0, 1.0], [1.0, 1.0], [0.01, 0.99]];
        let said = |answers: &[&[f64]]| repeated(answers, 0.01);
        assert!(said(&[&a, &b]).is_none() && said(&[&a]).is_none());
        assert!(said(&[&a, &b, &b]).is_none());
        let text = said(&[&a, &b, &c]).expect("the first again");
        assert!(
            text.contains("answer 3 is answer 1 again, as if 2 of 3"),
            "{text}"
        );
        assert!(said(&[&a, &c, &a, &a]).is_some_and(|t| t.contains("as if 1 of 4")));
    }

    #[test]
    fn values_that_are_smaller_than_what_is_stated_are_counted() {
        let said = |values: &[f64], classes| uncertain(values, classes, 0.01);
        assert!(said(&[5.0, -0.004, 0.009], false).ends_with("; 2 of 3 are smaller than that"));
        assert!(said(&[5.0, -0.5], false).ends_with("in the clear"));
        assert!(said(&[5.0, 4.99, 0.0], true).ends_with("either may be first"));
        assert!(said(&[5.0, 4.97, 0.0], true).ends_with("in the clear"));
    }
}
