"""The line of progress: in terminals after two seconds, nowhere else."""

import io
import logging
import os
import pty
import subprocess
import sys

import numpy as np
import pytest

import polyveil
from conftest import X, XOR
from polyveil import _progress

SHORT = """
import signal, sys, numpy as np, polyveil
from conftest import X
network = polyveil.calibrate(sys.argv[1], X, normalization="none", degree=7)
"""
LONG = (
    SHORT
    + """
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.alarm(4)
try:
    polyveil.evaluate(network, np.repeat(X, 1000, axis=0))
    raise SystemExit("a run of minutes is over")
except KeyboardInterrupt:
    pass
"""
)


def stderr_of(script, terminal):
    """What it writes to stderr, a terminal or a pipe."""
    read, write = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "TERM": "xterm", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen([sys.executable, "-c", script, str(XOR)], stderr=write, stdout=subprocess.DEVNULL, env=environment) as process:
        os.close(write)
        said = b""
        while True:
            try:
                part = os.read(read, 1 << 16)
            except OSError:  # so a terminal ends
                part = b""
            if not part:
                break
            said += part
    os.close(read)
    assert process.returncode == 0, said
    return said.decode()


def test_a_terminal_has_a_line_that_is_rewritten():
    if not XOR.exists():
        pytest.skip("these tests run in a checkout of the project")
    said = stderr_of(LONG, terminal=True)
    # a machine with much else to do may be long before its first step
    assert ("to go" in said or "evaluating, 2 s so far" in said) and said.count("\r") > 3 and "\n" not in said.strip()
    # and is gone in the end
    assert said.endswith("\r") and not said.split("\r")[-2].strip()


def test_the_line_says_what_was_heard_last():
    hear = _progress.Hear(None, "computing")
    hear.live, hear.out = True, io.StringIO()
    hear("step 1/2", 0.5, 1.0)
    assert hear.out.getvalue() == ""
    hear.start = hear.shown = hear.start - 5
    hear()
    hear.shown -= 1
    hear("step 2/2 of more", 0.9, 0.1)
    hear("step 2/2", 0.95, 0.1)
    assert hear.out.getvalue() == "\rstep 1/2\rstep 2/2 of more"
    hear.__exit__()
    assert hear.out.getvalue().endswith("\r" + " " * len("step 2/2 of more") + "\r")


def test_a_short_call_says_nothing_and_a_pipe_gets_nothing():
    assert stderr_of(SHORT, terminal=True) == ""
    assert stderr_of(SHORT + "polyveil.evaluate(network, X)", terminal=False) == ""


def test_remarks_are_logged_and_warnings_are_pythons(caplog):
    with caplog.at_level(logging.INFO, logger="polyveil"), pytest.warns(polyveil.PolyveilWarning) as warned:
        network = polyveil.calibrate(XOR, X, [1, 0, 0, 1], normalization="none", degree=2)
    assert any("calibrating on 4 inputs" in r.message for r in caplog.records)
    assert any("not close to the original" in str(w.message) for w in warned)
    assert all(w.filename == __file__ for w in warned)
    assert any("not close" in note for note in network.notes)


def test_all_of_it_goes_to_a_function():
    heard = []
    polyveil.calibrate(XOR, X, normalization="none", progress=lambda *said: heard.append(said))
    assert any(message == "calibrating on 4 inputs" and fraction is None for message, fraction, _ in heard)
    assert polyveil.silent("x", None, None) is None and np.isclose(_progress.QUIET, 2)
