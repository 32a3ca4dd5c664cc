"""From a trained network to a plan: calibrate, adapt, compile, evaluate."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from . import _inputs, _native
from ._errors import Error
from ._inputs import PathLike
from ._progress import Hear, Progress


def _size(size: int | str | None) -> int | None:
    return _native.size(size) if isinstance(size, str) else size


def inspect(path: PathLike) -> dict[str, Any]:
    """What any file of Polyveil's is, and who may see it.

    Returns
    -------
    dict
        ``"kind"``, ``"who_may_see"`` and what that kind has; ``"text"`` is the same in words.
    """
    with Hear(None, "reading") as hear:
        text, found = _native.inspect(os.fspath(path), hear)
    return {**json.loads(found), "text": text}


def _inspected(save: Callable[[Path], object], name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="polyveil-") as folder:
        save(Path(folder) / name)
        return {**inspect(Path(folder) / name), "file": None}


@dataclass(frozen=True)
class Report:
    """What a run cost, layer by layer, beside what was predicted; notebooks show it as a chart."""

    _native: _native.Report = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(json.loads(self._native.json()))

    def to_markdown(self) -> str:
        """A table for people, in Markdown."""
        return f"```\n{self._native.text().rstrip()}\n```\n"

    def to_svg(self) -> str:
        """A chart."""
        return self._native.svg()

    _repr_svg_ = to_svg


class Network:
    """A network of polynomials with calibrated ranges, from :func:`calibrate`, :func:`adapt` or a ``.pvm`` file.

    Attributes
    ----------
    notes : list of str
        What calibration or adaptation said. Read it: one line says how many answers are the original network's.
    score : dict or None
        After :func:`adapt`: how it did on what was held out.
    """

    def __init__(self, native: _native.Network, notes: Sequence[str] = (), score: dict[str, Any] | None = None):
        self._native, self.notes, self.score = native, list(notes), score

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self._native.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The axes' lengths of one input: (features,) or (channels, height, width)."""
        return tuple(self._native.input_shape)

    def __repr__(self) -> str:
        return f"<polyveil.Network {self.name}, inputs {self.input_shape}>"

    @classmethod
    def load(cls, path: PathLike) -> Network:
        """A network from a ``.pvm`` file, whoever wrote it."""
        with Hear(None, "reading") as hear:
            return cls(_native.Network.load(os.fspath(path), hear), hear.notes)

    def save(self, path: PathLike, overwrite: bool = False) -> None:
        """Writes a ``.pvm`` file: weights are in the clear. A file that is there stays unless `overwrite`."""
        with Hear(None, "writing") as hear:
            self._native.save(os.fspath(path), overwrite, hear)

    def inspect(self) -> dict[str, Any]:
        """What it is, as :func:`polyveil.inspect` says of its file."""
        return _inspected(self.save, "network.pvm")

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (bytes(self._native.to_bytes()), self.notes, self.score)

    def __call__(self, inputs: Any, progress: Progress | None = None) -> NDArray[np.float64]:
        """What the polynomial network gives in the clear, in double precision.

        Parameters
        ----------
        inputs : array_like
            One input, or several with an axis in front, as calibration had them: before normalisation, unless that is "none".

        Returns
        -------
        ndarray
            One output, or as many. A warning says on how many inputs a value left its interval, where a polynomial promises nothing.
        """
        with Hear(progress, "computing in the clear") as hear:
            values, shape, outside = self._native.values(_inputs.array(inputs), hear)
            if outside:
                hear(f"warning: on {outside} inputs a value leaves its polynomial's interval; calibrate on data that cover such inputs")
        return _inputs.doubles(values, shape)


def _unpickled(content: bytes, notes: list[str], score: dict[str, Any] | None) -> Network:
    return Network(_native.Network.from_bytes(content), notes, score)


