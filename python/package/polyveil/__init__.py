"""Neural networks on encrypted data: a client encrypts, a server computes on ciphertexts only, the client decrypts.

>>> network = polyveil.calibrate(module, x, y, normalization="none")    # doctest: +SKIP
>>> plan = polyveil.compile(network)                                     # doctest: +SKIP
>>> client = polyveil.Client(plan.client_file())                         # doctest: +SKIP
>>> server = polyveil.Server(plan, client.evaluation_keys())             # doctest: +SKIP
>>> client.decrypt(server.run(client.encrypt(x[0])))                     # doctest: +SKIP
"""

from ._errors import Error, NotEnoughMemory, OtherKeys, OutsideRange, PolyveilWarning, ServiceError, WrongAnswer
from ._make import Evaluation, Forecast, Network, Plan, Report, adapt, calibrate, compile, evaluate, inspect
from ._native import backend
from ._progress import silent
from ._service import Service
from ._sides import Answer, Client, Server

__all__ = [
    "Answer", "Client", "Error", "Evaluation", "Forecast", "Network", "NotEnoughMemory", "OtherKeys", "OutsideRange", "Plan", "PolyveilWarning",
    "Report", "Server", "Service", "ServiceError", "WrongAnswer", "adapt", "backend", "calibrate", "compile", "evaluate", "inspect", "silent",
]  # fmt: skip
