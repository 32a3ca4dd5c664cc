#!/usr/bin/env python3
"""Train a ResNet-20 for CIFAR-10 whose activations are polynomials.

The network starts from random weights. A public SiLU ResNet-20 is its teacher
(knowledge distillation). Three stages, each one resumable:

  silu   train a SiLU student from nothing; a penalty keeps every
         pre-activation inside about +-R0, so that low degrees suffice later
  poly   replace each of the 19 SiLUs by one polynomial (least squares on the
         observed pre-activations), blend from SiLU to polynomial, fine-tune
         weights and coefficients together
  export recompute the BatchNorm statistics on lossless images, measure the
         range of every pre-activation, write the weights file
  test   evaluate weights files once on the 500 lossless test images

Choices (degree, schedule, checkpoint) look only at the last 1,000 lossless
training images, which are held out from all training together with their
JPEG twins. Only the stage `test` opens the test images.

Evaluation is plain float32 and never clamps an activation. In the first half
of the stage `poly` training clamps the argument of a polynomial at GUARD x its
interval; a range loss pulls outliers back all the time.

    python train_resnet20_poly.py silu --epochs 10
    python train_resnet20_poly.py poly --epochs 8 --degree 4 --init runs/silu.pt
    python train_resnet20_poly.py export --init runs/poly4.pt
    python train_resnet20_poly.py test --weights ../models/resnet20-poly.safetensors
"""
import argparse, csv, json, math, os, platform, sys, tarfile, io, time
import numpy as np
import torch
import torch.nn as nn
import torch.distributed as dist
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
LABELS = "airplane automobile bird cat deer dog frog horse ship truck".split()
MEAN, STD = (.485, .456, .406), (.229, .224, .225)
HELD_OUT = 1000        # the last lossless training images
GUARD = 1.25           # training only: polynomials see clamp(x, +-GUARD*R)
CLASSES = 10

# ---------------------------------------------------------------- network

def cheb_to_power(n):
    """Row k: power-basis coefficients of the Chebyshev polynomial T_k."""
    m = np.zeros((n, n))
    for k in range(n):
        c = np.polynomial.chebyshev.cheb2poly(np.eye(n)[k])
        m[k, :len(c)] = c
    return torch.tensor(m)


class Act(nn.Module):
    """SiLU, or a polynomial in Chebyshev basis on [-R, R].

    While a replacement is under way (`t` < 1) the value is
    (1 - t) * old + t * polynomial.
    """

    def __init__(self):
        super().__init__()
        self.mode = "silu"                       # silu | blend | poly
        self.pen_at = 6.0                        # range loss beyond this
        self.guard = False
        self.register_buffer("R", torch.tensor(6.0))
        self.register_buffer("t", torch.tensor(0.0))
        self.register_buffer("lim", torch.tensor(1e9), persistent=False)
        self.coef = None
        self.old = None                          # buffer, old coefficients
        self.pen = None

    def set_poly(self, coef, R, old=None):
        """coef, old: Chebyshev coefficients on [-R, R]; old None = SiLU."""
        n = len(coef) if old is None else max(len(coef), len(old))
        self.n = len(coef)
        self.coef = nn.Parameter(torch.tensor(coef, dtype=torch.float32))
        self.R.fill_(float(R))
        self.Rf = float(R)
        self.register_buffer("C2P", cheb_to_power(n).float(), persistent=False)
        if old is not None:
            o = torch.zeros(n)
            o[:len(old)] = torch.tensor(old, dtype=torch.float32)
            del self.old
            self.register_buffer("old", o)
        self.pen_at = 0.9 * float(R)
        self.mode = "blend"

    def poly(self, x, coef):
        p = coef.float() @ self.C2P[:len(coef), :len(coef)]
        u = x.float() / self.Rf
        y = p[-1]
        for k in range(len(coef) - 2, -1, -1):
            y = y * u + p[k]
        return y

    def value(self, x):
        if self.mode == "silu":
            return F.silu(x)
        xg = x.float()
        if self.guard:
            xg = torch.minimum(torch.maximum(xg, -self.lim), self.lim)
        if self.mode == "poly":
            y = self.poly(xg, self.coef)
        elif self.old is not None:
            c = F.pad(self.coef, (0, len(self.old) - self.n))
            y = self.poly(xg, self.t * c + (1 - self.t) * self.old)
        else:
            y = self.t * self.poly(xg, self.coef) + (1 - self.t) * F.silu(xg)
        return y.to(x.dtype)

    def forward(self, x):
        if self.training:                        # range loss of this layer
            over = F.relu(x.float().abs() - self.pen_at)
            self.pen = (over * over).sum() / x.shape[0]
        return self.value(x)


