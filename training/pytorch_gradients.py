"""Losses and gradients of four blocks in PyTorch: writes crates/train/tests/golden/blocks.json, which crates/train/tests/blocks.rs is held against.

    python training/pytorch_gradients.py

Weights and inputs are whole numbers' remainders, the same on both sides; the loss is half the sum of the outputs' squares.
"""
import json, math, os
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
BATCH = 3


def numbers(seed, shape, bound):
    count = math.prod(shape)
    values = [((i * 7919 + seed * 104729) % 1009) / 504.5 - 1 for i in range(count)]
    return (bound * torch.tensor(values, dtype=torch.float64)).float().reshape(shape)


class Block:
    """Parameters by name, made in the order in which they are asked for."""

    def __init__(self):
        self.parameters, self.seed = {}, 1

    def parameter(self, name, shape, bound, centre=0.0):
        p = (centre + numbers(self.seed, shape, bound)).requires_grad_()
        self.seed += 1
        self.parameters[name] = p
        return p

    def conv(self, name, x, out, kernel=1, groups=1, bias=True, stride=1):
        w = self.parameter(name + ".weight", (out, x.shape[1] // groups, kernel, kernel), 0.5)
        b = self.parameter(name + ".bias", (out,), 0.3) if bias else None
        return F.conv2d(x, w, b, stride=stride, padding=kernel // 2, groups=groups)

    def scale_and_bias(self, name, channels):
        return self.parameter(name + ".scale", (channels,), 0.3, 1.0), self.parameter(name + ".bias", (channels,), 0.3)

    def batch_norm(self, name, x):
        scale, bias = self.scale_and_bias(name, x.shape[1])
        return F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-5)

    def layer_norm(self, name, x):
        """Over the channels at each position."""
        scale, bias = self.scale_and_bias(name, x.shape[1])
        return F.layer_norm(x.movedim(1, -1), (x.shape[1],), scale, bias, eps=1e-5).movedim(-1, 1)


def squeeze_and_excite(b, x):
    y = b.conv("conv", x, 8, 3)
    s = F.relu(b.conv("reduce", y.mean((2, 3), keepdim=True), 3))
    return F.hardswish(y * F.hardsigmoid(b.conv("expand", s, 8)))


def convnext(b, x):
    y = b.layer_norm("norm", b.conv("depthwise", x, 8, 7, groups=8))
    y = b.conv("down", F.gelu(b.conv("up", y, 32)), 8)
    return x + b.conv("layer scale", y, 8, 1, groups=8, bias=False)


def inverted_bottleneck(b, x):
    y = F.relu6(b.batch_norm("norm1", b.conv("up", x, 16, bias=False)))
    y = F.relu6(b.batch_norm("norm2", b.conv("depthwise", y, 16, 3, groups=16, bias=False, stride=2)))
    return b.batch_norm("norm3", b.conv("down", y, 6, bias=False))


def transformer(b, x):
    """Pre-norm; x is (n, channels, 1, length)."""
    n, width, _, length = x.shape
    y = b.layer_norm("norm1", x)
    heads = lambda t: t.reshape(n, 2, width // 2, length).transpose(2, 3)
    q, k, v = (heads(b.conv(name, y, width)) for name in ("queries", "keys", "values"))
    y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, width, 1, length)
    x = x + b.conv("out", y, width)
    y = b.layer_norm("norm2", x)
    return x + b.conv("down", F.gelu(b.conv("up", y, 32)), width)


BLOCKS = {
    "squeeze and excite": (squeeze_and_excite, (5, 6, 6)),
    "convnext": (convnext, (8, 6, 7)),
    "inverted bottleneck": (inverted_bottleneck, (6, 7, 7)),
    "transformer": (transformer, (16, 1, 7)),
}
golden = {}
for name, (block, shape) in BLOCKS.items():
    b = Block()
    y = block(b, numbers(99, (BATCH, *shape), 1.5))
    loss = (y.double() ** 2).sum() / 2
    loss.backward()
    short = lambda t: [float(f"{v:.7g}") for v in t.flatten().tolist()]
    gradients = {k: short(p.grad) for k, p in b.parameters.items()}
    golden[name] = {"loss": loss.item(), "gradients": gradients}
folder = os.path.join(os.path.dirname(__file__), "..", "crates", "train", "tests", "golden")
os.makedirs(folder, exist_ok=True)
path = os.path.join(folder, "blocks.json")
with open(path, "w") as f:
    json.dump(golden, f, separators=(",", ":"))
    f.write("\n")
print(f"PyTorch {torch.__version__}: {os.path.getsize(path)} bytes")
