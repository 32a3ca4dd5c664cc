"""Makes the golden files of tests/suite/encoders.py's Rust counterpart: what tiny BERT and RoBERTa networks of Hugging Face's answer, in f64.

    python encoders.py

`pip install transformers torch`; made with 5.24.0 and 2.15.0. Weights are given by a formula (`language.py`), of sentences of different lengths, padded.
"""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
)

from language import formula, rounded, save

SIZES = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, vocab_size=19,
    max_position_embeddings=14, layer_norm_eps=1e-5, hidden_act="gelu",
)
SENTENCES = [[3, 14, 15, 9, 2, 6, 5, 3], [5, 8, 9], [7]]
LENGTH = 8


def tiny(name, model, config):
    # tied tensors and buffers are not weights of their own
    skipped = ("decoder.", "position_ids", "token_type_ids")
    state = {k: v for k, v in model.state_dict().items() if not any(s in k for s in skipped)}
    for number, key in enumerate(sorted(state)):
        state[key] = torch.from_numpy(formula(tuple(state[key].shape), number))
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    model = model.double().eval()
    padding = config["pad_token_id"]
    types = [[0] * LENGTH for _ in SENTENCES]
    if config["type_vocab_size"] > 1:
        types[0] = [0, 0, 0, 0, 0, 1, 1, 1]
    tokens = torch.tensor([s + [padding] * (LENGTH - len(s)) for s in SENTENCES])
    marks = torch.tensor([[1] * len(s) + [0] * (LENGTH - len(s)) for s in SENTENCES])
    with torch.no_grad():
        logits = model(tokens, attention_mask=marks, token_type_ids=torch.tensor(types)).logits.numpy()
    # of masked-language models, the sentence's own positions
    answers = [
        [rounded(row) for row in l[: len(s)]] if l.ndim == 2 else rounded(l) for l, s in zip(logits, SENTENCES)
    ]
    save(
        name,
        {
            "config": config,
            "tensors": {k: list(state[k].shape) for k in sorted(state)},
            "sentences": SENTENCES,
            "types": types,
            "length": LENGTH,
            "logits": answers,
        },
    )


if __name__ == "__main__":
    labels = {"id2label": {"0": "negative", "1": "neutral", "2": "positive"}}
    for kind, config, masked, classifier, padding, types in [
        ("bert", BertConfig, BertForMaskedLM, BertForSequenceClassification, 0, 2),
        ("roberta", RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification, 1, 1),
    ]:
        own = SIZES | {"pad_token_id": padding, "type_vocab_size": types}
        for head, model, more in [("masked", masked, {}), ("classes", classifier, labels)]:
            made = model._from_config(config(**own, num_labels=3) if more else config(**own), attn_implementation="eager")
            described = own | {"model_type": kind, "architectures": [type(made).__name__]} | more
            tiny(f"tiny_{kind}_{head}.json", made, described)
