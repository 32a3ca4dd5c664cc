"""SmolLM2's figures by transformers' own reader of GGUF, forward pass and tokenizer, for comparison with `polyveil-train tasks`.

    pip install transformers gguf accelerate torch
    python reference.py FOLDER FILE.gguf TEXT LAMBADA.jsonl PIQA.jsonl LABELS COUNT OUT.json

Texts are laid out as in EleutherAI's lm-evaluation-harness (lambada_openai, piqa; no examples before), on the first COUNT of each; perplexity on COUNT/10
windows of 512 tokens, each of which begins with the last token of the one before.
"""

import json
import math
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, gguf, text, lambada, piqa, labels, count, out = sys.argv[1:]
count = int(count)
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32).eval()


def encode(s):
    return tokenizer(s, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def likelihood(context, continuation):
    whole = encode(context + continuation)
    first = len(encode(context))
    logits = model(torch.tensor([whole])).logits[0, first - 1 : -1].log_softmax(-1)
    targets = torch.tensor(whole[first:])
    return logits.gather(1, targets[:, None]).sum().item(), bool((logits.argmax(-1) == targets).all())


results = {}
sums, right = [], 0
for line in open(lambada).read().splitlines()[:count]:
    context, word = json.loads(line)["text"].rsplit(" ", 1)
    value, greedy = likelihood(context, " " + word)
    sums.append(value)
    right += greedy
results["lambada"] = {"sums": sums, "accuracy": right / count, "perplexity": math.exp(-sum(sums) / count)}
print("lambada", right / count, math.exp(-sum(sums) / count), flush=True)

pairs, plain, normal = [], 0, 0
answers = open(labels).read().split()
for line, answer in list(zip(open(piqa).read().splitlines(), answers))[:count]:
    d = json.loads(line)
    values = [likelihood(f"Question: {d['goal']}\nAnswer:", " " + d[s])[0] for s in ("sol1", "sol2")]
    lengths = [len(d["sol1"]), len(d["sol2"])]
    plain += (values[1] > values[0]) == (answer == "1")
    normal += (values[1] / lengths[1] > values[0] / lengths[0]) == (answer == "1")
    pairs.append(values)
results["piqa"] = {"sums": pairs, "acc": plain / count, "acc_norm": normal / count}
print("piqa", plain / count, normal / count, flush=True)

tokens = encode(open(text).read())
total, n = 0.0, 0
with torch.no_grad():
    for k in range(count // 10):
        window = torch.tensor([tokens[511 * k : 511 * k + 512]])
        logits = model(window).logits[0, :-1].log_softmax(-1)
        total -= logits.gather(1, window[0, 1:, None]).sum().item()
        n += window.shape[1] - 1
results["text"] = {"nats": total / n, "perplexity": math.exp(total / n), "tokens": n}
print("text", total / n, math.exp(total / n), flush=True)
json.dump(results, open(out, "w"))
