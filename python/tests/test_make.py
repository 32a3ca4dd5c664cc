"""Calibration, adaptation, compilation, evaluation: arrays of all kinds, and what is refused."""

import pickle
import re

import numpy as np
import pytest

import polyveil
from conftest import ROOT, X, XOR, Y, is_json


def calibrated(data=X, labels=Y, **more):
    return polyveil.calibrate(XOR, data, labels, **{"normalization": "none", "degree": 7, **more})


def test_a_network_computes_in_the_clear(network):
    values = network(X)
    assert values.shape == (4, 2) and values.argmax(1).tolist() == Y
    assert network(X[0]).shape == (2,) and np.array_equal(network(X[0]), values[0])
    assert network.name == "xor" and network.input_shape == (2,)
    assert any("the largest output is the same on 4" in note for note in network.notes)


def test_networks_are_kept(network, tmp_path):
    path = tmp_path / "xor.pvm"
    network.save(path)
    again = polyveil.Network.load(path)
    for same in (again, pickle.loads(pickle.dumps(network))):
        assert np.array_equal(same(X), network(X)) and same.name == "xor"
    with pytest.raises(polyveil.Error) as refused:
        network.save(path)
    assert refused.value.remedy == "overwrite=True" and str(refused.value).endswith(": overwrite=True")
    network.save(path, overwrite=True)
    seen = network.inspect()
    assert seen["labels"] == ["equal", "different"] and seen["calibrated"] and is_json(seen)


def test_numbers_of_any_type_are_taken(network):
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.int64, bool, ">f4"):
        assert np.array_equal(network(X.astype(dtype)), network(X)), dtype
    assert np.array_equal(network(np.asfortranarray(X)), network(X))
    assert np.array_equal(network(np.repeat(X, 2, axis=0)[::2]), network(X))
    assert np.array_equal(network(X.tolist()), network(X))