class Block(nn.Module):
    def __init__(self, ci, co, stride, act):
        super().__init__()
        self.conv1 = nn.Conv2d(ci, co, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(co)
        self.act1 = act()
        self.conv2 = nn.Conv2d(co, co, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(co)
        self.act2 = act()
        self.stride, self.pad = stride, (co - ci) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        if self.stride != 1:                     # option A
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return self.act2(y + x)


class Net(nn.Module):
    def __init__(self, act=Act):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = act()
        ci = 16
        for s, (co, st) in enumerate([(16, 1), (32, 2), (64, 2)], 1):
            blocks = []
            for b in range(3):
                blocks.append(Block(ci, co, st if b == 0 else 1, act))
                ci = co
            setattr(self, f"layer{s}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, CLASSES)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")

    def forward(self, x):
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))

    def acts(self):
        return {n: m for n, m in self.named_modules() if isinstance(m, Act)}


class WithPenalty(nn.Module):
    """Logits and the summed range loss, in one compiled graph."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.list = list(net.acts().values())

    def forward(self, x):
        y = self.net(x)
        return y, torch.stack([a.pen for a in self.list])


def load_teacher(data):
    ck = torch.load(os.path.join(data, "cnn", "resnet20.silu.model"),
                    map_location="cpu", weights_only=False)
    sd = {k.replace("module.", ""): v for k, v in ck["state_dict"].items()}
    net = Net(nn.SiLU)
    net.load_state_dict(sd)
    return net.eval().requires_grad_(False)

# ---------------------------------------------------------------- data

def read_bin(path):
    a = np.frombuffer(open(path, "rb").read(), np.uint8).reshape(-1, 3073)
    return (torch.tensor(a[:, 1:].reshape(-1, 3, 32, 32)),
            torch.tensor(a[:, 0]).long())


def normalise(x):
    m = torch.tensor(MEAN).view(1, 3, 1, 1)
    s = torch.tensor(STD).view(1, 3, 1, 1)
    return (x.float() / 255 - m) / s


def load_train(data, cache, say):
    """JPEG training images without the twins of the held-out ones, lossless
    training images, held-out lossless images."""
    from PIL import Image
    lx, ly = read_bin(os.path.join(data, "cifar10", "train_lossless_4660.bin"))
    if os.path.exists(cache):
        z = np.load(cache)
        jx, jy = torch.tensor(z["x"]), torch.tensor(z["y"]).long()
    else:
        rows = []
        with tarfile.open(os.path.join(data, "cifar10", "train_jpeg.tar.gz")) as t:
            for m in t:
                if m.isfile() and m.name.endswith(".jpg"):
                    _, c, f = m.name.split("/")
                    im = Image.open(io.BytesIO(t.extractfile(m).read())).convert("RGB")
                    rows.append((LABELS.index(c), f, np.asarray(im).transpose(2, 0, 1)))
        rows.sort(key=lambda r: (r[0], r[1]))
        jx = torch.tensor(np.stack([r[2] for r in rows]))
        jy = torch.tensor([r[0] for r in rows])
        np.savez(cache, x=jx.numpy(), y=jy.numpy())
    # twins: nearest JPEG of the same class (mean squared error)
    hx, hy = lx[-HELD_OUT:], ly[-HELD_OUT:]
    keep = torch.ones(len(jy), dtype=torch.bool)
    worst = 0.0
    for c in range(CLASSES):
        ji, hi = (jy == c).nonzero()[:, 0], (hy == c).nonzero()[:, 0]
        J, H = jx[ji].flatten(1).float(), hx[hi].flatten(1).float()
        d = (J * J).sum(1)[None] - 2 * H @ J.T + (H * H).sum(1)[:, None]
        best = d.argmin(1)
        err = (J[best] - H).abs().mean(1)
        worst = max(worst, float(err.max()))
        keep[ji[best]] = False
    say(f"JPEG twins of the held-out images removed: {int((~keep).sum())} "
        f"for {HELD_OUT} images, largest mean error of a pair {worst:.1f} grey levels")
    return (jx[keep], jy[keep], lx[:-HELD_OUT], ly[:-HELD_OUT], hx, hy)


def augment(x, rng):
    """Random crop from 4 pixels of zero padding (in normalised space the
    padding is the mean colour) and horizontal flip; x is normalised."""
    n = x.shape[0]
    p = F.pad(x, (4, 4, 4, 4))
    dy = torch.randint(0, 9, (n,), generator=rng)
    dx = torch.randint(0, 9, (n,), generator=rng)
    flip = torch.rand(n, generator=rng) < .5
    r = torch.arange(32)
    cols = torch.where(flip[:, None], 31 - r, r) + dx[:, None]
    rows = r + dy[:, None]
    i = torch.arange(n)[:, None, None]
    return p.permute(0, 2, 3, 1)[i, rows[:, :, None], cols[:, None, :]] \
            .permute(0, 3, 1, 2).contiguous()


class Sampler:
    """Endless shuffled indices."""

    def __init__(self, n, rng):
        self.n, self.rng, self.q = n, rng, torch.empty(0, dtype=torch.long)

    def take(self, k):
        while len(self.q) < k:
            self.q = torch.cat([self.q, torch.randperm(self.n, generator=self.rng)])
        out, self.q = self.q[:k], self.q[k:]
        return out

# ---------------------------------------------------------------- evaluation

@torch.no_grad()
def logits(net, x, bs=256):
    net.eval()
    g = [a.guard for a in net.modules() if isinstance(a, Act)]
    for a in net.modules():
        if isinstance(a, Act):
            a.guard = False                      # never clamp in evaluation
    out = torch.cat([net(normalise(x[i:i + bs])) for i in range(0, len(x), bs)])
    for a, v in zip((a for a in net.modules() if isinstance(a, Act)), g):
        a.guard = v
    return out


def accuracy(net, x, y):
    return float((logits(net, x).argmax(1) == y).float().mean())


@torch.no_grad()
def ranges(net, x, want=None):
    """Per activation: largest |pre-activation|; with `want`, also a sample."""
    got, samp = {}, {}
    def hook(name):
        def f(m, i):
            v = i[0]
            got[name] = max(got.get(name, 0.0), float(v.abs().max()))
            if want:
                flat = v.flatten()
                k = torch.randint(0, len(flat), (want,))
                samp.setdefault(name, []).append(flat[k])
        return f
    hs = [m.register_forward_pre_hook(hook(n)) for n, m in net.acts().items()]
    logits(net, x)
    for h in hs:
        h.remove()
    return (got, {k: torch.cat(v).double().numpy() for k, v in samp.items()}) if want else got


@torch.no_grad()
def recompute_bn(net, x, bs=366):
    """BatchNorm statistics as plain averages over these images and their
    mirror images, float32."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
    net.train()
    for a in net.acts().values():
        a.guard = False
    p = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    for i in range(0, len(p), bs):
        b = normalise(x[p[i:i + bs]])
        net(torch.cat([b, b.flip(3)]))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.1
    net.eval()


