"""What tests share: the network of the library's front page, its plan, a client and a server, at 128 bits."""

import json
from pathlib import Path

import numpy as np
import pytest

import polyveil

ROOT = Path(__file__).resolve().parents[2]
XOR = ROOT / "crates/polyveil/data/xor.onnx"
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
Y = [0, 1, 1, 0]


def pytest_configure(config):
    # degree 7 is low for these kinks
    config.addinivalue_line("filterwarnings", "ignore:the polynomial network is not close")


def pytest_report_header():
    return f"polyveil in {Path(polyveil.__file__).parent}, instructions {polyveil.backend()}"


@pytest.fixture(scope="session")
def network():
    if not XOR.exists():
        pytest.skip(f"{XOR.name} is not here: these tests run in a checkout of the project")
    return polyveil.calibrate(XOR, X, Y, normalization="none", degree=7, classes=["equal", "different"])


@pytest.fixture(scope="session")
def plan(network):
    return polyveil.compile(network)


@pytest.fixture(scope="session")
def client(plan):
    return polyveil.Client(plan.client_file())


@pytest.fixture(scope="session")
def server(plan, client):
    return polyveil.Server(plan, client.evaluation_keys())


@pytest.fixture(scope="session")
def answer(client, server):
    """Encrypted, to the input (1, 0)."""
    return server.run(client.encrypt(X[2]))


def is_json(value):
    return json.loads(json.dumps(value)) == value