@pytest.mark.parametrize(
    "data, words",
    [
        (X[:, :1], r"shape \[4, 1\]"),
        (np.zeros((2, 2, 2)), "takes inputs of shape"),
        (np.zeros((0, 2)), "shape"),
        (1.5, "single number"),
        (np.array([["a", "b"]]), "dtype"),
        (X + 1j, "dtype complex"),
        (np.array([[0, np.nan]]), "finite|NaN"),
        (np.array([[0, np.inf]]), "finite|inf"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(network, client, data, words):
    for call in (network, client.encrypt, lambda d: calibrated(d, None)):
        with pytest.raises(polyveil.Error, match=words):
            call(data)


@pytest.mark.parametrize(
    "labels, words",
    [([0, 1], "4 inputs and 2 labels"), ([0.5] * 4, "integers from 0, or names"), ([-1, 0, 0, 0], "integers from 0"), ([Y], "shape")],
)
def test_labels_that_do_not_fit_are_refused(labels, words):
    with pytest.raises(polyveil.Error, match=words):
        calibrated(labels=labels)


def test_names_are_classes(network):
    named = calibrated(labels=["equal", "different", "different", "equal"], classes=["equal", "different"])
    assert named.inspect()["labels"] == ["equal", "different"]
    with pytest.raises(polyveil.Error, match="none of the classes"):
        calibrated(labels=["a"] * 4, classes=["equal", "different"])


def test_normalisation_is_said_or_refused():
    with pytest.raises(polyveil.Error) as refused:
        calibrated(normalization=None)
    assert "how rows are normalised" in str(refused.value) and "normalization=" in refused.value.remedy
    with pytest.raises(polyveil.Error, match="no normalisation imagenet"):
        calibrated(normalization="imagenet")
    with pytest.raises(polyveil.Error, match="unknown field"):
        calibrated(normalization={"average": 1})
    # inputs are as they were before it
    halved = calibrated(X * 2 + 1, normalization={"mean": 1, "deviation": 2})
    assert np.abs(halved(X * 2 + 1) - calibrated()(X)).max() < 1e-9
    assert calibrated(normalization="measured").inspect()["normalization"]["mean"] == [0.5, 0.5]


def test_what_the_library_refuses_has_a_remedy():
    with pytest.raises(polyveil.Error, match="degree = 0"):
        calibrated(degree=0)
    with pytest.raises(polyveil.Error, match="no-such-file"):
        polyveil.calibrate("no-such-file.onnx", X, normalization="none")
    with pytest.raises(TypeError, match="torch.nn.Module or a path"):
        polyveil.calibrate(3, X)
    with pytest.raises(polyveil.Error, match="control characters"):
        calibrated(name="a\x1b[31m")
    with pytest.raises(polyveil.Error, match="answers"):
        calibrated(answers="songs")
    with pytest.raises(polyveil.Error, match="layers"):
        polyveil.compile(calibrated(), layers="rows")


def test_no_word_speaks_of_the_programs_commands():
    """Errors are the library's, which speaks of no commands, with what `errors.rs` adds."""
    sources = [*(ROOT / "python/src").glob("*.rs"), *(ROOT / "python/package/polyveil").glob("*.py")]
    assert len(sources) > 10
    for source in sources:
        for text in re.findall(r'"(?:[^"\\]|\\.)*"', source.read_text()):
            assert not re.search(r"polyveil(-train)? [a-z]+ (-|[A-Z]|net)|--[a-z]", text), (source, text)


def test_files_are_data(tmp_path):
    path = tmp_path / "xor.csv"
    rows = "\n".join(f"{a:g},{b:g},{['equal', 'different'][y]}" for (a, b), y in zip(X, Y))
    path.write_text(f"left,right,answer\n{rows}\n")
    network = polyveil.calibrate(XOR, path, "answer", normalization="none", degree=7, classes=["equal", "different"])
    assert np.array_equal(network(X), calibrated()(X))
    found = polyveil.evaluate(network, path, "answer", count=2)
    assert found.summary["right"] == 2
    with pytest.raises(polyveil.Error) as refused:
        polyveil.calibrate(XOR, path, normalization="none")
    assert "without" in (refused.value.remedy or "") or "answer" in str(refused.value)


def test_evaluation_compares_with_the_clear(network, plan, tmp_path):
    results = tmp_path / "results.jsonl"
    found = polyveil.evaluate(network, X, Y, plan=plan, results=results)
    assert found.summary["right"] == 4 and found.summary["same_class_as_clear"] == 4 and found.summary["max_abs_error"] < 1e-3
    assert [r["class"] for r in found.results if "index" in r] == Y
    assert found.report.to_dict()["network"] == "xor" and "same class as clear" in found.text
    assert len(results.read_text().splitlines()) == 5
    again = polyveil.evaluate(network, X, Y, plan=plan, results=results)
    assert again.report is None and again.summary["right"] == 4
    with pytest.raises(polyveil.Error, match="other data"):
        polyveil.evaluate(network, X[::-1], Y[::-1], plan=plan, results=results)


def test_several_inputs_share_a_run(network):
    plan = polyveil.compile(network, batch=4)
    client = polyveil.Client(plan)
    assert plan.batch == client.batch == 4
    answer = polyveil.Server(plan, client.evaluation_keys()).run(client.encrypt(X))
    assert np.abs(client.decrypt(answer, count=4) - network(X)).max() < 1e-3
    assert [a.best for a in client.read_all(answer, count=3)] == Y[:3]
    with pytest.raises(polyveil.Error) as refused:
        client.decrypt(answer)
    assert refused.value.remedy == "count=N"
    with pytest.raises(polyveil.Error):
        client.encrypt(np.zeros((5, 2)))


def test_adaptation_trains(network):
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (400, 2))
    y = ((x[:, 0] > 0.5) != (x[:, 1] > 0.5)).astype(int)
    how = dict(normalization="none", epochs=4, held_out=80, classes=["equal", "different"])
    heard = []
    made = polyveil.adapt(XOR, x, y, **how, progress=lambda *said: heard.append(said))
    assert made.score["answers"] == 80 and made.score["accuracy"] > 0.7
    assert made.inspect()["labels"] == ["equal", "different"] and made(x[0]).shape == (2,)
    assert any(fraction is not None for _, fraction, _ in heard)
    assert np.array_equal(polyveil.adapt(XOR, x, y, **how)(x), made(x))
    assert polyveil.compile(made).forecast().bootstraps == 0
    with pytest.raises(polyveil.Error) as refused:
        polyveil.adapt(XOR, x, **how)
    assert "labels=" in refused.value.remedy
    with pytest.raises(polyveil.Error, match="files"):
        polyveil.adapt(XOR, x, y, **how, folder="run")
    with pytest.raises(polyveil.Error, match="normalised by"):
        polyveil.adapt(XOR, x, y, **{**how, "normalization": "imagenet"})


def test_adaptation_keeps_a_folder(tmp_path):
    rows = tmp_path / "rows.csv"
    grid = [(a / 7, b / 7) for a in range(8) for b in range(8)]
    rows.write_text("left,right,class\n" + "".join(f"{a},{b},{int((a > 0.5) != (b > 0.5))}\n" for a, b in grid))
    how = dict(normalization="none", epochs=2, held_out=16, folder=tmp_path / "run")
    made = polyveil.adapt(XOR, rows, "class", **how)
    assert (tmp_path / "run/network.pvm").exists() and (tmp_path / "run/run.toml").exists()
    assert np.array_equal(polyveil.Network.load(tmp_path / "run/network.pvm")(X), made(X))
