"""Times the training step of crates/train/examples/step.rs in PyTorch, to compare: ResNet-20, batch 64, polynomials of degree 4; or
ResNet-18 on pictures of 64x64, batch 32, ReLU, a mean in the place of the maximum, as polynomial networks have it.

    python training/pytorch_step.py [threads] [resnet18]
"""
import sys, time
import torch
from torch import nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(0)


class Poly(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.tensor([0.5, 0.25, 0.1 / 3, 0.025, 0.02]), requires_grad=False)

    def forward(self, x):
        t = x / 8
        c = self.c
        return c[0] + t * (c[1] + t * (c[2] + t * (c[3] + t * c[4])))


class Block(nn.Module):
    """Two 3×3 convolutions, activations that `act` makes, and beside them what `down` makes of the input."""
    def __init__(self, i, o, s, act, down):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, s, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.a1, self.a2, self.down = act(), act(), down

    def forward(self, x):
        y = self.bn2(self.conv2(self.a1(self.bn1(self.conv1(x)))))
        return self.a2(y + self.down(x))


class Padded(nn.Module):
    """Every second pixel, and channels of zeros on both sides."""
    def __init__(self, more):
        super().__init__()
        self.more = more

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))


def stages(widths, first, blocks, act, down):
    for w, i in zip(widths, [first, *widths]):
        yield Block(i, w, 1 if w == i else 2, act, nn.Identity() if w == i else down(i, w))
        yield from (Block(w, w, 1, act, nn.Identity()) for _ in range(blocks - 1))


def resnet20():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), Poly()]
    layers += stages([16, 32, 64], 16, 3, Poly, lambda i, w: Padded(w - i))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet18():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(3, 2, 1)]
    layers += stages([64, 128, 256, 512], 64, 2, nn.ReLU,
                     lambda i, w: nn.Sequential(nn.Conv2d(i, w, 1, 2, bias=False), nn.BatchNorm2d(w)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


large = len(sys.argv) > 2
net, batch, size = (resnet18(), 32, 64) if large else (resnet20(), 64, 32)
opt = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
x, y = torch.randn(batch, 3, size, size), torch.arange(batch) % 10
times, cpu = [], []
for step in range(35):
    t, c = time.perf_counter(), time.process_time()
    opt.zero_grad()
    F.cross_entropy(net(x), y).backward()
    opt.step()
    if step >= 5:
        times.append(time.perf_counter() - t)
        cpu.append(time.process_time() - c)
times.sort()
cpu.sort()
print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads: {1e3 * times[len(times) // 2]:.1f} ms a step (median), shortest {1e3 * times[0]:.1f} ms; {1e3 * cpu[len(cpu) // 2]:.1f} CPU ms a step (median)")
