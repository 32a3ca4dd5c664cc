#!/usr/bin/env python3
"""A BERT of any shape with random weights, and made-up pairs of sentences, in the files that BERT's workload has.

    bert_data.py OUT --layers 12 --width 768 --heads 12 --hidden 3072 --tokens 128 --vocabulary 28996 --pairs 1      BERT-base's shape
    bert_data.py OUT                                                                                                 a small one

OUT/checkpoint/      config.json, model.safetensors, vocab.txt, as Hugging Face names them
OUT/sentences.tsv    to calibrate on: a class, a tab and a pair a line
OUT/test_input.txt   pairs as the harness hands them out, for datasets/SIZE/intermediate; OUT/test_labels.txt beside it

Random weights say nothing of accuracy: what is measured are stages, sizes and times.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a court bank company minister market share price report plan law said told rose fell lost won will may has had "
    "monday friday april north south new last first two ten percent million billion more less after before in on at of to and but"
).split()


def tensors(a):
    """Name and shape of every tensor of a `BertForSequenceClassification`."""
    d = a.width
    yield from [
        ("bert.embeddings.word_embeddings.weight", (a.vocabulary, d)),
        ("bert.embeddings.position_embeddings.weight", (max(a.tokens, 4), d)),
        ("bert.embeddings.token_type_embeddings.weight", (2, d)),
    ]
    layers = [("bert.embeddings.LayerNorm", (d,))]
    for i in range(a.layers):
        at = f"bert.encoder.layer.{i}."
        layers += [(at + f"attention.self.{part}", (d, d)) for part in ("query", "key", "value")]
        layers += [(at + "attention.output.dense", (d, d)), (at + "attention.output.LayerNorm", (d,))]
        layers += [(at + "intermediate.dense", (a.hidden, d)), (at + "output.dense", (d, a.hidden)), (at + "output.LayerNorm", (d,))]
    layers += [("bert.pooler.dense", (d, d)), ("classifier", (2, d))]
    for name, shape in layers:
        yield name + ".weight", shape
        yield name + ".bias", shape[:1]


def checkpoint(folder, a, random):
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": a.width,
        "intermediate_size": a.hidden,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "max_position_embeddings": max(a.tokens, 4),
        "vocab_size": a.vocabulary,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "id2label": {"0": "not equivalent", "1": "equivalent"},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = SPECIAL + WORDS + [w for w in letters if w not in WORDS] + ["##" + c for c in letters]
    pieces += [f"[unused{i}]" for i in range(a.vocabulary - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join(pieces[: a.vocabulary]) + "\n")
    header, data, end = {}, [], 0
    for name, shape in tensors(a):
        if name.endswith("LayerNorm.weight"):
            values = np.ones(shape, np.float32)
        elif name.endswith("bias"):
            values = np.zeros(shape, np.float32)
        else:
            # of a linear layer by its inputs, of an embedding as BERT was initialised
            deviation = 0.02 if "embeddings" in name else shape[1] ** -0.5
            values = random.normal(0, deviation, shape).astype(np.float32)
        data.append(values.tobytes())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + len(data[-1])]}
        end += len(data[-1])
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"".join(data))


def pair(a, random):
    """Two sentences, and whether the second has the words of the first."""
    most = max(2, (a.tokens - 2) // 2)
    first = list(random.choice(WORDS, random.integers(2, most + 1)))
    same = bool(random.integers(2))
    second = list(random.permutation(first)) if same else list(random.choice(WORDS, len(first)))
    return " ".join(first), " ".join(second), int(same)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    shape = {"layers": 1, "width": 16, "heads": 2, "hidden": 32, "tokens": 16, "vocabulary": 256, "pairs": 2, "calibration": 200}
    for name, value in shape.items():
        arguments.add_argument(f"--{name}", type=int, default=value)
    a = arguments.parse_args()
    random = np.random.default_rng(1)
    checkpoint(a.out / "checkpoint", a, random)
    with (a.out / "sentences.tsv").open("w") as out:
        for first, second, same in (pair(a, random) for _ in range(a.calibration)):
            out.write(f"{same}\t{first} {second}\n")
    pairs = [pair(a, random) for _ in range(a.pairs)]
    records = [{"target_idx": i, "sentence1": p[0], "sentence2": p[1]} for i, p in enumerate(pairs)]
    (a.out / "test_input.txt").write_text("".join(json.dumps(r) + "\n" for r in records))
    (a.out / "test_labels.txt").write_text("".join(f"{p[2]}\n" for p in pairs))


if __name__ == "__main__":
    main()
