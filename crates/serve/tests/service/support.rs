//! The program as its users run it, toy plans, and an HTTP client that may do what no honest one does.

use approx::Polynomial;
use nn::{Metadata, Op, Parameter, PolyGraph, Range, Shape};
use polyveil::Client;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use task::{Outputs, Task, Vectors};

/// A folder that goes when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("polyveil-serve-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("plain paths").into()
    }
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.0.join(name), bytes).expect("a file");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program with these arguments.
pub(crate) fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyveil-serve"));
    command.args(arguments.split_whitespace());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs, expects success; gives what it says on stdout and on stderr.
pub(crate) fn done(arguments: &str) -> (String, String) {
    let out: Output = program(arguments).output().expect("it starts");
    assert!(out.status.success(), "{arguments}: {}", text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

/// Runs, expects a refusal with these words.
pub(crate) fn refused(arguments: &str, words: &[&str]) -> String {
    let out = program(arguments).output().expect("it starts");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{arguments}: {said}");
    for word in words {
        assert!(
            said.contains(word),
            "{arguments}: {word:?} is missing in {said}"
        );
    }
    said
}

/// What a toy computes on.
#[derive(Clone, Copy)]
pub(crate) enum Toy {
    /// One square: keys of about a megabyte, and answers that are right.
    Small,
    /// The same on a larger ring: keys of several parts.
    Large,
    /// Squares with bootstraps between them.
    Bootstraps,
}

impl Toy {
    fn parameters(self) -> ckks::ParametersSpec {
        match self {
            Self::Small => ckks::ParametersSpec::toy_levelled(9, 6),
            Self::Large => ckks::ParametersSpec::toy_levelled(15, 14),
            Self::Bootstraps => ckks::ParametersSpec::toy(10),
        }
    }
    fn squares(self) -> usize {
        match self {
            Self::Bootstraps => 14,
            Self::Large => 5,
            Self::Small => 1,
        }
    }
    /// A row of four numbers → (dense → x² on [−2, 2])… → dense → two classes.
    pub(crate) fn network(self) -> PolyGraph {
        let dense = |rows: usize, columns: usize, values: &[f32], bias: Option<Vec<f32>>| {
            Op::Linear(nn::Linear {
                weight: Parameter::new("weight", [rows, columns], values.to_vec()).expect("finite"),
                bias: bias.map(|b| Parameter::new("bias", [b.len()], b).expect("finite")),
            })
        };
        let mut b = nn::Network::<Polynomial>::builder();
        let mut x = b.input("x", Shape::Vector(4)).expect("valid");
        for layer in 0..self.squares() {
            let columns = if layer == 0 { 4 } else { 3 };
            let weights: Vec<f32> = (0..3 * columns)
                .map(|i| 0.9 / columns as f32 + 0.02 * (i % 5) as f32)
                .collect();
            let d = b.add(
                format!("dense{layer}"),
                dense(3, columns, &weights, None),
                &[x],
            );
            let square = Polynomial::new(vec![2.0, 0.0, 2.0], (-2.0, 2.0)).expect("valid");
            let square = Op::Elementwise(square);
            x = b
                .add(format!("square{layer}"), square, &[d.expect("valid")])
                .expect("valid");
        }
        let last = [0.5, 0.5, 0.25, -0.5, 0.1, 0.2];
        let last = dense(2, 3, &last, Some(vec![0.1, -0.1]));
        let y = b.add("last", last, &[x]).expect("valid");
        let graph = PolyGraph::from(b.finish(y).expect("valid"));
        let columns = ["a", "b", "c", "d"].map(String::from).to_vec();
        let outputs = Outputs::Classes(vec!["price".into(), "age".into()]);
        let task = Vectors::new(columns, None, outputs).expect("fits");
        let range = Range {
            min: -2.0,
            max: 2.0,
        };
        let nodes = graph.nodes().len();
        let graph = graph.with_metadata(Metadata {
            name: "tiny".into(),
            task: Some(Task::Vectors(task).to_bytes()),
            ..Metadata::default()
        });
        graph.with_ranges(vec![range; nodes]).expect("fits")
    }
    /// Writes its plan and client file.
    pub(crate) fn compile(self, folder: &Folder, name: &str) -> Arc<runtime::VerifiedPlan> {
        let graph = self.network();
        let target = compiler::Target {
            parameters: Some(self.parameters()),
            ..compiler::Target::default()
        };
        let plan = compiler::compile(&graph, &target).expect("compiles");
        let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
        let client = client.expect("its task").write(Vec::new(), "x");
        folder.file(&format!("{name}.client"), &client.expect("writes"));
        let bytes = plan.plan().write(Vec::new(), "x").expect("writes");
        folder.file(&format!("{name}.plan"), &bytes);
        Arc::new(plan)
    }
}

/// A folder of a service with a plan `toy`, and its server's address.
pub(crate) struct Site {
    pub(crate) folder: Folder,
    pub(crate) plan: Arc<runtime::VerifiedPlan>,
    pub(crate) address: SocketAddr,
    /// All that the server said.
    pub(crate) log: Arc<Mutex<String>>,
    child: Option<Child>,
}

/// An address that nobody has.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("an address")
}

impl Site {
    /// Publishes a toy and starts.
    pub(crate) fn new(name: &str, toy: Toy, options: &str) -> Self {
        let folder = Folder::new(name);
        let plan = toy.compile(&folder, "toy");
        Self::served(folder, plan, options)
    }
    /// Publishes somebody's plan as `toy`, its client file and weights beside it.
    pub(crate) fn of(name: &str, path: &str) -> Self {
        let (folder, path) = (Folder::new(name), std::path::Path::new(path));
        for ending in ["plan", "client", "weights"] {
            let from = path.with_extension(ending);
            if ending != "weights" || from.exists() {
                let to = folder.path(&format!("toy.{ending}"));
                std::fs::copy(&from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
            }
        }
        let plan = polyveil::network::plan(path).expect("a plan");
        Self::served(folder, Arc::new(plan), "")
    }
    /// Of a folder that is published to already, by a plan of this name; not started.
    pub(crate) fn at(folder: Folder, name: &str) -> Self {
        let plan = polyveil::network::plan(folder.path(&format!("{name}.plan")).as_ref());
        Self {
            plan: Arc::new(plan.expect("a plan")),
            address: free_address(),
            folder,
            log: Arc::default(),
            child: None,
        }
    }
    fn served(folder: Folder, plan: Arc<runtime::VerifiedPlan>, options: &str) -> Self {
        let mut site = Self {
            folder,
            plan,
            address: free_address(),
            log: Arc::default(),
            child: None,
        };
        site.operate(&format!(
            "plan add {} --insecure-toy",
            site.folder.path("toy.plan")
        ));
        site.start(options);
        site
    }
    /// An operator's command on the folder.
    pub(crate) fn operate(&self, arguments: &str) -> String {
        done(&format!("{arguments} --data {}", self.folder.path("data"))).0
    }
    /// A new account's token.
    pub(crate) fn account(&self, name: &str, quotas: &str) -> String {
        self.operate(&format!("account add {name} {quotas}"))
            .trim()
            .into()
    }
    /// Starts the server, waits until it listens.
    pub(crate) fn start(&mut self, options: &str) {
        let data = self.folder.path("data");
        let line = format!("start --data {data} --listen {} {options}", self.address);
        let mut command = program(&line);
        self.spawn(&mut command);
    }
    pub(crate) fn spawn(&mut self, command: &mut Command) {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut err = child.stderr.take().expect("piped");
        let (tell, told) = mpsc::channel();
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if line.contains("\"listening\"") {
                    let _ = tell.send(());
                }
                let mut log = log.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let errors = self.log.clone();
        std::thread::spawn(move || {
            let mut said = String::new();
            let _ = err.read_to_string(&mut said);
            errors.lock().expect("no panic").push_str(&said);
        });
        if told.recv_timeout(Duration::from_secs(30)).is_err() {
            let _ = child.kill();
            panic!("it does not listen: {}", self.said());
        }
        self.child = Some(child);
    }
    pub(crate) fn said(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }
    /// Waits until the log has these words so many times.
    pub(crate) fn hears(&self, words: &str, times: usize) {
        let start = Instant::now();
        while self.said().matches(words).count() < times {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{words} is missing in {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("runs").id()
    }
    /// Asks it to stop, and waits for that.
    pub(crate) fn stop(&mut self) {
        let id = self.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.expect("kill").success());
        let status = self.child.take().expect("runs").wait().expect("ends");
        assert!(status.success(), "{status}: {}", self.said());
    }
    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    /// A new client of the plan.
    pub(crate) fn client(&self, name: &str) -> Party {
        let file = std::fs::read(self.folder.path("toy.client")).expect("there");
        let file = runtime::ClientFile::read(&file[..], "x").expect("whole");
        let client = Client::new(file).expect("a task");
        let keys = client.evaluation_keys().expect("makes keys");
        let path = self.folder.file(&format!("{name}.keys"), &keys);
        Party { client, keys, path }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client with its keys.
pub(crate) struct Party {
    pub(crate) client: Client,
    pub(crate) keys: Vec<u8>,
    /// The file of its evaluation keys.
    pub(crate) path: String,
}

impl Party {
    pub(crate) fn digest(&self) -> String {
        hash(&self.keys)
    }
    pub(crate) fn input(&self, row: [f64; 4]) -> Vec<u8> {
        let row = polyveil::Input::Row(row.to_vec());
        self.client.encrypt(&[row]).expect("encrypts")
    }
    /// The answer's class and values.
    pub(crate) fn class(&self, answer: &[u8]) -> usize {
        let values = self.client.decrypt(answer).expect("its own");
        usize::from(values[1] > values[0])
    }
}

/// BLAKE3 in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    polyveil_serve::records::hex(blake3::hash(bytes).as_bytes())
}

/// What a server answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
    /// Expects a refusal with this code, a cause and a remedy, and nothing else.
    pub(crate) fn refuses(&self, status: u16, code: &str) -> Value {
        let json = self.json();
        assert_eq!(
            (self.status, json["code"].as_str()),
            (status, Some(code)),
            "{json}"
        );
        assert_eq!(json.as_object().map(|o| o.len()), Some(3), "{json}");
        for field in ["cause", "remedy"] {
            assert!(json[field].as_str().is_some_and(|t| t.len() > 8), "{json}");
        }
        json
    }
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let line = self
            .head
            .lines()
            .find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().into())
    }
}

/// One request over a connection of its own; `head` has the request line and headers, without the last line.
pub(crate) fn request(address: SocketAddr, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let head = format!(
        "{}\r\nhost: x\r\nconnection: close\r\n\r\n",
        head.trim_end()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    // a server may refuse before it has read the body
    let _ = stream.write_all(body);
    reply(stream)
}

/// Reads an answer to its end.
pub(crate) fn reply(mut stream: impl Read) -> Reply {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", text(&all)));
    let head = text(&all[..end]);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let mut body = all.split_off(end + 4);
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = unchunked(&body);
    }
    Reply {
        status: status.expect("a status"),
        head,
        body,
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(text(&body[..end]).trim(), 16).unwrap_or(0);
        let rest = &body[end + 2..];
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        out.extend_from_slice(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

/// An account's requests.
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Caller {
    pub(crate) fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = match body.is_empty() && method != "POST" && method != "PUT" {
            true => String::new(),
            false => format!("content-length: {}\r\n", body.len()),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nauthorization: Bearer {}\r\n{length}{headers}",
            self.token
        );
        request(self.address, &head, body)
    }
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "", &[])
    }
    pub(crate) fn declare(&self, keys: &[u8]) -> Reply {
        let body = serde_json::json!({ "plan": "toy", "digest": hash(keys), "bytes": keys.len() });
        self.call("POST", "/v1/keys", "", body.to_string().as_bytes())
    }
    /// Sends a part as what it is.
    pub(crate) fn part(&self, digest: &str, offset: usize, bytes: &[u8]) -> Reply {
        let path = format!("/v1/keys/{digest}/parts/{offset}");
        self.call(
            "PUT",
            &path,
            &format!("polyveil-digest: {}\r\n", hash(bytes)),
            bytes,
        )
    }
    pub(crate) fn commit(&self, digest: &str) -> Reply {
        self.call("POST", &format!("/v1/keys/{digest}/commit"), "", &[])
    }
    /// All parts and their end.
    pub(crate) fn upload(&self, keys: &[u8]) -> String {
        let digest = hash(keys);
        assert_eq!(self.declare(keys).status, 201);
        let part = polyveil_serve::records::PART as usize;
        for (i, bytes) in keys.chunks(part).enumerate() {
            assert_eq!(self.part(&digest, i * part, bytes).status, 200);
        }
        let ready = self.commit(&digest);
        assert_eq!(ready.status, 200, "{ready:?}");
        digest
    }
    pub(crate) fn ask(&self, keys: &str, name: &str, input: &[u8]) -> Reply {
        let headers = format!(
            "polyveil-digest: {}\r\nidempotency-key: {name}\r\n",
            hash(input)
        );
        self.call(
            "POST",
            &format!("/v1/jobs?plan=toy&keys={keys}"),
            &headers,
            input,
        )
    }
    /// The id of the job that this asks for.
    pub(crate) fn job(&self, keys: &str, name: &str, input: &[u8]) -> String {
        let job = self.ask(keys, name, input).json();
        job["id"].as_str().expect("an id").into()
    }
    /// Waits for the answer of a job.
    pub(crate) fn answer(&self, job: &str) -> Vec<u8> {
        let start = Instant::now();
        loop {
            let state = self.get(&format!("/v1/jobs/{job}")).json();
            match state["state"].as_str() {
                Some("done") => return self.get(&format!("/v1/jobs/{job}/answer")).body,
                Some("failed") => panic!("{state}"),
                _ => assert!(start.elapsed() < Duration::from_secs(60), "{state}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// All files below a folder with these bytes in them.
pub(crate) fn files_with(folder: &str, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(path.to_str().expect("plain"), bytes));
        } else if std::fs::read(&path).is_ok_and(|b| has(&b, bytes)) {
            found.push(path);
        }
    }
    found
}

pub(crate) fn has(all: &[u8], bytes: &[u8]) -> bool {
    all.windows(bytes.len()).any(|w| w == bytes)
}

/// Lets files of a process be this long, from now on: as a disk that is full.
pub(crate) fn longest_file(process: u32, bytes: Option<u64>) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(process, Resource::Fsize, limit).expect("may be set");
}
