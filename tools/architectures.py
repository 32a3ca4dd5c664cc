#!/usr/bin/env python3
"""What becomes of published architectures: exported from PyTorch by both of its exporters with random weights, read by Polyveil, compared with
onnxruntime on one random input.

  pip install torch torchvision timm transformers open_clip_torch onnx onnxscript onnxruntime
  cargo build --release -p polyveil-nn --example values
  tools/architectures.py export WORK            # WORK/NAME.EXPORTER.onnx, an input and onnxruntime's answer beside each
  tools/architectures.py compare WORK --values target/release/examples/values
  tools/architectures.py costs WORK --polyveil target/release/polyveil

`compare` prints a table in Markdown. Right is a largest difference of at most 1e-4 times the largest magnitude of the answer. `costs` prints what each
would take encrypted (`polyveil estimate`, CPU seconds of the shipped table): degree 4, means for maxima, Power-Softmax for softmax, intervals of
made-up inputs.
"""
import argparse
import json
import os
import subprocess
import sys
import time

NAMES = """alexnet cifar_resnet20_A lenet5 mnasnet0_5 regnet_x_400mf resnet152 resnet18 resnet50 resnext50_32x4d timm_gernet_s
timm_mobilenetv4_conv_small timm_mobileone_s0 timm_repvgg_a0 timm_resnet10t timm_resnet26d timm_resnetv2_50 vgg11_bn vgg16 wide_resnet50_2
densenet121 efficientnet_b0 efficientnet_v2_s fcn_resnet50 googlenet inception_v3 mobilenet_v2 regnet_y_400mf squeezenet1_1 timm_darknet53
timm_dla34 timm_ecaresnet26t timm_hrnet_w18_small timm_res2net50_26w_4s timm_resmlp_12_224 timm_selecsls42 timm_seresnet50
timm_tf_efficientnet_lite0 timm_vovnet39a convnext_tiny mobilenet_v3_large mobilenet_v3_small timm_convnext_atto timm_dm_nfnet_f0 timm_lcnet_050
timm_mixer_s32_224 timm_repghostnet_050 unet_bilinear unet_convT clip_rn50_image clip_vit_b32_image lraspp_mnv3 shufflenet_v2_x0_5
timm_cspresnet50 timm_deit_tiny_patch16_224 timm_ghostnet_100 vit_b_32 bert_mini_embeds deeplabv3_mnv3 timm_convnextv2_atto
timm_poolformer_s12 timm_tresnet_m bert_mini_ids swin_t timm_efficientformer_l1 timm_mobilevit_xxs""".split()


def small():
    """Networks that no library has."""
    import torch
    from torch import nn
    import torch.nn.functional as F

    class Lenet(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                                   nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                                   nn.Linear(84, 10))

        def forward(self, x):
            return self.f(x)

    class Basic(nn.Module):
        def __init__(self, i, o, s):
            super().__init__()
            self.a, self.b = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.Conv2d(o, o, 3, 1, 1, bias=False)
            self.m, self.n = nn.BatchNorm2d(o), nn.BatchNorm2d(o)
            self.s, self.more = s, o - i

        def forward(self, x):
            y = self.n(self.b(F.relu(self.m(self.a(x)))))
            if self.more:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
            return F.relu(x + y)

    class Cifar(nn.Module):
        def __init__(self):
            super().__init__()
            blocks, i = [], 16
            for o in (16, 32, 64):
                for k in range(3):
                    blocks.append(Basic(i, o, 2 if k == 0 and o != 16 else 1))
                    i = o
            self.f = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks)
            self.l = nn.Linear(64, 10)

        def forward(self, x):
            return self.l(self.f(x).mean((2, 3)))

    def double(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1),
                             nn.BatchNorm2d(o), nn.ReLU())

    class Unet(nn.Module):
        def __init__(self, bilinear):
            super().__init__()
            self.a, self.b, self.c = double(3, 16), double(16, 32), double(32, 64)
            self.bilinear = bilinear
            if not bilinear:
                self.u, self.v = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
            self.d = double(96 if bilinear else 64, 32)
            self.e = double(48 if bilinear else 32, 16)
            self.o = nn.Conv2d(16, 2, 1)

        def up(self, x, by):
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True) if self.bilinear else by(x)

        def forward(self, x):
            a = self.a(x)
            b = self.b(F.max_pool2d(a, 2))
            c = self.c(F.max_pool2d(b, 2))
            y = self.d(torch.cat([b, self.up(c, None if self.bilinear else self.u)], 1))
            return self.o(self.e(torch.cat([a, self.up(y, None if self.bilinear else self.v)], 1)))

    return Lenet, Cifar, Unet