def interval95(k, n):
    """Wilson 95 % interval in percent."""
    z, p = 1.959964, k / n
    c, h = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 100 * (c - h) / (1 + z * z / n), 100 * (c + h) / (1 + z * z / n)

# ---------------------------------------------------------------- fitting

def silu_np(x):
    return x / (1 + np.exp(-x))


def fit(f, degree, R, sample):
    """Weighted least squares of f on [-R, R]: half the weight follows the
    observed pre-activations, the rest is uniform so that the edges count."""
    edges = np.linspace(-R, R, 401)
    h = np.histogram(np.clip(sample, -R, R), edges)[0].astype(float)
    w = 0.85 * h / h.sum() + 0.15 / 400
    u = (edges[1:] + edges[:-1]) / 2
    V = np.polynomial.chebyshev.chebvander(u / R, degree) * np.sqrt(w)[:, None]
    c = np.linalg.lstsq(V, f(u) * np.sqrt(w), rcond=None)[0]
    err = f(u) - np.polynomial.chebyshev.chebval(u / R, c)
    return c, float(np.sqrt((w * err ** 2).sum())), float(np.abs(err).max())


def change_interval(c, R, R2):
    """The same polynomial in Chebyshev basis on [-R2, R2] (float64)."""
    p = np.polynomial.chebyshev.cheb2poly(np.asarray(c, float))
    return np.polynomial.chebyshev.poly2cheb(p * (R2 / R) ** np.arange(len(p)))

