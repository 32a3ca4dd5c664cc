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
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, s, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.a1, self.a2, self.s, self.p = Poly(), Poly(), s, o - i

    def forward(self, x):
        y = self.bn2(self.conv2(self.a1(self.bn1(self.conv1(x)))))
        if self.p:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.p // 2, self.p // 2))
        return self.a2(x + y)




class Basic(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, s, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.down = None
        if i != o:
            self.down = nn.Sequential(nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


def resnet20():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), Poly()]
    for w, i in [(16, 16), (32, 16), (64, 32)]:
        layers += [Block(i, w, 1 if w == 16 else 2)] + [Block(w, w, 1) for _ in range(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet18():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(3, 2, 1)]
    for w, i in [(64, 64), (128, 64), (256, 128), (512, 256)]:
        layers += [Basic(i, w, 1 if w == 64 else 2), Basic(w, w, 1)]
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
