"""A service of many clients (``polyveil-serve``), as one account sees it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import _inputs, _native
from ._inputs import PathLike
from ._progress import Hear, Progress, silent
from ._sides import Client


def _public(value: Any, what: str) -> bytes | str:
    if isinstance(value, Client):
        raise TypeError(f"a service gets {what} and never a client, which holds the secret key")
    return _inputs.held(value)


class Service:
    """A service of many clients. What is sent to it are evaluation keys and encrypted inputs; a secret key is refused by its header, unsent.

    Every call goes on where a connection broke, and waits for a service that stops and starts again.

    Parameters
    ----------
    url : str
        Its address. Over plain http the token goes to this machine alone, unless `protected_way`.
    token : str, optional
        What the operator of the service gave you.
    token_file : path, optional
        The file that holds it, in the place of `token`.
    authority : path, optional
        The certificate of the authority that vouches for the service, PEM; those of the web if None.
    protected_way : bool
        Whether something else than TLS protects the way, a tunnel say.
    patience : float
        Seconds that a service which can't be reached is tried again; Ctrl-C is heard between two tries.

    Raises
    ------
    ServiceError
        Here and from every call: `code` for programs, `remedy` for people.

    Examples
    --------
    >>> service = polyveil.Service("https://example.org", token_file="ada.token")    # doctest: +SKIP
    >>> client = polyveil.Client(service.client_file("xray"))                         # doctest: +SKIP
    >>> keys = service.upload("xray", client.evaluation_keys())                       # doctest: +SKIP
    >>> client.read(service.run("xray", keys, client.encrypt(x[0])))                  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        token_file: PathLike | None = None,
        authority: PathLike | None = None,
        protected_way: bool = False,
        patience: float = 600.0,
    ):
        if (token is None) == (token_file is None):
            raise TypeError("give the account's token, or the file that holds it as token_file")
        if token is None:
            token = Path(os.fspath(token_file)).read_text()  # type: ignore[arg-type]
        self._url = url
        self._native = _native.Service(url, token, _inputs.path_or_none(authority), protected_way, patience)

    def __repr__(self) -> str:
        return f"<polyveil.Service at {self._url}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an account's token is not pickled; make the service anew from its file")

    def account(self) -> dict[str, Any]:
        """What the account may use, and the CPU seconds that are left of this day."""
        with Hear(silent, "asking the service") as hear:
            return dict(json.loads(self._native.account(hear)))

    def plans(self) -> list[dict[str, Any]]:
        """The plans that are served: sizes, memory, predicted time, bits of security."""
        with Hear(silent, "asking the service") as hear:
            return list(json.loads(self._native.plans(hear)))

    def plan(self, name: str) -> dict[str, Any]:
        """A plan that is served, as :meth:`plans` gives it; of one that is retired the error names the successor."""
        with Hear(silent, "asking the service") as hear:
            return dict(json.loads(self._native.plan(name, hear)))

    def client_file(self, plan: str) -> bytes:
        """A plan's client file, from which :class:`polyveil.Client` makes keys; checked to be of this plan."""
        with Hear(silent, "fetching the client file") as hear:
            return self._native.client_file(plan, hear)

    def upload(self, plan: str, evaluation_keys: bytes | PathLike, progress: Progress | None = None) -> str:
        """Sends evaluation keys: what is missing of them, so the same call again after a break sends the rest.

        Parameters
        ----------
        plan : str
            The plan's name at the service.
        evaluation_keys : bytes or path
            What :meth:`Client.evaluation_keys` gave, or :meth:`Client.save_evaluation_keys` wrote.
        progress : callable, optional
            As for :func:`polyveil.calibrate`.

        Returns
        -------
        str
            The digest by which the service knows them, for :meth:`run` and :meth:`ask`. They go after some days without use.
        """
        keys = _public(evaluation_keys, "evaluation keys, Client.evaluation_keys(),")
        with Hear(progress, "sending evaluation keys") as hear:
            return self._native.upload(plan, keys, hear)

    def run(self, plan: str, keys: str, encrypted: bytes | PathLike, progress: Progress | None = None) -> bytes:
        """Has an encrypted input evaluated, waits, fetches the answer and removes the job: :meth:`ask`, :meth:`answer`, :meth:`delete_job`.

        Parameters
        ----------
        plan, keys : str
            The plan's name, and the keys' digest from :meth:`upload`.
        encrypted : bytes or path
            What :meth:`Client.encrypt` gave. The same bytes again find their job, if it is still there.
        progress : callable, optional
            As for :func:`polyveil.calibrate`: place in the queue, steps, seconds to go.

        Returns
        -------
        bytes
            The encrypted answer, for :meth:`Client.decrypt`.
        """
        job = self.ask(plan, keys, encrypted)["id"]
        answer = self.answer(job, progress)
        self.delete_job(job)
        return answer

    def ask(self, plan: str, keys: str, encrypted: bytes | PathLike) -> dict[str, Any]:
        """As :meth:`run`, without waiting: the job, with its `id`, its place and the predicted seconds."""
        given = _public(encrypted, "encrypted inputs, Client.encrypt(...),")
        with Hear(silent, "asking the service") as hear:
            return dict(json.loads(self._native.ask(plan, keys, given, hear)))

    def job(self, id: str) -> dict[str, Any]:
        """Where a job stands."""
        with Hear(silent, "asking the service") as hear:
            return dict(json.loads(self._native.job(id, hear)))

    def wait(self, id: str, progress: Progress | None = None) -> dict[str, Any]:
        """Waits until a job is done; why it failed is raised."""
        with Hear(progress, "waiting for the answer") as hear:
            return dict(json.loads(self._native.wait(id, hear)))

    def answer(self, id: str, progress: Progress | None = None) -> bytes:
        """The encrypted answer of a job, which is waited for, checked by its digest."""
        with Hear(progress, "waiting for the answer") as hear:
            return self._native.answer(id, hear)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs of the account that are still known, the newest first."""
        with Hear(silent, "asking the service") as hear:
            return list(json.loads(self._native.jobs(hear)))

    def keys(self) -> list[dict[str, Any]]:
        """All keys of the account at the service, with their digests and when they go."""
        with Hear(silent, "asking the service") as hear:
            return list(json.loads(self._native.keys(hear)))

    def delete_job(self, id: str) -> None:
        """A job goes, with its input and its answer; one that is not done is given up."""
        with Hear(silent, "asking the service") as hear:
            self._native.delete_job(id, hear)

    def delete_keys(self, digest: str) -> None:
        """Keys go from the service, from memory and disk."""
        with Hear(silent, "asking the service") as hear:
            self._native.delete_keys(digest, hear)