# ---------------------------------------------------------------- checkpoints

def save_ck(path, net, extra):
    ck = dict(net=net.state_dict(),
              acts={n: dict(mode=a.mode, R=float(a.R), pen_at=a.pen_at,
                            coef=None if a.coef is None else a.coef.detach().tolist(),
                            old=None if a.old is None else a.old.tolist())
                    for n, a in net.acts().items()}, **extra)
    torch.save(ck, path + ".tmp")
    os.replace(path + ".tmp", path)


def load_ck(path):
    ck = torch.load(path, map_location="cpu", weights_only=False)
    net = Net()
    for n, a in net.acts().items():
        s = ck["acts"][n]
        if s["coef"] is not None:
            a.set_poly(s["coef"], s["R"], s["old"])
        a.mode, a.pen_at = s["mode"], s["pen_at"]
    net.load_state_dict(ck["net"])
    return net, ck

# ---------------------------------------------------------------- training

def train(args, say, log):
    torch.manual_seed(args.seed)
    rng = torch.Generator().manual_seed(args.seed + 1000 * args.rank)
    if args.world > 1:
        dist.init_process_group("gloo", rank=args.rank, world_size=args.world,
                                init_method="file://" + os.path.abspath(os.path.join(args.runs, "meet")))
        if args.rank:
            say = log = lambda *_: None
    name = args.name or ("silu" if args.stage == "silu" else f"poly{args.degree}")
    path = os.path.join(args.runs, name + ".pt")
    jx, jy, lx, ly, hx, hy = load_train(args.data, os.path.join(args.runs, "jpeg.npz"), say)
    teacher = load_teacher(args.data)
    start, state = 0, None
    if args.resume and os.path.exists(path):
        net, state = load_ck(path)
        start = state["epoch"]
        rng.manual_seed(args.seed + start + 1000 * args.rank)
    elif args.stage == "silu":
        net = Net()
        for a in net.acts().values():
            a.pen_at = args.r0
        say(f"teacher on the held-out images: {100 * accuracy(teacher, hx, hy):.1f} % "
            "(it was trained on them, the student is not)")
    else:
        net, _ = load_ck(args.init)
        say(f"{args.init}: held-out {100 * accuracy(net, hx, hy):.2f} %")
        got, samp = ranges(net, lx, want=40000)
        for n, a in net.acts().items():
            R = float(np.clip(got[n], 2.0, args.rmax))
            if a.coef is None:
                c, rms, worst = fit(silu_np, args.degree, R, samp[n])
                a.set_poly(c, R)
            else:
                oc, oR = a.coef.detach().double().numpy(), a.Rf
                R = min(R, 1.1 * oR)
                f = lambda u: np.polynomial.chebyshev.chebval(u / oR, oc)
                c, rms, worst = fit(f, args.degree, R, samp[n])
                a.set_poly(c, R, change_interval(oc, oR, R))
            say(f"  {n:16s} observed max {got[n]:.2f}, R {R:.2f}, degree {args.degree}: "
                f"weighted rms error {rms:.4f}, largest {worst:.3f}")
    poly = args.stage != "silu"
    for a in net.acts().values():
        a.guard = poly
    coefs = [p for n, p in net.named_parameters() if n.endswith(".coef")]
    decay = [p for n, p in net.named_parameters() if p.dim() > 1]
    other = [p for n, p in net.named_parameters() if p.dim() == 1 and not n.endswith(".coef")]
    opt = torch.optim.SGD([dict(params=decay, weight_decay=args.wd, mul=1.0),
                           dict(params=other, weight_decay=0.0, mul=1.0),
                           dict(params=coefs, weight_decay=0.0, mul=args.coef_lr)][:3 if coefs else 2],
                          lr=0.01, momentum=0.9, nesterov=True)
    if state and "opt" in state:
        opt.load_state_dict(state["opt"])
    B, steps = args.batch, 49000 // (args.batch * args.world)
    nsteps = steps * args.epochs

    used, clock = (state or {}).get("seconds", 0.0), time.time()

    def progress(i):                             # 0..1, by steps or by the clock
        u = i / nsteps
        return max(u, (used + time.time() - clock) / (60 * args.minutes)) if args.minutes else u

    def lr_at(u):                                # one cycle: up, then linear to 0
        w = args.warm
        return args.lr * (0.1 + 0.9 * u / w if u < w else max(0.0, (1 - u) / (1 - w)))

    wrapped = WithPenalty(net)
    tnet = teacher
    if args.compile:
        wrapped, tnet = torch.compile(wrapped), torch.compile(teacher)
    sj, sl = Sampler(len(jy), rng), Sampler(len(ly), rng)
    scale, bad, T = 1.0, 0, args.temp
    for ep in range(start, args.epochs):
        if poly:
            for a in net.acts().values():
                a.mode = "blend" if ep < math.ceil(args.blend) else "poly"
        net.train()
        t0, tot = time.time(), np.zeros(5)
        skipped = 0
        for s in range(steps):
            i = ep * steps + s
            u = progress(i)
            if args.world > 1:                   # one clock for all processes
                c = torch.tensor([u], dtype=torch.float64)
                dist.broadcast(c, 0)
                u = float(c)
            if u >= 1:
                break
            for a in net.acts().values():
                # the guard ends at `late`: from then on training sees exactly
                # what evaluation sees
                a.lim.fill_(GUARD * float(a.R) if u < args.late else 1e9)
            lr = lr_at(u) * scale
            nl = round(B * (args.mix_late if poly and u >= args.late else args.mix))
            for g in opt.param_groups:
                g["lr"] = lr * g["mul"]
            if poly and i < args.blend * steps + 1:
                t = min(1.0, (i + 1) / (args.blend * steps))
                for a in net.acts().values():
                    a.t.fill_(t)
            kj, kl = sj.take(B - nl), sl.take(nl)
            x = augment(normalise(torch.cat([jx[kj], lx[kl]])), rng)
            y = torch.cat([jy[kj], ly[kl]])
            before = [b.clone() for b in net.buffers()]
            with torch.autocast("cpu", torch.bfloat16, enabled=not args.fp32):
                with torch.no_grad():
                    q = tnet(x).float()
                o, pens = wrapped(x)
            o = o.float()
            kd = F.kl_div(F.log_softmax(o / T, 1), F.log_softmax(q / T, 1),
                          reduction="batchmean", log_target=True) * T * T
            ce = F.cross_entropy(o, y)
            pen = pens.sum()
            loss = args.kd * kd + (1 - args.kd) * ce + args.range_weight * pen
            opt.zero_grad(set_to_none=True)
            loss.backward()
            if args.world > 1:
                ps = [p for p in net.parameters() if p.grad is not None]
                flat = torch.cat([p.grad.flatten() for p in ps])
                dist.all_reduce(flat)
                for p, g in zip(ps, (flat / args.world).split([p.numel() for p in ps])):
                    p.grad.copy_(g.view_as(p))
            gn = torch.nn.utils.clip_grad_norm_(decay + other, args.clip)
            gc = torch.nn.utils.clip_grad_norm_(coefs, args.coef_clip) if coefs else gn
            if not torch.isfinite(gn + gc):
                bad, skipped = bad + 1, skipped + 1
                for b, v in zip(net.buffers(), before):   # BatchNorm statistics
                    b.copy_(v)
                if bad > 20 and os.path.exists(path):
                    say("  20 bad steps: back to the last checkpoint, half the rate")
                    back, ck = load_ck(path)
                    net.load_state_dict(back.state_dict(), strict=False)
                    opt.state.clear()
                    scale, bad = scale / 2, 0
                continue
            bad = 0
            opt.step()
            tot += [loss.item(), kd.item(), ce.item(), pen.item(),
                    (o.argmax(1) == y).float().mean().item()]
            if s % 20 == 0 and args.rank == 0:
                print(f"    {name} {ep + 1} {s}/{steps} loss {float(loss):.3f} kd {float(kd):.3f} "
                      f"ce {float(ce):.3f} pen {float(pen):.3f} gn {float(gn):.2f} gc {float(gc):.2f} "
                      f"{time.time() - t0:.0f} s", file=sys.stderr, flush=True)
            if s % 50 == 49 and args.rank == 0:
                save_ck(path + ".part", net, dict(epoch=ep, args=vars(args)))
        done = s + 1 if u < 1 else s
        if not done:
            break
        tot /= max(1, done - skipped)
        sec = time.time() - t0
        if args.rank:
            if u >= 1:
                break
            continue
        held = accuracy(net, hx, hy)
        got = ranges(net, lx)
        worst = max(got, key=lambda n: got[n] / (net.acts()[n].Rf if poly else args.r0))
        ratio = got[worst] / (net.acts()[worst].Rf if poly else args.r0)
        save_ck(path, net, dict(epoch=ep + 1, seconds=used + time.time() - clock, opt=opt.state_dict(), held=held, args=vars(args)))
        say(f"{name} epoch {ep + 1}/{args.epochs}: lr {lr:.4f} loss {tot[0]:.3f} kd {tot[1]:.3f} "
            f"ce {tot[2]:.3f} range {tot[3]:.4f} train acc {100 * tot[4]:.1f} "
            f"HELD-OUT {100 * held:.2f} % worst |x|/R {ratio:.2f} ({worst}) "
            f"skipped {skipped} steps {done} {sec:.0f} s")
        log([name, ep + 1, f"{lr:.5f}", *(f"{v:.4f}" for v in tot), f"{held:.4f}",
             f"{ratio:.3f}", worst, skipped, done, f"{sec:.0f}"])
        if u >= 1:
            break

