"""Passages in LAMBADA's form from the stories' held-out tokens (the last 200,000, which no run trains on):
   python training/stories/last_words.py data/lm/tok512.bin runs/stories.tokens training/stories/last-words.jsonl
Each is the beginning of a story, at most 32 tokens, cut behind a word; the first 64 in the order of the file."""
import json, re, struct, sys

tokenizer, corpus, out = sys.argv[1:]
data = open(tokenizer, "rb").read()
pieces, at = [], 4
while at < len(data):
    _, length = struct.unpack_from("<fi", data, at)
    pieces.append(data[at + 8 : at + 8 + length])
    at += 8 + length
raw = open(corpus, "rb").read()[-400_000:]
tokens = struct.unpack(f"<{len(raw) // 2}H", raw)
passages = []
for start in (i for i, t in enumerate(tokens) if t == 1):
    story = tokens[start + 1 : start + 33]
    if 1 in story or len(story) < 32:
        continue
    text = b"".join(pieces[t] for t in story)
    # bytes that are no piece
    text = re.sub(rb"<0x([0-9A-F]{2})>", lambda m: bytes([int(m[1], 16)]), text).decode("utf-8", "ignore").strip()
    # the last whole word that another one follows, at least five behind the beginning
    words = text.split(" ")[:-1]
    while words and not words[-1].isalpha():
        words.pop()
    if len(words) > 5:
        passages.append(" ".join(words))
with open(out, "w") as f:
    for passage in passages[:64]:
        f.write(json.dumps({"text": passage}) + "\n")
print(len(passages), "passages")
