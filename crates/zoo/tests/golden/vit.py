"""Makes the golden files of tests/suite/vit.rs: what tiny vision transformers answer, in f64.

    python vit.py

`pip install transformers torch safetensors`; made with 5.24.0 and 2.15.0. tiny_vit.json and tiny_clip.json: Hugging Face's implementations. tiny_open_clip.json: a
network with OpenAI's names, written here over torch's own attention. Weights and pictures are given by formulas (`language.py` and `picture`).
"""

import sys
import tempfile

# torchvision.py beside this is a script, not what transformers imports
HERE = sys.path.pop(0)

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTForImageClassification

sys.path.insert(0, HERE)

from language import formula, rounded, save

SIZES = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=12, patch_size=4,
    num_channels=3, layer_norm_eps=1e-5,
)
PICTURES = 2


def picture(number, shape):
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    return np.sin((i + 1.0) * (0.37 + 0.011 * number) + number).reshape(shape)


def weights(shapes):
    return {k: torch.from_numpy(formula(tuple(shapes[k]), number)) for number, k in enumerate(sorted(shapes))}


def published(model, folder):
    """The model with weights by the names of files, which are not those of its modules."""
    model.save_pretrained(folder)
    file = folder + "/model.safetensors"
    shapes = {k: list(v.shape) for k, v in load_file(file).items() if "position_ids" not in k}
    save_file(weights(shapes), file, metadata={"format": "pt"})
    return type(model).from_pretrained(folder, attn_implementation="eager", dtype=torch.float32), shapes


def tiny(name, model, shapes, config, answer):
    model = model.double().eval()
    shape = (config["num_channels"], config["image_size"], config["image_size"])
    pictures = torch.from_numpy(np.stack([picture(i, shape) for i in range(PICTURES)]))
    with torch.no_grad():
        answers = answer(model, pictures).numpy()
    save(name, {"config": config, "tensors": dict(sorted(shapes.items())), "answers": [rounded(a) for a in answers]})


class Block(torch.nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attn = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = torch.nn.ModuleDict({"c_fc": torch.nn.Linear(width, hidden), "c_proj": torch.nn.Linear(hidden, width)})

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Visual(torch.nn.Module):
    def __init__(self, c, outputs):
        super().__init__()
        width, tokens = c["hidden_size"], 1 + (c["image_size"] // c["patch_size"]) ** 2
        self.conv1 = torch.nn.Conv2d(c["num_channels"], width, c["patch_size"], c["patch_size"], bias=False)
        self.class_embedding = torch.nn.Parameter(torch.zeros(width))
        self.positional_embedding = torch.nn.Parameter(torch.zeros(tokens, width))
        self.ln_pre, self.ln_post = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        blocks = [Block(width, c["num_attention_heads"], c["intermediate_size"]) for _ in range(c["num_hidden_layers"])]
        self.transformer = torch.nn.ModuleDict({"resblocks": torch.nn.ModuleList(blocks)})
        self.proj = torch.nn.Parameter(torch.zeros(width, outputs))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


if __name__ == "__main__":
    labels = {"id2label": {"0": "cat", "1": "dog", "2": "bird"}}
    own = SIZES | {"hidden_act": "quick_gelu", "projection_dim": 6}
    for name, model, config, described, answer in [
        ("vit", ViTForImageClassification, ViTConfig(**SIZES, hidden_act="gelu", num_labels=3),
         SIZES | labels | {"hidden_act": "gelu", "model_type": "vit"}, lambda m, x: m(x).logits),
        ("clip", CLIPVisionModelWithProjection, CLIPVisionConfig(**own),
         own | {"model_type": "clip_vision_model"}, lambda m, x: m(x).image_embeds),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            made, shapes = published(model(config), folder)
        tiny(f"tiny_{name}.json", made, shapes, described | {"architectures": [model.__name__]}, answer)
    # heads have 64 channels, whatever the width
    own = SIZES | {"hidden_size": 128, "num_attention_heads": 2}
    made = torch.nn.ModuleDict({"visual": Visual(own, 6)})
    shapes = {k: list(v.shape) for k, v in made.state_dict().items()}
    made.load_state_dict(weights(shapes))
    tiny("tiny_open_clip.json", made, shapes, own, lambda m, x: m["visual"](x))
