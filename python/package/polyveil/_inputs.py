"""NumPy's arrays, paths and torch's modules, as the native module takes them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._errors import Error

PathLike = Union[str, "os.PathLike[str]"]


def path_or_none(path: PathLike | None) -> str | None:
    return None if path is None else os.fspath(path)


def is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))


def _numpy(values: Any) -> NDArray[Any]:
    """An array, a tensor of torch's or a list."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def shuffled(seed: int, *each: Any) -> list[Any]:
    """All in one order: what is held out is a part of each class then, however they lie."""
    order = np.random.default_rng(seed).permutation(len(each[0]))
    return [v if v is None or len(v) != len(order) else _numpy(v)[order] for v in each]


def array(values: Any, what: str = "the array") -> dict[str, Any]:
    """Bytes of an array: ``uint8`` as they are, which are pixels, all else as doubles."""
    a = _numpy(values)
    if a.dtype.kind not in "fiub":
        raise Error(f"{what} has dtype {a.dtype}; give numbers")
    if a.ndim == 0:
        raise Error(f"{what} is a single number; give an array with the axes of the network's input")
    pixels = a.dtype == np.uint8
    if a.dtype.kind in "iu" and not pixels and a.ndim > 2:
        raise Error(f"{what} has dtype {a.dtype}, which says neither pixels nor numbers", "uint8 for pixels from 0 to 255, floats for numbers as they are")
    return {"pixels": pixels, "shape": a.shape, "bytes": np.ascontiguousarray(a, np.uint8 if pixels else np.float64).tobytes()}


def doubles(values: bytes, shape: Sequence[int]) -> NDArray[np.float64]:
    return np.array(np.frombuffer(values, np.float64).reshape(shape))


def held(value: Any) -> bytes | str:
    """Bytes, or a path to a file of them."""
    if isinstance(value, (str, os.PathLike)):
        return str(os.fspath(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"bytes or a path are needed, {type(value).__name__} was given")


def normalization(stated: str | Mapping[str, Any] | None) -> str | None:
    if stated is None:
        return None
    if isinstance(stated, str):
        return json.dumps({"name": stated})
    each = dict(stated)
    for key in ("mean", "deviation"):
        if key in each:
            each[key] = np.atleast_1d(np.asarray(each[key], float)).tolist()
    return json.dumps(each)


def _labels(labels: ArrayLike, classes: Sequence[str]) -> tuple[list[int], list[str]]:
    a, names = _numpy(labels), list(classes)
    if a.ndim == 2 and a.shape[1] == 1:
        a = a[:, 0]
    if a.ndim != 1:
        several = "several for each are targets=ARRAY of 0 and 1, with answers=\"labels\""
        raise Error(f"labels have shape {a.shape}; give one for each input", several)
    if a.dtype.kind == "U":
        names = names or sorted(set(a.tolist()))
        unknown = sorted(set(a.tolist()) - set(names))
        if unknown:
            raise Error(f"labels {unknown} are none of the classes {names}")
        return [names.index(name) for name in a.tolist()], names
    if a.dtype.kind not in "iub" or (a.size and a.min() < 0):
        raise Error(f"labels of dtype {a.dtype} are no classes; give integers from 0, or names")
    return a.astype(int).tolist(), names


def data(
    values: Any,
    labels: Any = None,
    targets: Any = None,
    classes: Sequence[str] = (),
    without: Sequence[str] = (),
    split: str | None = None,
    heading: bool | None = None,
) -> dict[str, Any]:
    """Data with what is known of them."""
    out: dict[str, Any] = dict(
        array=None, path=None, labels=None, targets=None, classes=list(classes), label_column=None, target_columns=[], without=list(without), split=split, heading=heading
    )
    if is_path(values):
        for what in (labels, targets):
            if not (what is None or isinstance(what, (str, list, tuple))):
                raise Error("labels and targets of a file are names of its columns or arrays")
        out.update(path=os.fspath(values), label_column=labels, target_columns=[targets] if isinstance(targets, str) else list(targets or ()))
        return out
    if split is not None or without or heading is not None:
        raise Error("split, without and heading are for files; take the part of the array that is meant")
    if labels is not None and targets is not None:
        raise Error("labels are classes, targets are numbers to predict; give one of both")
    out["array"] = array(values, "data")
    if labels is not None:
        out["labels"], out["classes"] = _labels(labels, classes)
    if targets is not None:
        out["targets"] = array(_numpy(targets).astype(float), "targets")
    return out


def _example(module: Any, values: Any, example: Any) -> Any:
    import torch

    if example is None:
        if is_path(values):
            raise Error("a torch module is exported with an example input, and data are a file", "example=ARRAY of one input, with an axis of 1 in front")
        example = np.zeros((1, *np.shape(values)[1:]), np.float32)
    first = next(module.parameters(), None)
    like = {} if first is None else {"dtype": first.dtype, "device": first.device}
    return torch.as_tensor(np.asarray(example), **like)


def _export(module: Any, example: Any, path: Path) -> None:
    import torch

    try:
        import onnxscript  # noqa: F401, the exporter needs it

        how = {"dynamo": True}
    except ImportError:
        how = {"dynamo": False}
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            torch.onnx.export(module, (example,), str(path), verbose=False, **how)
    except Exception as e:
        remedy = None if how["dynamo"] else "pip install onnxscript, which torch's exporter uses"
        why = re.sub(r"\x1b\[\d+m", "", str(e))
        raise Error(f"torch cannot export this module to ONNX with an input of shape {tuple(example.shape)}: {why}", remedy) from e
    finally:
        for m, mode in modes:
            m.training = mode


@contextlib.contextmanager
def model(
    network: Any, values: Any, example: Any = None, name: str | None = None, activation: str | None = None, network_output: str | None = None
) -> Iterator[dict[str, Any]]:
    """A network's file; a torch module is exported to one that is gone afterwards."""
    told = {"activation": activation, "network_output": network_output}
    if is_path(network):
        path = Path(network)
        yield {"path": path, "name": name or path.stem, **told}
    elif hasattr(network, "state_dict") and hasattr(network, "modules"):
        with tempfile.TemporaryDirectory(prefix="polyveil-") as folder:
            path = Path(folder) / "network.onnx"
            _export(network, _example(network, values, example), path)
            yield {"path": path, "name": name or type(network).__name__, **told}
    else:
        raise TypeError(f"a torch.nn.Module or a path is needed, {type(network).__name__} was given")
