"""The stages of a submission to HomomorphicEncryption.org's harness, each by the program `polyveil`.

A harness starts one process for each stage, in its own folder (`python3 STAGE.py SIZE`, or `build/STAGE SIZE`) and measures its time
and the sizes of three folders. `install.py` lays a file of three lines for each stage, which calls `main`. Files:

    datasets/SIZE/intermediate/test_pixels.txt, test_input.txt      from the harness: a picture, or a pair of sentences, a line
    io/server_data/BATCH.plan                                       the server's; `install.py` compiles it
    io/server_data/BATCH.client                                     public: what clients make keys from
    io/SIZE/secret_key/, io/SIZE/intermediate/                      the client's own
    io/SIZE/public_keys/, ciphertexts_upload/                       from the client to the server
    io/SIZE/ciphertexts_download/                                   from the server to the client
    io/SIZE/encrypted_model_predictions.txt                         a class a line

Only the standard library is used.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SIZES = ["single", "small", "medium", "large"]
STAGES = [
    "client_key_generation",
    "server_preprocess_model",
    "client_preprocess_input",
    "client_encode_encrypt_input",
    "server_encrypted_compute",
    "client_decrypt_decode",
    "client_postprocess",
]
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Workload:
    """What differs between workloads."""

    dataset: str
    """Its name in the harness."""
    model: str
    """The model's name in the harness."""
    network: str
    """The network, in this repository; none where the owner brings one."""
    inputs: str
    """The harness's file of inputs."""
    batches: tuple
    """Inputs of one run, for each of the four sizes."""


WORKLOADS = {
    "mnist": Workload("mnist", "mlp", "benchmarks/he-org/mnist-mlp.pvm", "test_pixels.txt", (1, 128, 128, 128)),
    "cifar10": Workload("cifar10", "resnet20", "models/resnet20-poly.pvm", "test_pixels.txt", (1, 1, 1, 1)),
    "mrpc": Workload("mrpc", "bert-base", "", "test_input.txt", (1, 1, 1, 1)),
}


class Place:
    """Where a run of one size has its files, counted from the harness's folder, which is the current one."""

    def __init__(self, workload, size, root="."):
        root = Path(root)
        self.workload = WORKLOADS[workload]
        self.batch = self.workload.batches[size]
        self.server = root / "io" / "server_data"
        self.plan = self.server / f"{self.batch}.plan"
        self.client = self.server / f"{self.batch}.client"
        self.dataset = root / "datasets" / SIZES[size] / "intermediate"
        self.inputs = self.dataset / self.workload.inputs
        self.io = root / "io" / SIZES[size]
        self.measured = root / "measurements" / SIZES[size]
        self.secret = self.io / "secret_key"
        self.keys = self.io / "public_keys"
        self.upload = self.io / "ciphertexts_upload"
        self.download = self.io / "ciphertexts_download"
        self.own = self.io / "intermediate"
        self.answers = self.own / "answers.jsonl"
        self.predictions = self.io / "encrypted_model_predictions.txt"
        self.reported = self.io / "server_reported_steps.json"


def program():
    """The program: $POLYVEIL, this repository's, or the one in the path."""
    built = REPOSITORY / "target" / "release" / "polyveil"
    found = os.environ.get("POLYVEIL") or (built if built.exists() else shutil.which("polyveil"))
    if not found:
        sys.exit("polyveil is not built: `cargo build --release -p polyveil-cli`, or say in $POLYVEIL where it is")
    return str(found)