def calibrate(
    network: Any,
    data: Any,
    labels: Any = None,
    *,
    targets: Any = None,
    normalization: str | Mapping[str, Any] | None = None,
    degree: int = 15,
    margin: float = 0.1,
    classes: Sequence[str] = (),
    answers: str | None = None,
    activation: str | None = None,
    network_output: str | None = None,
    pool: str | None = None,
    power: int | None = None,
    epsilon: float = 1e-3,
    limit: int | None = None,
    name: str | None = None,
    without: Sequence[str] = (),
    split: str | None = None,
    heading: bool | None = None,
    example: Any = None,
    progress: Progress | None = None,
) -> Network:
    """Puts polynomials in place of a network's activations, each on the interval that the data show. Nothing is trained.

    Parameters
    ----------
    network : torch.nn.Module or path
        A module is exported to ONNX with an input like the data's; a path is any file that Polyveil reads (ONNX, state dicts, .pvm).
    data : array_like or path
        Inputs (N, features) or (N, C, H, W): floats are numbers as the network is given them before `normalization`, ``uint8`` are pixels.
        Or a path: CSV, .npy, .npz, folders of pictures.
    labels, targets : array_like or str, optional
        A class for each input (integers from 0, or names), or numbers to predict; of a file, the names of its columns or arrays.
    normalization : str or dict
        How inputs become what the network was trained on; nothing is guessed. "none" (pixels: v/255; numbers: as they are), "measured" (numbers),
        "imagenet", "cifar10", "half" (pixels), or a dict of mean, deviation, range, channels ("rgb" or "bgr").
    degree : int
        Degree of the polynomials: higher ones are nearer to the original, and take more time.
    margin : float
        How much wider than the data the intervals are at each end, relative to their width.
    classes : list of str
        Names of the outputs, in their order.
    answers : {"classes", "labels", "values", "tensor"}, optional
        What the outputs are, where neither the file nor the data say it.
    activation, network_output : str, optional
        The activation of a file that does not name it; which of an ONNX file's outputs is meant.
    pool : {"average"}, optional
        Means in the place of maxima over windows.
    power, epsilon : int and float
        Power-Softmax in the place of attention's softmax: its even exponent, and what is added to its divisor.
    limit : int, optional
        Inputs that are looked at, at most; 2000 if None.
    name : str, optional
        Name in reports.
    without, split, heading : of a file
        Columns to leave out; which part ("train", "val", "test"); whether a table's first line is a heading, told by its fields if None.
    example : array_like, optional
        An input to export a module with, where data are a file.
    progress : callable, optional
        Called with (message, share done or None, seconds to go or None). Without one, a line is shown after two seconds in terminals and notebooks.

    Returns
    -------
    Network

    Raises
    ------
    Error
        Networks and data that can't be read or do not fit each other.
    """
    if pool not in (None, "average"):
        raise ValueError("pool is None or \"average\"")
    options = dict(
        answers=answers, names=list(classes), average_pools=pool == "average", normalization=_inputs.normalization(normalization), degree=degree,
        margin=margin, limit=limit, power=power, epsilon=epsilon,
    )  # fmt: skip
    known = _inputs.data(data, labels, targets, classes, without, split, heading)
    if targets is not None and answers is None:
        options["answers"] = "values"
    with Hear(progress, "calibrating") as hear, _inputs.model(network, data, example, name, activation, network_output) as model:
        return Network(_native.calibrate(model, known, options, hear), hear.notes)


