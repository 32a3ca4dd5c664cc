"""Losses and gradients of six blocks in PyTorch: writes crates/train/tests/golden/blocks.json, which crates/train/tests/blocks.rs is held against, and the
last two as ONNX files beside it, since their operators have no layers of their own in Polyveil: the importer writes them in others.

    python training/pytorch_gradients.py        # torch, onnx

Weights and inputs are whole numbers' remainders, the same on both sides; the loss is half the sum of the outputs' squares.
"""
import json, math, os, warnings
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
        if name in self.parameters:
            return self.parameters[name]
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

    def conv_transpose(self, name, x, out, kernel, stride):
        w = self.parameter(name + ".weight", (x.shape[1], out, kernel, kernel), 0.5)
        return F.conv_transpose2d(x, w, self.parameter(name + ".bias", (out,), 0.3), stride=stride)


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


def u_net(b, x):
    """Down, up again in two ways, and beside what was not taken down."""
    down, beside = F.elu(b.conv("first", x, 8, 3)).split([5, 3], 1)
    y = F.selu(b.conv("down", down, 6, 3, stride=2))
    up = F.elu(b.conv_transpose("up", y, 4, 2, 2), 0.7)
    wide = F.interpolate(y, size=(6, 6), mode="bilinear", align_corners=False)
    return b.conv("last", torch.cat([up, wide, beside], 1), 3)


def norms(b, x):
    """Normalised over groups of channels, over each channel's places, and by the channels' sizes (ConvNeXt V2)."""
    y = b.conv("first", x, 8)
    y = F.mish(F.group_norm(y, 4, *b.scale_and_bias("groups", 8)))
    y = F.instance_norm(b.conv("second", y, 8), weight=(p := b.scale_and_bias("places", 8))[0], bias=p[1])
    y = F.softplus(y)
    size = y.norm(p=2, dim=(2, 3), keepdim=True)
    scale, bias = (p.reshape(1, -1, 1, 1) for p in b.scale_and_bias("response", 8))
    y = y + scale * (y * (size / (size.mean(1, keepdim=True) + 1e-6))) + bias
    return b.conv("last", F.leaky_relu(b.conv("third", y, 8), 0.2), 4)


class Exported(torch.nn.Module):
    """A block whose parameters are there already, for ONNX."""

    def __init__(self, block, b):
        super().__init__()
        self.block, self.b = block, b
        for name, p in b.parameters.items():
            self.register_buffer(name.replace(".", "_"), p.detach())

    def forward(self, x):
        self.b.parameters = {name: getattr(self, name.replace(".", "_")) for name in self.b.parameters}
        return self.block(self.b, x)


BLOCKS = {
    "squeeze and excite": (squeeze_and_excite, (5, 6, 6)),
    "convnext": (convnext, (8, 6, 7)),
    "inverted bottleneck": (inverted_bottleneck, (6, 7, 7)),
    "transformer": (transformer, (16, 1, 7)),
    "u-net": (u_net, (3, 6, 6)),
    "norms": (norms, (6, 5, 4)),
}
folder = os.path.join(os.path.dirname(__file__), "..", "crates", "train", "tests", "golden")
os.makedirs(folder, exist_ok=True)
golden = {}
for name, (block, shape) in BLOCKS.items():
    b = Block()
    y = block(b, numbers(99, (BATCH, *shape), 1.5))
    loss = (y.double() ** 2).sum() / 2
    loss.backward()
    short = lambda t: [float(f"{v:.7g}") for v in t.flatten().tolist()]
    gradients = {k: short(p.grad) for k, p in b.parameters.items()}
    golden[name] = {"loss": loss.item(), "gradients": gradients}
    if block in (u_net, norms):
        path = os.path.join(folder, name + ".onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(Exported(block, b), (torch.zeros(1, *shape),), path, opset_version=17, dynamo=False)
path = os.path.join(folder, "blocks.json")
with open(path, "w") as f:
    json.dump(golden, f, separators=(",", ":"))
    f.write("\n")
print(f"PyTorch {torch.__version__}: {os.path.getsize(path)} bytes")
