#!/usr/bin/env python3
"""Cut a 32x32 picture out of scikit-image's sample photo `chelsea.png`
(CC0, Stefan van der Walt) for the demonstration.

The crop is chosen by the network itself: of all square crops on a grid the
one whose `cat` logit leads by most. The script prints how many crops of the
grid the network gets right, which is the honest number; the picture is an
illustration and proves nothing about accuracy.

    python make_picture.py --photo chelsea.png
"""
import argparse, os
import numpy as np, torch
from PIL import Image
from train_resnet20_poly import LABELS, HERE, load_export, logits

p = argparse.ArgumentParser()
p.add_argument("--photo", required=True)
p.add_argument("--weights", default=os.path.join(HERE, "..", "models", "resnet20-poly.safetensors"))
p.add_argument("--out", default=os.path.join(HERE, "..", "models", "picture.png"))
a = p.parse_args()
torch.set_num_threads(1)
im = Image.open(a.photo).convert("RGB")
W, H = im.size
boxes = [(x, y, x + s, y + s) for s in (220, 240, 260, 280, 300)
         for x in range(0, W - s + 1, 20) for y in range(0, H - s + 1, 20)]
small = [im.resize((32, 32), Image.LANCZOS, box=b) for b in boxes]
x = torch.tensor(np.stack([np.asarray(s).transpose(2, 0, 1) for s in small]))
z = logits(load_export(a.weights), x)
cat = LABELS.index("cat")
rest = z.clone()
rest[:, cat] = -1e9
lead = z[:, cat] - rest.max(1).values
best = int(lead.argmax())
small[best].save(a.out)
pr = torch.softmax(z[best], 0)
print(f"{int((lead > 0).sum())} of {len(boxes)} crops are a cat to the network; "
      f"chosen crop {boxes[best]}: logit lead {lead[best]:.2f}, "
      + ", ".join(f"{LABELS[i]} {pr[i]:.3f}" for i in pr.argsort(descending=True)[:3].tolist()))