def adapt(
    network: Any,
    data: Any,
    labels: Any = None,
    *,
    targets: Any = None,
    normalization: str | Mapping[str, Any] | None = None,
    degree: int | None = None,
    epochs: float | None = None,
    rate: float | None = None,
    batch: int | None = None,
    held_out: int | None = None,
    shift: int = 0,
    flip: bool = False,
    seed: int = 1,
    max_diverging: int = 0,
    folder: PathLike | None = None,
    classes: Sequence[str] = (),
    activation: str | None = None,
    network_output: str | None = None,
    name: str | None = None,
    without: Sequence[str] = (),
    heading: bool | None = None,
    example: Any = None,
    progress: Progress | None = None,
) -> Network:
    """Makes a trained network polynomial and trains it back, with the original as its teacher: low degrees keep their accuracy so.

    Parameters
    ----------
    network, data, labels, targets, classes, activation, network_output, name, without, heading, example, progress
        As for :func:`calibrate`; labels or targets are needed.
    normalization : str or dict
        As for :func:`calibrate`, of pixels "measured" too; of numbers "none" or "measured". None takes what the network's file says.
    degree, epochs, rate, batch : optional
        Degree of the polynomials (4), passes over the data, the largest learning rate, inputs of a step (64): as the degree needs where None.
    held_out : int, optional
        Inputs that are held out of training and scored on: of an array any, a tenth and at most 1000 if None; of a file its validation part, or some
        at its end (pictures) or spread over it (numbers), 1000 if None, of fewer than 4000 a quarter.
    shift, flip : of pixels
        Training pictures are shifted by up to so many pixels; mirrored every other time.
    seed : int
        Decides order and augmentation: the same seed gives the same network.
    max_diverging : int
        So many inputs may drive a polynomial out of all bounds; they are left out, which is said.
    folder : path, optional
        Where the run keeps checkpoints and its record, and goes on after it was stopped; `network` and `data` are files then. Without one, what was
        trained is lost where the end fails.

    Returns
    -------
    Network
        Its `score` says how many of the inputs held out are right.
    """
    if not _inputs.is_path(data):
        if labels is None and targets is None:
            raise Error("an array alone is nothing to train on", "labels=... for classes, targets=... for numbers to predict")
        data, labels, targets = _inputs.shuffled(seed, data, labels, targets)
        held_out = max(1, min(1000, len(data) // 10)) if held_out is None else held_out
    options = dict(
        normalization=_inputs.normalization(normalization), degree=degree, epochs=epochs, rate=rate, batch=batch, seed=seed, shift=shift,
        held_out=held_out, flip=flip, max_diverging=max_diverging, folder=_inputs.path_or_none(folder),
    )  # fmt: skip
    known = _inputs.data(data, labels, targets, classes, without, heading=heading)
    with Hear(progress, "training") as hear, _inputs.model(network, data, example, name, activation, network_output) as model:
        native, score = _native.adapt(model, known, options, hear)
        return Network(native, hear.notes, json.loads(score))


@dataclass(frozen=True)
class Forecast:
    """What a run of a plan will take on this machine, before anything is encrypted."""

    seconds: float
    """By the clock, on `threads` quiet cores."""
    cpu_seconds: float
    threads: int
    peak_bytes: int
    """Memory of the server's process, at most."""
    key_bytes: int
    """Evaluation keys, which a client sends once."""
    security_bits: int
    """Of the weakest published key; 128 or more, but for toy parameters."""
    bootstraps: int
    steps: int
    error: float
    """How far an answer's values may be off from the polynomial network's in the clear."""
    parameters: str
    text: str
    """All of it in words."""

    def __str__(self) -> str:
        return self.text


class Plan:
    """How a network is computed on ciphertexts: for the server. Clients get :meth:`client_file`."""

    _path: Path | None = None

    def __init__(self, native: _native.Plan, notes: Sequence[str] = ()):
        self._native, self.notes = native, list(notes)

    @property
    def name(self) -> str:
        """The network's name."""
        return self._native.name

    @property
    def batch(self) -> int:
        """Inputs of one run."""
        return self._native.batch

    def __repr__(self) -> str:
        return f"<polyveil.Plan of {self.name}>"

    @classmethod
    def load(cls, path: PathLike) -> Plan:
        """A plan from its file, with the client file beside it if there is one."""
        with Hear(None, "verifying the plan") as hear:
            plan = cls(_native.Plan.load(os.fspath(path), hear))
        plan._path = Path(path)
        return plan

    def save(self, path: PathLike, overwrite: bool = False) -> list[Path]:
        """Writes the plan, beside it the client file (ending ``.client``) and, where they are large, its weights; gives their names."""
        with Hear(None, "writing the plan") as hear:
            return [Path(p) for p in self._native.save(os.fspath(path), overwrite, hear)]

    def inspect(self) -> dict[str, Any]:
        """What it is, as :func:`polyveil.inspect` says of its file."""
        return _inspected(self.save, "network.plan") if self._path is None else inspect(self._path)

    def client_file(self) -> bytes:
        """What clients need: shapes, normalisation and names, no weights of the network's layers."""
        return self._native.client_file()

    def forecast(self, machine: PathLike | None = None, probe: bool = False) -> Forecast:
        """What a run will take.

        Parameters
        ----------
        machine : path, optional
            A cost table that was measured on this machine; the shipped one if None.
        probe : bool
            Whether a second's probe scales the table to what the machine does at the moment.
        """
        with Hear(None, "predicting") as hear:
            return Forecast(**json.loads(self._native.forecast(_inputs.path_or_none(machine), probe, hear)))


def _compiling(
    max_memory: int | str | None, batch: int, layers: str | None, parameters: str | None, alarm: bool, machine: PathLike | None
) -> dict[str, Any]:
    return dict(max_memory=_size(max_memory), batch=batch, layers=layers, parameters=parameters, alarm=alarm, machine=_inputs.path_or_none(machine))


def compile(
    network: Network,
    max_memory: int | str | None = None,
    *,
    batch: int = 1,
    layers: str | None = None,
    parameters: str | None = None,
    alarm: bool = True,
    machine: PathLike | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plans how a network is computed on ciphertexts. The same network gives the same plan.

    Parameters
    ----------
    network : Network
    max_memory : int or str, optional
        What a run may take, "4GB" for example: where the cheapest plan takes more, a dearer one that fits.
    batch : int
        Inputs of one run, a power of two.
    layers : {"cheapest", "slots", "coefficients"}, optional
        Where linear layers are carried out.
    parameters : str, optional
        A parameter set by its name; the cheapest with 128 bits of security that holds the network if None.
    alarm : bool
        Whether answers tell of values that left their intervals.
    machine : path, optional
        A cost table that was measured on this machine.

    Returns
    -------
    Plan
    """
    with Hear(progress, "compiling") as hear:
        options = _compiling(max_memory, batch, layers, parameters, alarm, machine)
        return Plan(_native.compile(network._native, options, hear), hear.notes)


@dataclass(frozen=True)
class Evaluation:
    """How a network fares encrypted, beside itself in the clear."""

    summary: dict[str, Any]
    """Counts and errors over all inputs."""
    results: list[dict[str, Any]] = field(repr=False)
    """One for each input, after one that says what they are of."""
    report: Report | None = field(repr=False)
    """What a run took on average; None where no input was left to run."""
    text: str = field(repr=False)
    """The summary in words."""


def evaluate(
    network: Network,
    data: Any,
    labels: Any = None,
    *,
    targets: Any = None,
    plan: Plan | None = None,
    count: int | None = None,
    first: int = 0,
    results: PathLike | None = None,
    max_memory: int | str | None = None,
    batch: int = 1,
    machine: PathLike | None = None,
    classes: Sequence[str] = (),
    without: Sequence[str] = (),
    split: str | None = None,
    heading: bool | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Encrypts inputs, runs them and decrypts the answers, in one process: each beside the network in the clear.

    Parameters
    ----------
    network : Network
    data, labels, targets, classes, without, split, heading, progress
        As for :func:`calibrate`.
    plan : Plan, optional
        Compiled for the machine if None.
    count, first : int
        How many inputs, after how many that are skipped; all that are left if None.
    results : path, optional
        A file of results, where an evaluation that was stopped goes on.
    max_memory, batch, machine
        As for :func:`compile`.

    Returns
    -------
    Evaluation
    """
    known = _inputs.data(data, labels, targets, classes, without, split, heading)
    options = _compiling(max_memory, batch, None, None, True, machine)
    wanted = (first, 2**63 if count is None else count)
    with Hear(progress, "evaluating") as hear:
        planned = None if plan is None else plan._native
        said, report = _native.evaluate(network._native, planned, known, wanted, _inputs.path_or_none(results), options, hear)
    return Evaluation(report=None if report is None else Report(report), **json.loads(said))