# ---------------------------------------------------------------- export, test

def export(args, say):
    from safetensors.torch import save_file
    _, _, lx, ly, hx, hy = load_train(args.data, os.path.join(args.runs, "jpeg.npz"), say)
    net, ck = load_ck(args.init)
    for a in net.acts().values():
        if a.coef is None:
            sys.exit("this checkpoint still has SiLU activations")
        a.mode, a.guard = "poly", False
    before = accuracy(net, hx, hy)
    recompute_bn(net, lx)
    after = accuracy(net, hx, hy)
    say(f"export {args.init}: held-out {100 * before:.2f} % with the running BatchNorm statistics, "
        f"{100 * after:.2f} % recomputed on the lossless images")
    train = ranges(net, torch.cat([lx, lx.flip(3)]))
    held = ranges(net, hx)
    got = {n: max(train[n], held[n]) for n in held}   # all lossless training images
    out = {k: v.float().contiguous() for k, v in net.state_dict().items()
           if not k.endswith((".R", ".t", ".coef", ".old", "num_batches_tracked"))}
    for n, a in net.acts().items():
        R = math.ceil(args.margin * got[n] * 100) / 100
        c = change_interval(a.coef.detach().double().numpy(), a.Rf, R)
        out[n + ".poly"] = torch.tensor(c, dtype=torch.float64)
        out[n + ".interval"] = torch.tensor([-R, R], dtype=torch.float64)
        say(f"  {n:16s} interval +-{R:.2f}; max |x|/R: trained on {train[n] / R:.3f}, held-out {held[n] / R:.3f}; "
            f"coefficients {' '.join(f'{v:+.4f}' for v in c)}")
    say("  worst held-out |x|/R %.3f" % max(held[n] / float(out[n + '.interval'][1]) for n in held))
    meta = dict(
        format="ResNet-20 for CIFAR-10 with polynomial activations. Tensors as in a PyTorch state_dict, "
               "f32. <name>.poly: Chebyshev coefficients (T_0, T_1, ...) on <name>.interval = [lo, hi], f64. "
               "Block: act2(bn2(conv2(act1(bn1(conv1 x)))) + shortcut(x)); shortcut of a stride-2 block: "
               "x[:, :, ::2, ::2], zero channels added equally before and after. Stem conv1 bn1 act1; global "
               "average pool; linear. BatchNorm eps 1e-5. Convolutions 3x3, padding 1, no bias.",
        labels=json.dumps(LABELS), mean=json.dumps(MEAN), std=json.dumps(STD),
        input="RGB / 255, then (x - mean) / std, CHW 32x32", degree=str(len(c) - 1),
        data="CIFAR-10 training images (Krizhevsky 2009): 49,000 as JPEG, 3,660 of them lossless too; "
             "1,000 held out", teacher="resnet20.silu (corelab-src/dacapo, MIT), logits only",
        seed=str(args.seed), command=args.note, held_out_accuracy=f"{after:.4f}")
    save_file(out, args.out, metadata=meta)
    say(f"wrote {os.path.basename(args.out)}, {os.path.getsize(args.out)} bytes")


