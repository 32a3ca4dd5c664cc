"""Makes the golden files of tests/suite/language.rs: logits of language models by references independent of this project.

    python language.py STORIES260K.bin TOK512.bin

stories260k.json: llama2.c's own arithmetic (adjacent channels turn together) and its tokenizer, written here in numpy (f64).
tiny_*.json: Hugging Face's implementations (`pip install transformers torch`; made with 5.24.0 and 2.15.0), in f64, of tiny networks whose weights are given by a formula.
"""

import json
import pathlib
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent


def save(name, value):
    (HERE / name).write_text(json.dumps(value) + "\n")


def rounded(values):
    return [float(f"{v:.8g}") for v in np.asarray(values).ravel()]


# llama2.c


def stories(model, tokenizer):
    raw = pathlib.Path(model).read_bytes()
    dim, hidden, layers, heads, kv_heads, vocabulary, length = struct.unpack("<7i", raw[:28])
    assert vocabulary > 0, "a shared classifier"
    flat = np.frombuffer(raw[28:], "<f4").astype(np.float64)
    at = 0

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return flat[at - n : at].reshape(shape)

    head = dim // heads
    kv = kv_heads * head
    embedding = take(vocabulary, dim)
    rms_att = take(layers, dim)
    wq, wk, wv, wo = take(layers, dim, dim), take(layers, kv, dim), take(layers, kv, dim), take(layers, dim, dim)
    rms_ffn = take(layers, dim)
    w1, w2, w3 = take(layers, hidden, dim), take(layers, dim, hidden), take(layers, hidden, dim)
    rms_final = take(dim)
    take(2, length, head // 2)
    assert at == flat.size

    def rms(x, w):
        return x / np.sqrt((x * x).mean() + 1e-5) * w

    def turn(v, position):
        v = v.copy()
        for i in range(0, v.size, 2):
            angle = position / 10000.0 ** ((i % head) / head)
            c, s = np.cos(angle), np.sin(angle)
            v[i], v[i + 1] = v[i] * c - v[i + 1] * s, v[i] * s + v[i + 1] * c
        return v

    def forward(tokens, weigh):
        keys = [[] for _ in range(layers)]
        values = [[] for _ in range(layers)]
        logits = []
        for position, token in enumerate(tokens):
            x = embedding[token].copy()
            for l in range(layers):
                y = rms(x, rms_att[l])
                q = turn(wq[l] @ y, position)
                keys[l].append(turn(wk[l] @ y, position))
                values[l].append(wv[l] @ y)
                out = np.zeros(dim)
                for h in range(heads):
                    g = h // (heads // kv_heads)
                    cut, kcut = slice(h * head, (h + 1) * head), slice(g * head, (g + 1) * head)
                    scores = np.array([q[cut] @ k[kcut] for k in keys[l]]) / np.sqrt(head)
                    out[cut] = sum(w * v[kcut] for w, v in zip(weigh(scores), values[l]))
                x = x + wo[l] @ out
                y = rms(x, rms_ffn[l])
                gate = w1[l] @ y
                x = x + w2[l] @ (gate / (1 + np.exp(-gate)) * (w3[l] @ y))
            logits.append(embedding @ rms(x, rms_final))
        return np.array(logits)

    def softmax(s):
        e = np.exp(s - s.max())
        return e / e.sum()

    # the tokenizer
    raw, at_, pieces = pathlib.Path(tokenizer).read_bytes(), 4, []
    while at_ < len(raw):
        score, n = struct.unpack("<fi", raw[at_ : at_ + 8])
        pieces.append((raw[at_ + 8 : at_ + 8 + n], score))
        at_ += 8 + n
    index = {}
    for i, (piece, _) in enumerate(pieces):
        index.setdefault(piece, i)

    def encode(text):
        tokens = []
        for c in " " + text if text else "":
            b = c.encode()
            tokens += [index[b]] if b in index else [byte + 3 for byte in b]
        while True:
            best = None
            for i in range(len(tokens) - 1):
                union = pieces[tokens[i]][0] + pieces[tokens[i + 1]][0]
                if union in index and (best is None or pieces[index[union]][1] > best[0]):
                    best = (pieces[index[union]][1], i, index[union])
            if best is None:
                return [1] + tokens
            tokens[best[1] : best[1] + 2] = [best[2]]

    texts = [
        "",
        "Once upon a time, there was a little girl named Lily.",
        "One day, Tim and his mom went to the park. They saw a big dog",
        "Zoë paid 5€ – “naïve”!\n",
        "  two  spaces",
    ]
    tokens = encode(texts[1] + " She loved to play with her toys")
    exact = forward(tokens, softmax)
    power = forward(tokens[:12], lambda s: s**4 / (1e-3 + (s**4).sum()))
    save(
        "stories260k.json",
        {
            "encodings": [[t, encode(t)] for t in texts],
            "tokens": tokens,
            "next": [int(i) for i in exact.argmax(1)],
            "first_logits": [rounded(row[:6]) for row in exact],
            "sum_of_squares": rounded((exact**2).sum(1)),
            "power_tokens": tokens[:12],
            "power_first_logits": [rounded(row[:6]) for row in power],
            "power_sum_of_squares": rounded((power**2).sum(1)),
        },
    )


# Hugging Face


def formula(shape, number):
    """Weights of the tensor with this number in the order of names: f32 of a sine."""
    n = int(np.prod(shape))
    i = np.arange(n, dtype=np.float64)
    scale = 0.25 if len(shape) > 1 else 0.1
    base = 0.0 if len(shape) > 1 or number % 2 else 1.0
    return (base + scale * np.sin((i + 1.0) * (0.7 + 0.013 * number) + number)).astype(np.float32).reshape(shape)


def tiny(name, model, config):
    import torch

    # published checkpoints of GPT-NeoX call the output head embed_out, today's implementation lm_head
    def public(key):
        return key.replace("lm_head", "embed_out") if config["model_type"] == "gpt_neox" else key

    state = {k: v for k, v in model.state_dict().items() if "inv_freq" not in k}
    for number, key in enumerate(sorted(state, key=public)):
        state[key] = torch.from_numpy(formula(tuple(state[key].shape), number))
    model.load_state_dict(state, strict=False)
    model = model.double().eval()
    tokens = [3, 14, 15, 9, 2, 6, 5, 3, 5, 8, 9, 7]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].numpy()
    save(
        name,
        {
            "config": config,
            "tensors": {public(k): list(state[k].shape) for k in sorted(state, key=public)},
            "tokens": tokens,
            "logits": [rounded(row) for row in logits],
        },
    )


def hugging_face():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    for parallel in [True, False]:
        sizes = dict(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, vocab_size=17,
            max_position_embeddings=16, layer_norm_eps=1e-5, use_parallel_residual=parallel, hidden_act="gelu",
            tie_word_embeddings=False,
        )
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, rope_parameters=rope, attn_implementation="eager"))
        kind = "parallel" if parallel else "sequential"
        old = {"model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 10000}
        tiny(f"tiny_gpt_neox_{kind}.json", model, sizes | old)
    sizes = dict(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=17, max_position_embeddings=16, rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False,
    )
    rope = {"rope_type": "default", "rope_theta": 500.0}
    model = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope, attn_implementation="eager"))
    tiny("tiny_llama.json", model, sizes | {"model_type": "llama", "rope_parameters": rope})


if __name__ == "__main__":
    stories(*sys.argv[1:3])
    hugging_face()
