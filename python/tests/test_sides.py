"""Client and server: what passes between them, what is refused, what Python does meanwhile."""

import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import polyveil
from conftest import X, XOR


def test_an_answer_is_the_networks(network, client, answer):
    clear = network(X[2])
    values = client.decrypt(answer)
    assert values.shape == (2,) and values.dtype == np.float64
    assert np.abs(values - clear).max() < 1e-3
    read = client.read(answer)
    assert (read.kind, read.best, read.name, read.names) == ("classes", 1, "different", ("equal", "different"))
    assert np.allclose(read.probabilities, np.exp(values) / np.exp(values).sum())
    assert read.error < 0.1 and read.doubt is None and read.alarm[0] <= read.alarm[1]


def test_a_plan_says_what_it_takes(plan, client):
    made = plan.forecast()
    assert made.bootstraps == 0 and made.security_bits >= 128 and made.peak_bytes < 3e9
    assert made.key_bytes == len(client.evaluation_keys()) and "bits of security" in str(made)


def test_files_are_the_librarys(tmp_path, plan, client, answer):
    with pytest.raises(polyveil.Error, match="ending"):
        plan.save(tmp_path / "net.client")
    written = plan.save(tmp_path / "net.plan")
    assert [p.name for p in written] == ["net.plan", "net.client"]
    with pytest.raises(polyveil.Error) as refused:
        plan.save(tmp_path / "net.plan")
    assert refused.value.remedy == "overwrite=True"
    plan.save(tmp_path / "net.plan", overwrite=True)
    again = polyveil.Plan.load(tmp_path / "net.plan")
    assert again.client_file() == plan.client_file() == (tmp_path / "net.client").read_bytes()
    with pytest.raises(polyveil.Error, match="copy"):
        again.save(tmp_path / "other.plan")

    key = client.save(tmp_path / "keys")
    assert key == tmp_path / "keys" / "client.key" and stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert (key.parent / "network.client").read_bytes() == plan.client_file()
    with pytest.raises(polyveil.Error, match="belongs to a key"):
        client.save(tmp_path / "keys")
    client.save_evaluation_keys(tmp_path / "keys" / "evaluation.keys")
    for own in (polyveil.Client.load(key), polyveil.Client.load(key.parent)):
        assert np.array_equal(own.decrypt(answer), client.decrypt(answer))
    (tmp_path / "x.input").write_bytes(own.encrypt(X[1]))
    server = polyveil.Server(tmp_path / "net.plan", tmp_path / "keys" / "evaluation.keys")
    (tmp_path / "x.answer").write_bytes(server.run(tmp_path / "x.input"))
    assert own.read(tmp_path / "x.answer").best == 1
    key.chmod(0o644)
    with pytest.warns(polyveil.PolyveilWarning, match="others can read"):
        polyveil.Client.load(key)
    seen = polyveil.inspect(key.parent / "evaluation.keys")
    assert seen["security_bits"] >= 128 and "who may see" in seen["text"]
    assert plan.inspect()["bootstraps"] == 0 and plan.inspect()["file"] is None


def test_what_a_server_is_given_holds_no_secret(tmp_path, plan, client):
    key = client.save(tmp_path / "keys")
    with pytest.raises(TypeError, match="secret key"):
        polyveil.Server(plan, client)
    for secret in (key, key.read_bytes()):
        with pytest.raises(polyveil.Error) as refused:
            polyveil.Server(plan, secret)
        assert "evaluation keys" in str(refused.value)
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(client)
    secret = key.read_bytes()[-2000:-1000]
    assert secret not in client.evaluation_keys() and secret not in client.encrypt(X[0])


def test_mixed_keys_are_refused(plan, client, server, answer):
    other = polyveil.Client(plan)
    with pytest.raises(polyveil.OtherKeys, match="belongs to key pair"):
        server.run(other.encrypt(X[0]))
    with pytest.raises(polyveil.OtherKeys) as refused:
        other.decrypt(answer)
    assert isinstance(refused.value, polyveil.Error) and isinstance(refused.value, ValueError)
    deeper = polyveil.compile(polyveil.calibrate(XOR, X, normalization="none", degree=15))
    with pytest.raises(polyveil.OtherKeys, match="made for another"):
        polyveil.Server(deeper, client.evaluation_keys())


def test_bytes_that_are_none_of_ours_are_refused(plan, client, server, answer):
    for call, given in [(polyveil.Client, b"no file"), (client.decrypt, b""), (server.run, answer), (client.decrypt, answer[:-10])]:
        with pytest.raises(polyveil.Error):
            call(given)
    altered = bytearray(answer)
    altered[-100] ^= 1
    with pytest.raises(polyveil.Error, match="damaged"):
        client.decrypt(altered)
    for call in (polyveil.Client, client.decrypt, server.run):
        with pytest.raises(TypeError, match="bytes or a path"):
            call(3)


def test_an_answer_that_cannot_be_right_is_refused():
    # calibration sees no input whose sum is 2: there a value leaves its interval, though the input itself is no larger
    narrow = polyveil.calibrate(XOR, X[:2], normalization="none", degree=7, margin=0.0)
    with pytest.warns(polyveil.PolyveilWarning, match="leaves its polynomial's interval"):
        narrow(X[3])
    plan = polyveil.compile(narrow)
    client = polyveil.Client(plan)
    server = polyveil.Server(plan, client.evaluation_keys())
    assert client.read(server.run(client.encrypt(X[1]))).alarm is not None
    with pytest.raises(polyveil.WrongAnswer, match="cannot be right"):
        client.decrypt(server.run(client.encrypt(X[3])))


