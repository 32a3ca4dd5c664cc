#!/usr/bin/env python3
"""What torchvision's networks give for weights that a formula makes, for the tests `published_networks_give_what_torch_gives` and `convnexts_give_what_torch_gives` of
polyveil-zoo, and their like.

  pip install torch torchvision timm open_clip_torch
  for n in torchvision convnext clip_resnet efficientnet; do crates/zoo/tests/golden/pictures.py $n > crates/zoo/tests/golden/$n.txt; done

Of each network a line with its name and its activation, a line for each tensor of its state dict (name and shape, sorted by name), and a line with the
first eight outputs. Value i of tensor t is made of h = ((7919 t + 104729 i) mod 65521) / 65521 - 1/2, see `value`; the picture is tensor 999.
"""
import re
import sys

import numpy as np
import torch
import torchvision.models as tv


def values(t, name, shape):
    h = ((7919 * t + 104729 * np.arange(int(np.prod(shape)), dtype=np.int64)) % 65521) / 65521.0 - 0.5
    if name.endswith("running_var"):
        v = 1.0 + h
    elif name.endswith("running_mean") or name.endswith("bias"):
        v = 0.2 * h
    elif len(shape) == 1:
        v = 1.0 + 0.4 * h
    else:
        v = h * np.sqrt(24.0 / np.prod(shape[1:]))
    return v.astype(np.float32).reshape(shape)


def convnext(version, scheme):
    """A small one of timm's, its tensors under the names of `scheme`: timm, authors or torchvision (which has version 1 only)."""
    from timm.models.convnext import ConvNeXt
    more = {"use_grn": True, "ls_init_value": None} if version == 2 else {}
    model = ConvNeXt(num_classes=8, depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), **more)
    if scheme == "torchvision":
        s = tv.convnext.CNBlockConfig
        sizes = [s(8, 16, 1), s(16, 24, 2), s(24, 32, 1), s(32, None, 1)]
        return tv.ConvNeXt(sizes, num_classes=8), lambda k, shape: (k, shape)
    if scheme == "timm":
        return model, lambda k, shape: (k, shape)
    renamed = [(r"stem\.", "downsample_layers.0."), (r"stages\.(\d)\.downsample", r"downsample_layers.\1"), (r"\.blocks\.", "."),
               ("conv_dw", "dwconv"), (r"mlp\.fc", "pwconv"), (r"mlp\.grn\.weight", "grn.gamma"), (r"mlp\.grn\.bias", "grn.beta"),
               (r"head\.norm", "norm"), (r"head\.fc", "head")]

    def name(k, shape):
        for a, b in renamed:
            k = re.sub(a, b, k)
        return k, (1, 1, 1, *shape) if "grn" in k else shape
    return model, name


def plain(name, **more):
    return tv.get_model(name, weights=None, num_classes=8, **more), lambda k, shape: (k, shape)


def clip_resnet(layers, width, heads, size):
    """A small tower of open_clip's, under the names that it has beside a text tower."""
    from open_clip.modified_resnet import ModifiedResNet
    return ModifiedResNet(layers, 6, heads, size, width), lambda k, shape: ("visual." + k, shape)


def timms(name):
    import timm
    return timm.create_model(name, num_classes=8), lambda k, shape: (k, shape)


NETWORKS = {
    "torchvision": [("resnet18", "relu", lambda: plain("resnet18")), ("mobilenet_v2", "relu6", lambda: plain("mobilenet_v2")),
                    ("resnext50_32x4d", "relu", lambda: plain("resnext50_32x4d")), ("wide_resnet50_2", "relu", lambda: plain("wide_resnet50_2")),
                    ("vgg11", "relu", lambda: plain("vgg11")), ("vgg11_bn", "relu", lambda: plain("vgg11_bn")),
                    ("timm_resnet26", "relu", lambda: timms("resnet26"))],
    "convnext": [(f"convnext{v}-{s}", "gelu", lambda v=v, s=s: convnext(v, s)) for v, s in
                 ((1, "authors"), (1, "timm"), (1, "torchvision"), (2, "authors"), (2, "timm"))],
    "efficientnet": [(n, "relu6", lambda n=n: timms(n), 72) for n in ("tf_efficientnet_lite0", "efficientnet_lite0", "tf_efficientnet_lite1")],
    "clip_resnet": [("clip-rn", "relu", lambda: clip_resnet((1, 2, 1, 1), 4, 2, 64), 64),
                    ("clip-rn-of-96", "relu", lambda: clip_resnet((2, 1, 1, 1), 2, 1, 96), 96)],
}

for label, activation, make, *size in NETWORKS[sys.argv[1]]:
    model, renamed = make()
    size = size[0] if size else 224
    model.eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    own = {k: renamed(k, tuple(v.shape)) for k, v in state.items()}
    order = sorted(state, key=lambda k: own[k][0])
    new = {k: torch.from_numpy(values(t, *own[k])).reshape(state[k].shape) for t, k in enumerate(order)}
    model.load_state_dict(new, strict=False)
    x = torch.from_numpy(2.0 * values(999, "running_mean", (1, 3, size, size)))
    with torch.no_grad():
        y = model.double()(x.double())[0]
    print("network", label, activation)
    for k in order:
        print("tensor", own[k][0], *own[k][1])
    print("outputs", *(f"{v:.9g}" for v in y.tolist()))