def network(name):
    """The network and its input's shape; an integer input is named by its bound."""
    import torch
    import torchvision.models as tv
    Lenet, Cifar, Unet = small()
    picture = (1, 3, 224, 224)
    if name == "lenet5":
        return Lenet(), (1, 1, 28, 28)
    if name == "cifar_resnet20_A":
        return Cifar(), (1, 3, 32, 32)
    if name.startswith("unet"):
        return Unet(name == "unet_bilinear"), (1, 3, 64, 64)
    if name.startswith("timm_"):
        import timm
        model = timm.create_model(name[5:], pretrained=False)
        size = model.default_cfg["input_size"]
        return model, (1, *size)
    if name.startswith("clip"):
        import open_clip
        kind = "RN50" if "rn50" in name else "ViT-B-32"
        return open_clip.create_model(kind).visual, picture
    if name.startswith("bert"):
        from transformers import BertConfig, BertModel
        config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, vocab_size=1000)
        bert = BertModel(config)

        class Wrapped(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.bert = bert

            def forward(self, x):
                if name.endswith("ids"):
                    return self.bert(input_ids=x).pooler_output
                return self.bert(inputs_embeds=x).pooler_output

        return Wrapped(), ((1, 16), 1000) if name.endswith("ids") else (1, 16, 128)
    if name in ("fcn_resnet50", "deeplabv3_mnv3", "lraspp_mnv3"):
        full = {"fcn_resnet50": "fcn_resnet50", "deeplabv3_mnv3": "deeplabv3_mobilenet_v3_large",
                "lraspp_mnv3": "lraspp_mobilenet_v3_large"}[name]
        inner = tv.get_model(full, weights=None, weights_backbone=None)

        class Out(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return self.inner(x)["out"]

        return Out(), picture
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "googlenet":
        more["aux_logits"] = False
    if name == "inception_v3":
        more["aux_logits"] = True
        picture = (1, 3, 299, 299)
    return tv.get_model(name, weights=None, **more), picture


def export(work, names):
    import numpy as np
    import onnxruntime
    import torch
    import warnings
    warnings.filterwarnings("ignore")
    os.makedirs(work, exist_ok=True)
    for name in names:
        torch.manual_seed(0)
        try:
            model, shape = network(name)
        except Exception as e:
            print(name, "can't be made:", str(e).split("\n")[0], flush=True)
            continue
        model.eval()
        # running means as after training, so that values stay small
        with torch.no_grad():
            for m in model.modules():
                if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
                    m.running_mean.normal_(0, 0.1)
                    m.running_var.uniform_(0.5, 1.5)
            # what begins as zeros would hide what lies before it
            for p in model.parameters():
                if p.dim() > 0 and not p.any():
                    p.normal_(0, 0.02)
        if isinstance(shape[0], tuple):
            x = torch.randint(0, shape[1], shape[0])
        else:
            x = torch.randn(shape)
        for exporter in ("torchscript", "dynamo"):
            path = os.path.join(work, f"{name}.{exporter}.onnx")
            done = path.replace(".onnx", ".answer.f64")
            if os.path.exists(done):
                continue
            begin = time.time()
            try:
                if exporter == "dynamo":
                    torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
                else:
                    torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
                options = onnxruntime.SessionOptions()
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                options.intra_op_num_threads = 1
                s = onnxruntime.InferenceSession(path, options)
                y = s.run(None, {s.get_inputs()[0].name: x.numpy()})[0]
                x.numpy().astype("<f8").tofile(path.replace(".onnx", ".input.f64"))
                np.asarray(y).astype("<f8").tofile(done)
                print(name, exporter, y.shape, f"{time.time() - begin:.1f} s", flush=True)
            except Exception as e:
                print(name, exporter, "not exported:", str(e).split("\n")[0][:200], flush=True)


def compare(work, names, values):
    import numpy as np
    agree = {}
    print("| architecture | torchscript, opset 17 | dynamo |\n|---|---|---|")
    for name in names:
        cells = []
        for exporter in ("torchscript", "dynamo"):
            base = os.path.join(work, f"{name}.{exporter}")
            if not os.path.exists(base + ".answer.f64"):
                cells.append("PyTorch does not export it")
                continue
            out = base + ".polyveil.f64"
            ran = subprocess.run([values, base + ".onnx", base + ".input.f64", out], capture_output=True, text=True)
            if ran.returncode != 0:
                cells.append("refused: " + (ran.stderr.strip().split("\n") or ["?"])[-1])
                continue
            y, z = np.fromfile(out, "<f8"), np.fromfile(base + ".answer.f64", "<f8")
            if y.shape != z.shape:
                cells.append(f"**WRONG**: {y.size} values instead of {z.size}")
                continue
            by = np.abs(y - z).max() / max(np.abs(z).max(), 1e-30)
            good = by <= 1e-4
            cells.append(f"agrees, {by:.0e}" if good else f"**WRONG** by {by:.1e}")
            agree.setdefault(name, []).append(good)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    both = sum(len(a) == 2 and all(a) for a in agree.values())
    print(f"\n{both} of {len(names)} agree by both exporters, {sum(any(a) for a in agree.values())} by one at least.")


def costs(work, names, polyveil, limit):
    print("| architecture | CPU s | peak, GB | keys, GB | bootstraps or halves |\n|---|---:|---:|---:|---:|")
    counted = 0
    for name in names:
        files = [os.path.join(work, f"{name}.{exporter}.onnx") for exporter in ("dynamo", "torchscript")]
        file = next((f for f in files if os.path.exists(f)), None)
        if file is None:
            print(f"| {name} | PyTorch does not export it | | | |", flush=True)
            continue
        command = [polyveil, "estimate", file, "--degree", "4", "--machine", "shipped", "--max-memory", "16GB", "--json"]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            print(f"| {name} | not within {limit} s | | | |", flush=True)
            continue
        if ran.returncode != 0:
            said = (ran.stderr.strip().split("\n") or ["?"])[-1].removeprefix("error: ").removeprefix(file + ": ")
            print(f"| {name} | refused: {said} | | | |", flush=True)
            continue
        row = json.loads(ran.stdout)
        counted += 1
        cells = [f"{row['predicted_cpu_seconds']:.0f}", f"{row['predicted_peak_bytes'] / 1e9:.1f}", f"{row['key_bytes'] / 1e9:.2f}", row["bootstraps"]]
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)
    print(f"\n{counted} of {len(names)} get to a plan by prediction.")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["export", "compare", "costs"])
    p.add_argument("work")
    p.add_argument("names", nargs="*")
    p.add_argument("--values", default="target/release/examples/values")
    p.add_argument("--polyveil", default="target/release/polyveil")
    p.add_argument("--limit", type=float, default=300, help="seconds for each network's costs")
    a = p.parse_args()
    names = a.names or NAMES
    if a.what == "export":
        export(a.work, names)
    elif a.what == "costs":
        costs(a.work, names, a.polyveil, a.limit)
    else:
        compare(a.work, names, a.values)


if __name__ == "__main__":
    main()