def test_an_input_unlike_those_of_calibration_is_refused(client):
    with pytest.raises(polyveil.OutsideRange) as refused:
        client.encrypt(10 * X[3])
    assert "calibrate" in str(refused.value)


def test_memory_is_counted_before(network, plan, client, tmp_path):
    keys = client.evaluation_keys()
    with pytest.raises(polyveil.NotEnoughMemory) as refused:
        polyveil.Server(plan, keys, max_memory="30MB")
    assert isinstance(refused.value, MemoryError) and "max_memory" in refused.value.remedy
    with pytest.raises(polyveil.NotEnoughMemory):
        polyveil.compile(network, max_memory="2MB")
    with pytest.raises(polyveil.Error, match="not a size"):
        polyveil.compile(network, max_memory="12 parsecs")


def test_other_threads_run_meanwhile(client, server):
    def turns_while(call):
        turns, done = 0, threading.Event()

        def count():
            nonlocal turns
            while not done.is_set():
                turns += 1
                time.sleep(0.002)

        thread = threading.Thread(target=count)
        start = time.monotonic()
        thread.start()
        before = turns
        call()
        done.set()
        thread.join()
        return turns - before, time.monotonic() - start

    for call in (client.evaluation_keys, lambda: [server.run(client.encrypt(X[0])) for _ in range(5)]):
        turns, seconds = turns_while(call)
        # with the lock held there would be one or two
        assert turns > 5 and seconds > 0.02, (turns, seconds)


def test_several_threads_use_one_server(client, server):
    answers = {}

    def ask(i):
        answers[i] = client.read(server.run(client.encrypt(X[i]))).best

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == {0: 0, 1: 1, 2: 1, 3: 0}


def test_progress_is_told_and_can_stop_the_work(client, server):
    heard = []
    encrypted = client.encrypt(X[0])
    server.run(encrypted, progress=lambda *said: heard.append(said))
    fractions = [fraction for _, fraction, _ in heard if fraction is not None]
    assert fractions == sorted(fractions) and 0 <= fractions[0] and fractions[-1] <= 1
    assert "step 1/" in heard[0][0] and heard[-1][2] >= 0
    report = server.last_report
    assert report.to_dict()["bootstraps"] == 0 and report.to_markdown().startswith("```") and report.to_svg().startswith("<svg")

    class Enough(Exception):
        pass

    def enough(message, fraction, remaining):
        raise Enough

    with pytest.raises(Enough):
        client.evaluation_keys(progress=enough)
    assert client.read(server.run(encrypted)).best == 0


def test_half_written_files_go_where_work_is_stopped(client, tmp_path):
    def enough(message, fraction, remaining):
        raise StopIteration

    with pytest.raises(StopIteration):
        client.save_evaluation_keys(tmp_path / "evaluation.keys", progress=enough)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_the_work(network, plan):
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        # a minute of work and more, without it
        polyveil.evaluate(network, np.repeat(X, 5000, axis=0), plan=plan)


def test_panics_become_exceptions():
    from polyveil import _native

    with pytest.raises(polyveil.Error, match="please report it.*on purpose"):
        _native.panics(lambda *_: None)


FORKED = """
import os, sys, numpy as np, polyveil
network = polyveil.calibrate(sys.argv[1], np.eye(2), normalization="none", degree=3)
if os.fork() == 0:
    try:
        network(np.eye(2))
    except polyveil.Error as e:
        os._exit(7 if "spawn" in str(e) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def run(script, *arguments, **environment):
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_process_says_so_instead_of_waiting_for_ever():
    assert run(FORKED, XOR).strip() == "7"


PORTABLE = """
import sys, json, numpy as np, polyveil
from conftest import X, Y
network = polyveil.calibrate(sys.argv[1], X, Y, normalization="none", degree=7)
plan = polyveil.compile(network)
client = polyveil.Client(plan)
server = polyveil.Server(plan, client.evaluation_keys())
answer = client.decrypt(server.run(client.encrypt(X[2])))
print(json.dumps([polyveil.backend(), float(np.abs(answer - network(X[2])).max())]))
"""


@pytest.mark.parametrize("backend", ["portable", "avx2"])
def test_other_instructions_give_the_same(backend):
    if backend == "avx2" and polyveil.backend() == "portable":
        pytest.skip("this processor has no AVX2")
    tests = os.path.dirname(__file__)
    used, error = json.loads(run(PORTABLE, XOR, POLYVEIL_BACKEND=backend, PYTHONPATH=tests))
    assert used == backend and error < 1e-3


def test_instructions_that_there_are_not_are_refused():
    done = subprocess.run([sys.executable, "-c", "import polyveil"], capture_output=True, text=True, env={**os.environ, "POLYVEIL_BACKEND": "sse2"})
    assert done.returncode != 0 and "portable, avx2 or ifma" in done.stderr


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n" + PORTABLE


def test_torch_is_optional():
    used, error = json.loads(run(WITHOUT_TORCH, XOR, PYTHONPATH=os.path.dirname(__file__)))
    assert error < 1e-3
