"""The two sides of the wire: a client with the secret key, a server that computes on ciphertexts only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _inputs, _native
from ._inputs import PathLike
from ._make import Plan, Report, _size
from ._progress import Hear, Progress


@dataclass(frozen=True)
class Answer:
    """What one answer says, for the key's owner alone: whoever sees decrypted values can attack the key (SECURITY.md)."""

    values: NDArray[np.float64]
    """The network's outputs: scores (logits) of classes and labels."""
    kind: str
    """"classes", "labels", "values", "tensor" or "tokens"."""
    names: tuple[str, ...] = ()
    """Of the outputs, in their order."""
    probabilities: NDArray[np.float64] | None = None
    """Of classes a softmax, of labels one each."""
    best: int | None = None
    """The likeliest class."""
    error: float = np.inf
    """How far each value may be off from the polynomial network's in the clear."""
    alarm: tuple[float, float] | None = None
    """What the alarm reads, and how much is allowed; None where the plan has none."""
    doubt: str | None = None
    """What speaks against the answer, where nobody can tell whether it is right."""

    @property
    def name(self) -> str | None:
        """The likeliest class by its name."""
        return None if self.best is None else self.names[self.best]


class Client:
    """A client: it makes keys, encrypts inputs and decrypts answers. What it sends are bytes; the secret key is never among them.

    Parameters
    ----------
    client_file : bytes, path or Plan
        What the owner of the network gives to clients (:meth:`Plan.client_file`).
    insecure_toy : bool
        Whether a toy parameter set, which protects nothing, is accepted.
    """

    def __init__(self, client_file: bytes | PathLike | Plan, *, insecure_toy: bool = False):
        file = client_file.client_file() if isinstance(client_file, Plan) else _inputs.held(client_file)
        with Hear(None, "making the secret key") as hear:
            self._native = _native.Client(file, insecure_toy, hear)

    @classmethod
    def load(cls, key: PathLike, client_file: PathLike | None = None) -> Client:
        """A client from its secret key's file, or the folder that it lies in, with the client file beside it unless another is named."""
        client = cls.__new__(cls)
        with Hear(None, "reading the key") as hear:
            client._native = _native.Client.load(os.fspath(key), _inputs.path_or_none(client_file), hear)
        return client

    def save(self, folder: PathLike) -> Path:
        """Writes ``client.key``, readable by you alone, and ``network.client`` into a folder that holds no other keys; gives the key's name."""
        with Hear(None, "writing the key") as hear:
            return Path(self._native.save(os.fspath(folder), hear))

    def __repr__(self) -> str:
        return f"<polyveil.Client of key pair {self._native.key}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret key is not pickled; save it to a folder of your own")

    @property
    def batch(self) -> int:
        """Inputs of one run."""
        return self._native.batch

    def evaluation_keys(self, progress: Progress | None = None) -> bytes:
        """Makes the evaluation keys, which the server needs and anybody may see."""
        with Hear(progress, "making evaluation keys") as hear:
            return self._native.evaluation_keys(hear)

    def save_evaluation_keys(self, path: PathLike, overwrite: bool = False, progress: Progress | None = None) -> None:
        """As :meth:`evaluation_keys`, into a file, with one key in memory at a time."""
        with Hear(progress, "making evaluation keys") as hear:
            self._native.save_evaluation_keys(os.fspath(path), overwrite, hear)

    def encrypt(self, inputs: Any, progress: Progress | None = None) -> bytes:
        """Encrypts one input, or as many as the plan takes at once, with an axis in front.

        Parameters
        ----------
        inputs : array_like or str
            As calibration had them: before normalisation, ``uint8`` where the network takes pixels. A text for a network of text.
        """
        texts = [inputs] if isinstance(inputs, str) else inputs
        is_text = isinstance(texts, (list, tuple)) and all(isinstance(t, str) for t in texts)
        with Hear(progress, "encrypting") as hear:
            return self._native.encrypt(list(texts) if is_text else _inputs.array(inputs), hear)

    def _read(self, answer: bytes | PathLike, count: int | None) -> tuple[NDArray[np.float64], dict[str, Any]]:
        with Hear(None, "decrypting") as hear:
            values, shape, said = self._native.read(_inputs.held(answer), count, hear)
        return _inputs.doubles(values, shape), json.loads(said)

    def decrypt(self, answer: bytes | PathLike, count: int | None = None) -> NDArray[np.float64]:
        """The network's outputs, for the key's owner alone.

        Parameters
        ----------
        answer : bytes or path
            What :meth:`Server.run` gave.
        count : int, optional
            How many inputs were encrypted together, of a plan that takes several; answers have an axis in front then.

        Raises
        ------
        WrongAnswer
            The answer cannot be right: a value left its interval, it is damaged, or made with other keys.
        OtherKeys
            It was made for another client or plan.
        """
        return self._read(answer, count)[0]

    def read(self, answer: bytes | PathLike) -> Answer:
        """As :meth:`decrypt`, with what the outputs mean."""
        values, said = self._read(answer, None)
        return _answer(values, said["answers"][0], said)

    def read_all(self, answer: bytes | PathLike, count: int) -> list[Answer]:
        """As :meth:`read`, of `count` inputs that were encrypted together."""
        values, said = self._read(answer, count)
        return [_answer(v, own, said) for v, own in zip(values, said["answers"])]


def _answer(values: NDArray[np.float64], own: dict[str, Any], said: dict[str, Any]) -> Answer:
    shares = own.get("probabilities")
    return Answer(
        values, own["kind"], tuple(own.get("names", ())), None if shares is None else np.asarray(shares), own.get("best"), said["error"],
        said["alarm"] and tuple(said["alarm"]), said["doubt"],
    )  # fmt: skip


class Server:
    """A server: a plan and one client's evaluation keys. It computes on ciphertexts; nothing in it can hold a secret key.

    Parameters
    ----------
    plan : Plan or path
    evaluation_keys : bytes or path
        What :meth:`Client.evaluation_keys` gave. Of a file, keys that do not fit into `max_memory` stay on disk.
    max_memory : int or str, optional
        What the process may take, "4GB" for example.
    machine : path, optional
        A cost table that was measured on this machine, for estimates.

    Attributes
    ----------
    last_report : Report or None
        What the latest run took.
    """

    def __init__(
        self,
        plan: Plan | PathLike,
        evaluation_keys: bytes | PathLike,
        *,
        max_memory: int | str | None = None,
        machine: PathLike | None = None,
        progress: Progress | None = None,
    ):
        if isinstance(evaluation_keys, Client):
            raise TypeError("a server gets evaluation keys, Client.evaluation_keys(), and never a client, which holds the secret key")
        plan = plan if isinstance(plan, Plan) else Plan.load(plan)
        self.last_report: Report | None = None
        with Hear(progress, "reading evaluation keys") as hear:
            keys, table = _inputs.held(evaluation_keys), _inputs.path_or_none(machine)
            self._native = _native.Server(plan._native, keys, _size(max_memory), table, hear)

    def run(self, encrypted: bytes | PathLike, progress: Progress | None = None) -> bytes:
        """The encrypted answer to an encrypted input; several threads may call it at once.

        Parameters
        ----------
        encrypted : bytes or path
            What :meth:`Client.encrypt` gave.
        progress : callable, optional
            As for :func:`polyveil.calibrate`; Ctrl-C and exceptions in it stop the run at its next step.
        """
        with Hear(progress, "computing on ciphertexts") as hear:
            answer, report = self._native.run(_inputs.held(encrypted), hear)
        self.last_report = Report(report)
        return answer
