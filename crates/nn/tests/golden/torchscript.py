#!/usr/bin/env python3
"""A TorchScript archive as torch.jit.save writes it, for the test `a_torchscript_archive_is_its_state_dict` of polyveil-nn:

  pip install torch
  crates/nn/tests/golden/torchscript.py > crates/nn/tests/golden/torchscript.pt

Half precision as OpenAI's CLIP; a matrix stored transposed, a module that is used twice, attributes that are no tensors. Value i of every tensor is i/8 - 1/2.
"""
import io
import sys
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn1(self.conv1(x))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        block = Block()
        self.visual = nn.Sequential(block, nn.ReLU(), nn.Conv2d(2, 1, 1), block)
        self.text_projection = nn.Parameter(torch.zeros(3, 2).t())
        self.register_buffer("context_length", torch.zeros((), dtype=torch.int64))
        self.sizes, self.names, self.pair, self.nothing = [1, 2], {"a": 1.5}, (1, "b"), None

    def forward(self, x):
        return self.visual(x)


network = Network().half().eval().requires_grad_(False)
for t in network.state_dict().values():
    t.copy_((torch.arange(t.numel()) / 8 - 0.5).reshape(t.shape))
network.context_length.fill_(77)
archive = io.BytesIO()
torch.jit.save(torch.jit.script(network), archive)
sys.stdout.buffer.write(archive.getvalue())
print({k: tuple(v.shape) for k, v in network.state_dict().items()}, file=sys.stderr)
