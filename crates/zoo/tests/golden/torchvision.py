#!/usr/bin/env python3
"""What torchvision's networks give for weights that a formula makes, for the test `published_networks_give_what_torch_gives` of polyveil-zoo.

  pip install torch torchvision
  crates/zoo/tests/golden/torchvision.py > crates/zoo/tests/golden/torchvision.txt

Of each network a line with its name and its activation, a line for each tensor of its state dict (name and shape, sorted by name), and a line with the
first eight outputs. Value i of tensor t is made of h = ((7919 t + 104729 i) mod 65521) / 65521 - 1/2, see `value`; the picture is tensor 999.
"""
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


for name, activation, more in (("resnet18", "relu", {}), ("mobilenet_v2", "relu6", {}), ("resnext50_32x4d", "relu", {})):
    model = tv.get_model(name, weights=None, num_classes=8, **more).eval()
    state = {k: v for k, v in sorted(model.state_dict().items()) if not k.endswith("num_batches_tracked")}
    model.load_state_dict({k: torch.from_numpy(values(t, k, tuple(v.shape))) for t, (k, v) in enumerate(state.items())}, strict=False)
    x = torch.from_numpy(2.0 * values(999, "running_mean", (1, 3, 224, 224)))
    with torch.no_grad():
        y = model.double()(x.double())[0]
    print("network", name, activation)
    for k, v in state.items():
        print("tensor", k, *v.shape)
    print("outputs", *(f"{v:.9g}" for v in y.tolist()))
