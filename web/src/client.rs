//! What the page asks for: keys, encrypted pictures, what answers say.

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};
use runtime::wire::container::{Header, Kind};
use runtime::{ClientFile, ClientSpec};
use serde_json::{Value, json};
use std::io::Write;
use task::scores::{margin, softmax};
use task::{Answer, Picture, Pictures, Task};
use zeroize::Zeroizing;

type Refusal = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Refusal>;

/// The bytes in which a service takes evaluation keys.
const PART: usize = 4 << 20;

#[link(wasm_import_module = "page")]
unsafe extern "C" {
    /// A part of the evaluation keys, complete, is at this place.
    safe fn part(at: usize, length: usize);
    /// So many keys of all are made.
    safe fn made(done: u32, all: u32);
}

/// What an operation gives.
pub(crate) struct Told {
    pub(crate) text: Value,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl From<Value> for Told {
    fn from(text: Value) -> Self {
        Self {
            text,
            bytes: Zeroizing::default(),
        }
    }
}

/// A network as its client knows it, and the key once there is one.
pub(crate) struct Client {
    file: ClientFile,
    task: Task,
    keys: Option<runtime::Client>,
}

/// A client's randomness: what it drew can be computed from its state, so that is wiped.
struct Randomness(Box<ChaCha20Rng>);

impl Randomness {
    fn of(seed: &[u8]) -> Result<Self> {
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| "a seed has 32 bytes")?);
        Ok(Self(Box::new(ChaCha20Rng::from_seed(*seed))))
    }
}

impl Drop for Randomness {
    fn drop(&mut self) {
        *self.0 = ChaCha20Rng::from_seed([0; 32]);
        std::hint::black_box(&self.0);
    }
}

