"""The service's client: a whole run, connections that break, a server that comes back, what is refused."""

import os
import pickle
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import polyveil
from conftest import ROOT, X, is_json


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Site:
    """A server with the plan `xor` and an account `ada`."""

    def __init__(self, program, folder, plan):
        self.program, self.data, self.port = program, folder / "data", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        plan.save(folder / "xor.plan")
        self.operate("plan", "add", folder / "xor.plan")
        self.token = self.operate("account", "add", "ada").strip()
        self.token_file = folder / "ada.token"
        self.token_file.write_text(self.token + "\n")
        self.process = None

    def operate(self, *arguments):
        command = [self.program, *map(str, arguments), "--data", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        command = [self.program, "start", "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until and self.process.poll() is None
                time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        self.process = None


@pytest.fixture(scope="module")
def site(plan, tmp_path_factory):
    program = Path(os.environ.get("POLYVEIL_SERVE", ROOT / "target" / "release" / "polyveil-serve"))
    if not program.exists():
        pytest.skip("there is no polyveil-serve: POLYVEIL_SERVE names it (cargo build --release -p polyveil-serve)")
    site = Site(str(program), tmp_path_factory.mktemp("service"), plan)
    site.start()
    yield site
    if site.process:
        site.stop()


@pytest.fixture(scope="module")
def service(site):
    return polyveil.Service(site.url, token_file=site.token_file)


@pytest.fixture(scope="module")
def own(service):
    return polyveil.Client(service.client_file("xor"))


@pytest.fixture(scope="module")
def keys(service, own):
    return service.upload("xor", own.evaluation_keys())


def test_a_whole_run(site, network, service, own, keys, tmp_path):
    (offered,) = service.plans()
    assert offered == service.plan("xor") and offered["security_bits"] >= 128 and is_json(offered)
    heard = []
    answer = service.run("xor", keys, own.encrypt(X[2]), progress=lambda *said: heard.append(said))
    assert np.abs(own.decrypt(answer) - network(X[2])).max() < 1e-3
    assert heard and all(fraction is not None for _, fraction, _ in heard)
    # keys of a file are the same; what is there is not sent again
    path = tmp_path / "evaluation.keys"
    own.save_evaluation_keys(path)
    parts = []
    other = service.upload("xor", path, progress=lambda *said: parts.append(said[0]))
    assert parts == [f"part {i + 1} of {len(parts)}" for i in range(len(parts))] and parts
    assert service.upload("xor", path, progress=lambda *said: pytest.fail(said[0])) == other
    assert {k["digest"] for k in service.keys()} == {keys, other}
    # by its steps, from a file
    (tmp_path / "x.input").write_bytes(own.encrypt(X[1]))
    job = service.ask("xor", other, tmp_path / "x.input")
    assert service.ask("xor", other, tmp_path / "x.input")["id"] == job["id"]
    assert service.wait(job["id"])["state"] == service.job(job["id"])["state"] == "done"
    assert own.read(service.answer(job["id"])).best == 1
    assert [j["id"] for j in service.jobs()] == [job["id"]]
    service.delete_job(job["id"])
    service.delete_keys(other)
    assert service.jobs() == [] and [k["digest"] for k in service.keys()] == [keys]
    assert service.account()["name"] == "ada"


class Cutter:
    """Between client and service: connection i ends after so many bytes in each direction."""

    def __init__(self, port, limit):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url, self.count = f"http://127.0.0.1:{self.listener.getsockname()[1]}", 0
        threading.Thread(target=self.accept, args=(port, limit), daemon=True).start()

    def accept(self, port, limit):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            most = limit(self.count)
            self.count += 1
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(a, b, most), daemon=True).start()

    @staticmethod
    def carry(a, b, left):
        try:
            while left > 0 and (got := a.recv(min(left, 1 << 16))):
                b.sendall(got)
                left -= len(got)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_it_goes_on_over_connections_that_break(site, network, own):
    cutter = Cutter(site.port, lambda i: 50 * 6**i)
    broken = polyveil.Service(cutter.url, site.token, patience=60)
    heard = []
    keys = broken.upload("xor", own.evaluation_keys(), progress=lambda *said: heard.append(said[0]))
    assert any("trying again" in text for text in heard), heard
    answer = broken.run("xor", keys, own.encrypt(X[3]))
    assert cutter.count > 5 and np.abs(own.decrypt(answer) - network(X[3])).max() < 1e-3


def test_a_server_that_comes_back_is_waited_for(site, service, own, keys):
    site.stop()
    encrypted, answers = own.encrypt(X[0]), []
    thread = threading.Thread(target=lambda: answers.append(service.run("xor", keys, encrypted)))
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    site.start()
    thread.join(60)
    assert own.read(answers[0]).best == 0


def refused(call, code, *words):
    with pytest.raises(polyveil.ServiceError) as e:
        call()
    assert e.value.code == code and isinstance(e.value, polyveil.Error) and e.value.remedy
    for word in words:
        assert word in str(e.value), str(e.value)
    again = pickle.loads(pickle.dumps(e.value))
    assert (again.code, str(again)) == (code, str(e.value))


def test_refusals_have_a_code_and_a_remedy(site, service, own, keys):
    refused(lambda: service.plan("none"), "no_such_plan")
    refused(lambda: service.plan("no name"), "bad_request")
    refused(lambda: service.run("xor", "0" * 64, own.encrypt(X[0])), "no_such_keys", "0" * 64, "upload")
    refused(lambda: service.job("0" * 32), "no_such_job")
    refused(lambda: service.run("xor", keys, polyveil.Client(service.client_file("xor")).encrypt(X[0])), "wrong_file", "another key")
    refused(lambda: polyveil.Service(site.url, "pv_" + "0" * 64).plans(), "unknown_token")
    refused(lambda: polyveil.Service(site.url, "no token"), "bad_request")
    refused(lambda: polyveil.Service("http://example.org", site.token), "bad_request", "token", "https")
    refused(lambda: polyveil.Service(f"http://127.0.0.1:{free_port()}", site.token, patience=0.2).plans(), "unreachable")
    # a server that speaks no TLS
    refused(lambda: polyveil.Service(site.url.replace("http", "https"), site.token, patience=5).plans(), "refused", "nothing was sent", "authority that vouches")
    with pytest.raises(TypeError, match="token_file"):
        polyveil.Service(site.url)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(service)
    assert site.token not in repr(service)


def test_a_secret_key_is_not_sent(site, own, keys, tmp_path):
    key = own.save(tmp_path / "keys")
    sent = []

    def count(i):
        sent.append(i)
        return 1 << 30

    watched = polyveil.Service(Cutter(site.port, count).url, site.token)
    for secret in (key, key.read_bytes()):
        refused(lambda: watched.upload("xor", secret), "secret_key", "nothing was sent")
        refused(lambda: watched.ask("xor", keys, secret), "secret_key", "nothing was sent")
    for given in (lambda: watched.upload("xor", own), lambda: watched.ask("xor", keys, own)):
        with pytest.raises(TypeError, match="secret key"):
            given()
    assert sent == []


def test_waiting_can_be_stopped(site, own, keys):
    gone = polyveil.Service(f"http://127.0.0.1:{free_port()}", site.token, patience=600)

    class Enough(Exception):
        pass

    def enough(message, fraction, remaining):
        assert "trying again" in message
        raise Enough

    start = time.monotonic()
    with pytest.raises(Enough):
        gone.upload("xor", own.evaluation_keys(), progress=enough)
    assert time.monotonic() - start < 30