def load_export(path):
    """A network from the exported file alone."""
    from safetensors.torch import load_file
    f = load_file(path)
    net = Net()
    for n, a in net.acts().items():
        a.set_poly(f.pop(n + ".poly").tolist(), float(f.pop(n + ".interval")[1]))
        a.mode = "poly"
    missing, extra = net.load_state_dict(f, strict=False)
    assert not extra and all(k.endswith((".R", ".t", ".coef", "num_batches_tracked"))
                             for k in missing), (missing, extra)
    return net.eval()


def test(args, say):
    x, y = read_bin(os.path.join(args.data, "cifar10", "test_lossless_500.bin"))
    teacher = logits(load_teacher(args.data), x)
    tr = teacher.argmax(1) == y
    say(f"test, {len(y)} lossless images, float32, no clamp")
    say("  teacher %d/%d = %.1f %% [%.1f, %.1f]" % (tr.sum(), len(y), 100 * tr.float().mean(),
                                                  *interval95(int(tr.sum()), len(y))))
    for w in args.weights:
        net = load_export(w) if w.endswith(".safetensors") else load_ck(w)[0]
        z = logits(net, x)
        r = z.argmax(1) == y
        say("  %s %d/%d = %.1f %% [%.1f, %.1f]; same class as the teacher %d; right where the teacher is "
            "wrong %d, wrong where it is right %d" % (
                os.path.basename(w), r.sum(), len(y), 100 * r.float().mean(),
                *interval95(int(r.sum()), len(y)), (z.argmax(1) == teacher.argmax(1)).sum(),
                (r & ~tr).sum(), (~r & tr).sum()))
        if w.endswith(".safetensors"):
            got = ranges(net, x)
            k = max(got, key=lambda n: got[n] / net.acts()[n].Rf)
            say("    worst |x|/R on the test images %.3f (%s); finite logits: %s" % (
                got[k] / net.acts()[k].Rf, k, bool(torch.isfinite(z).all())))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stage", choices=["silu", "poly", "export", "test"])
    p.add_argument("--data", default=os.path.join(HERE, "..", "..", "shared", "data"))
    p.add_argument("--out", default=os.path.join(HERE, "..", "models", "resnet20-poly.safetensors"))
    p.add_argument("--runs", default=os.path.join(HERE, "runs"), help="checkpoints (not in git)")
    p.add_argument("--log", default=os.path.join(HERE, "log.txt"))
    p.add_argument("--name"), p.add_argument("--init"), p.add_argument("--note", default="")
    p.add_argument("--weights", nargs="*", default=[])
    p.add_argument("--resume", action="store_true")
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--world", type=int, default=1, help="data-parallel processes; --batch is each one's")
    p.add_argument("--rank", type=int, default=0)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--minutes", type=float, default=0, help="end the schedule by the clock, if that is earlier")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=0.2)
    p.add_argument("--warm", type=float, default=0.2, help="part of the steps with a rising rate")
    p.add_argument("--wd", type=float, default=5e-4)
    p.add_argument("--coef-lr", type=float, default=0.03, help="rate of the coefficients / rate")
    p.add_argument("--coef-clip", type=float, default=0.5)
    p.add_argument("--clip", type=float, default=5.0)
    p.add_argument("--temp", type=float, default=4.0)
    p.add_argument("--kd", type=float, default=0.7)
    p.add_argument("--range-weight", type=float, default=0.005)
    p.add_argument("--r0", type=float, default=5.0)
    p.add_argument("--rmax", type=float, default=6.0)
    p.add_argument("--degree", type=int, default=4)
    p.add_argument("--blend", type=float, default=1.0, help="epochs from SiLU to polynomial")
    p.add_argument("--mix", type=float, default=0.07, help="lossless part of a batch")
    p.add_argument("--mix-late", type=float, default=0.25)
    p.add_argument("--late", type=float, default=0.5)
    p.add_argument("--margin", type=float, default=1.25)
    p.add_argument("--compile", action="store_true", help="torch.compile (needs a C++ compiler)")
    p.add_argument("--fp32", action="store_true", help="no bfloat16 in training")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.runs, exist_ok=True)

    def say(line):
        print(line, flush=True)
        with open(args.log, "a") as f:
            f.write(line + "\n")

    def log(row):
        path = os.path.splitext(args.log)[0] + ".csv"
        new = not os.path.exists(path)
        with open(path, "a", newline="") as f:
            w = csv.writer(f)
            if new:
                w.writerow("stage epoch lr loss kd ce range train_acc held_out_acc "
                           "worst_ratio worst_layer skipped steps seconds".split())
            w.writerow(row)

    if args.stage in ("silu", "poly"):
        say(f"# {args.stage}: " + " ".join(
            f"{k}={v}" for k, v in vars(args).items()
            if k not in ("stage", "data", "out", "runs", "log", "weights", "note"))
            + f" torch={torch.__version__} python={platform.python_version()}")
        train(args, say, log)
    elif args.stage == "export":
        args.note = args.note or " ".join(sys.argv[1:])
        export(args, say)
    else:
        test(args, say)


if __name__ == "__main__":
    main()