def polyveil(*arguments):
    """What the program prints on its standard output; what it says is passed on where it fails."""
    done = subprocess.run([program(), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stderr.strip()}\npolyveil {arguments[0]} ended with {done.returncode}")
    return done.stdout


def fresh(folder):
    """The folder, empty: a stage may be repeated with other inputs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def numbered(folder, suffix):
    """Files in the order of the numbers that they are called by."""
    return sorted(folder.glob(f"*.{suffix}"), key=lambda path: int(path.stem))


# --- the client

def client_key_generation(place):
    polyveil("keygen", place.client, "-o", place.secret, *os.environ.get("POLYVEIL_KEYGEN", "").split())
    fresh(place.keys)
    (place.secret / "evaluation.keys").rename(place.keys / "evaluation.keys")


def client_preprocess_input(place):
    """Inputs as the program reads them, in files of as many as one run takes. No value is changed."""
    lines = [line for line in place.inputs.read_text().splitlines() if line.strip()]
    fresh(place.own)
    for k, i in enumerate(range(0, len(lines), place.batch)):
        part = lines[i : i + place.batch]
        if place.workload.dataset == "mnist":
            rows = [",".join(line.split()) + "\n" for line in part]
            (place.own / f"{k}.csv").write_text("".join(rows))
        elif place.workload.dataset == "cifar10":
            # CIFAR-10's own binary form: a class, which is not known here, and the bytes that the harness divided by 255
            pixels = [bytes(round(255 * float(v)) for v in line.split()) for line in part]
            (place.own / f"{k}.bin").write_bytes(b"".join(b"\0" + p for p in pixels))
        else:
            pairs = map(json.loads, part)
            # `encrypt` takes one sentence: the two follow each other, without a separator and with one token type
            texts = [f"{pair['sentence1']} {pair['sentence2']}" for pair in pairs]
            (place.own / f"{k}.json").write_text(json.dumps(texts))
        (place.own / f"{k}.count").write_text(str(len(part)))


def client_encode_encrypt_input(place):
    fresh(place.upload)
    for k, counted in enumerate(numbered(place.own, "count")):
        output = ["-o", place.upload / f"{k}.input"]
        key = ["--key", place.secret / "client.key"]
        if place.workload.dataset == "mrpc":
            texts = json.loads((place.own / f"{k}.json").read_text())
            what = [f"--text={text}" for text in texts] + ["--truncate"]
        else:
            data = place.own / (f"{k}.csv" if place.workload.dataset == "mnist" else f"{k}.bin")
            what = [f"--index={i}" for i in range(int(counted.read_text()))] + ["--data", data]
        polyveil("encrypt", *key, *what, *output)


def client_decrypt_decode(place):
    with place.answers.open("w") as out:
        for k, counted in enumerate(numbered(place.own, "count")):
            answer = place.download / f"{k}.answer"
            out.write(polyveil("decrypt", "--key", place.secret / "client.key", "--count", counted.read_text(), "--json", answer))


def client_postprocess(place):
    """The class with the highest score."""
    answers = map(json.loads, place.answers.read_text().splitlines())
    scores = [answer["logits"] for answer in answers]
    place.predictions.write_text("".join(f"{s.index(max(s))}\n" for s in scores))


# --- the server

def server_preprocess_model(place):
    """The plan is the model, prepared; it was compiled when the submission was built, since clients make keys from it."""
    for plan in numbered(place.server, "plan"):
        print(f"         [server] {plan}: {plan.stat().st_size} bytes")


def server_encrypted_compute(place):
    """Each run loads plan and keys; `seconds` of its report are those of computing alone."""
    fresh(place.download)
    seconds, cpu = 0.0, 0.0
    for sent in numbered(place.upload, "input"):
        answer = place.download / f"{sent.stem}.answer"
        keys = place.keys / "evaluation.keys"
        given = ["--plan", place.plan, "--keys", keys, "--input", sent, "-o", answer]
        report = json.loads(polyveil("run", *given, "--no-probe", "--json"))
        seconds += report["seconds"]
        cpu += report["cpu_seconds"]
    reported = {"Encrypted computation": round(seconds, 4), "CPU time of it": round(cpu, 4), "Total": round(seconds, 4)}
    place.reported.write_text(json.dumps(reported, indent=2))


def main(workload, stage):
    """Carries out one stage. The harness names no size to `server_preprocess_model`, which needs none."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    globals()[stage](Place(workload, size))