impl RngCore for Randomness {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

impl CryptoRng for Randomness {}

/// Carries out the operation of a number; `page/client.js` has the same list.
pub(crate) fn carry_out(
    operation: u32,
    page: &mut Option<Client>,
    arguments: &[Zeroizing<Vec<u8>>],
) -> Result<Told> {
    let argument = |i: usize| {
        let bytes = arguments.get(i).map(|a| &a[..]);
        bytes.ok_or_else(|| format!("operation {operation} needs argument {i}"))
    };
    if operation == 0 {
        let client = Client::open(argument(0)?)?;
        let text = client.described();
        *page = Some(client);
        return Ok(text.into());
    }
    if operation == 1 {
        return Ok(json!({ "digest": digest(argument(0)?) }).into());
    }
    let client = page
        .as_mut()
        .ok_or("no network is open: open its client file first")?;
    match operation {
        2 => client.new_key(argument(0)?),
        3 => client.open_key(argument(0)?),
        4 => client.evaluation_keys(argument(0)?),
        5 => client.look(argument(0)?),
        6 => client.encrypt(argument(0)?, argument(1)?),
        7 => client.decrypt(argument(0)?),
        _ => Err(format!("there is no operation {operation}").into()),
    }
}

/// BLAKE3 in hexadecimal digits, by which a service knows a body.
fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Client {
    /// A network, by its client file.
    fn open(bytes: &[u8]) -> Result<Self> {
        let file = ClientFile::read(bytes, "the client file")?;
        let (spec, task) = (file.spec(), file.task());
        if task.is_empty() {
            return Err(
                "the client file does not say what the network takes; compile the network again"
                    .into(),
            );
        }
        let task = Task::from_bytes(task)?;
        let shape = |dims: &[usize]| match *dims {
            [channels, height, width] => nn::Shape::image(channels, height, width),
            _ => nn::Shape::Vector(dims.iter().product()),
        };
        task.check(shape(&spec.input.shape), shape(&spec.output.shape))?;
        Ok(Self {
            file,
            task,
            keys: None,
        })
    }

    fn spec(&self) -> &ClientSpec {
        self.file.spec()
    }

    fn keys(&self) -> Result<&runtime::Client> {
        let keys = self.keys.as_ref();
        Ok(keys.ok_or("there is no secret key: make one, or open its file")?)
    }

    /// The network as one of pictures, one at a time.
    fn pictures(&self) -> Result<&Pictures> {
        match (&self.task, self.spec().input.batch) {
            (Task::Pictures(pictures), 1) => Ok(pictures),
            (Task::Pictures(_), n) => Err(format!(
                "this plan takes {n} pictures together, this page sends one; use the program `polyveil`, or a plan for one"
            )
            .into()),
            (task, _) => Err(format!(
                "this network takes {}, this page sends pictures; use the program `polyveil`",
                task.kind()
            )
            .into()),
        }
    }

    /// What the page shows of a network.
    fn described(&self) -> Value {
        let spec = self.spec();
        let parameters = spec.parameters.clone();
        let picture = self.pictures().map(|p| {
            let (width, height) = p.size();
            json!({ "width": width, "height": height, "channels": p.shape().dims()[0] })
        });
        json!({
            "name": spec.description.name, "plan": hex(&spec.plan), "takes": self.task.kind(),
            "picture": picture.as_ref().ok(), "cannot": picture.as_ref().err().map(ToString::to_string),
            "classes": self.task.outputs().map(|o| o.names()), "toy": parameters.is_toy(),
            "log_n": parameters.log_n, "keys": spec.keys.len(),
            "error": spec.answer.of_network(), "alarm": spec.description.alarm.is_some(),
        })
    }

    /// A new secret key: its file.
    fn new_key(&mut self, seed: &[u8]) -> Result<Told> {
        let keys = runtime::Client::new(self.file.clone(), &mut Randomness::of(seed)?);
        let bytes = Zeroizing::new(keys.write(Vec::new(), "the secret key")?);
        self.keys = Some(keys);
        Ok(Told {
            text: json!({}),
            bytes,
        })
    }

    /// A secret key from its file.
    fn open_key(&mut self, bytes: &[u8]) -> Result<Told> {
        let name = "the secret key's file";
        let header = Header::read(&mut &bytes[..], name)?;
        header.expect(Kind::ClientKey, name)?;
        if header.ids.client != *self.file.digest() {
            return Err(
                "this key was made for another network: choose that one, or make a new key".into(),
            );
        }
        self.keys = Some(runtime::Client::read(bytes, name, self.file.clone())?);
        Ok(json!({}).into())
    }

    /// Evaluation keys for the secret key, given part by part as they are made: they are never in memory together.
    fn evaluation_keys(&self, seed: &[u8]) -> Result<Told> {
        let keys = self.keys()?;
        let out = Parts {
            part: Vec::with_capacity(PART),
            hasher: blake3::Hasher::new(),
            bytes: 0,
        };
        let mut told = |done: usize, all: usize| made(done as u32, all as u32);
        let out = keys.write_evaluation_keys(
            out,
            "evaluation keys",
            &mut Randomness::of(seed)?,
            &mut told,
        )?;
        let (digest, bytes) = out.end();
        Ok(json!({ "digest": digest, "length": bytes }).into())
    }

    /// A file's picture, at the network's size: its pixels.
    fn look(&self, file: &[u8]) -> Result<Told> {
        let pictures = self.pictures()?;
        let (width, height) = pictures.size();
        let channels = pictures.shape().dims()[0];
        let picture = Picture::from_bytes(file)?;
        let had = picture.size();
        let mut lost = Vec::new();
        if picture.transparent() {
            lost.push("it is partly transparent; transparency is ignored");
        }
        if channels == 1 && picture.coloured() {
            lost.push("it is in colour, for a network of grey pictures; it was turned grey");
        }
        if had != (width, height) {
            lost.push("it was cut to the network's sides and scaled");
        }
        let pixels = picture.fit(width, height).pixels(channels);
        let pixels = pixels.ok_or("the network takes pictures of one or three channels only")?;
        Ok(Told {
            text: json!({ "width": had.0, "height": had.1, "lost": lost }),
            bytes: Zeroizing::new(pixels),
        })
    }

    /// Pixels, encrypted for the service.
    fn encrypt(&self, pixels: &[u8], seed: &[u8]) -> Result<Told> {
        let (keys, pictures) = (self.keys()?, self.pictures()?);
        let (width, height) = pictures.size();
        let channels = pictures.shape().dims()[0];
        let picture = Picture::from_pixels(width, height, channels, pixels.to_vec());
        let picture = picture.ok_or_else(|| {
            format!(
                "{} pixels, the network takes {width}×{height}×{channels}",
                pixels.len()
            )
        })?;
        let tensor = Zeroizing::new(pictures.input(&picture)?.into_values());
        let input = keys.input(&tensor, &mut Randomness::of(seed)?)?;
        let text =
            json!({ "digest": digest(&input), "ciphertexts": self.spec().input.registers.len() });
        Ok(Told {
            text,
            bytes: Zeroizing::new(input),
        })
    }

    /// What an answer says.
    fn decrypt(&self, answer: &[u8]) -> Result<Told> {
        let keys = self.keys()?;
        let judged = keys.read_doubtful(answer, "the answer")?;
        let values = Zeroizing::new(judged.values);
        let within = self.spec().answer.of_network();
        let (rows, best, close) = self.rows(&values, within)?;
        let alarm = self
            .spec()
            .description
            .alarm
            .as_ref()
            .zip(judged.alarm.as_ref());
        let alarm = alarm.map(|(alarm, reads)| {
            json!({ "reads": reads.measured, "most": reads.allowed, "reach": alarm.reach })
        });
        Ok(json!({
            "rows": rows, "best": best, "close": close, "answers": self.task.outputs().map(|o| o.kind()),
            "error": within, "stated": self.spec().answer.stated(),
            "alarm": alarm, "doubt": judged.doubt.map(|d| d.to_string()),
        })
        .into())
    }

    /// Names, values and shares; the best class; whether two classes lie too close to tell which is first.
    fn rows(&self, values: &[f64], within: f64) -> Result<(Vec<Value>, Option<usize>, bool)> {
        let row = |name: &str, value: f64, share: Option<f64>| json!({ "name": name, "value": value, "share": share });
        Ok(match self.task.decode(values)? {
            Answer::Classes(scores) => {
                let shares = softmax(scores.values()).into_iter().enumerate();
                let rows = shares.map(|(i, share)| row(&scores.name(i), scores.values()[i], Some(share)));
                (rows.collect(), Some(scores.best()), margin(values) < 2.0 * within)
            }
            Answer::Labels(all) => {
                let rows = all.iter().map(|c| row(&c.name, c.score, Some(c.probability)));
                (rows.collect(), None, false)
            }
            Answer::Values(all) | Answer::Probabilities(all) => {
                (all.iter().map(|n| row(&n.name, n.value, None)).collect(), None, false)
            }
            _ => return Err("this network answers with an array, which this page does not show; use the program `polyveil`".into()),
        })
    }
}

/// Takes a file and gives it on in parts.
struct Parts {
    part: Vec<u8>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Parts {
    fn give(&mut self) {
        self.hasher.update(&self.part);
        self.bytes += self.part.len() as u64;
        part(self.part.as_ptr() as usize, self.part.len());
        self.part.clear();
    }
    fn end(mut self) -> (String, u64) {
        if !self.part.is_empty() {
            self.give();
        }
        (self.hasher.finalize().to_hex().to_string(), self.bytes)
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == PART {
            self.give();
        }
        Ok(taken)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
