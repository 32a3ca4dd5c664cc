#!/usr/bin/env python3
"""Lay a submission into a checkout of the harness: `install.py HARNESS mnist|cifar10|mrpc [--network FILE.pvm] [--compile "OPTIONS"]`.

HARNESS is a checkout of fhe-benchmarking/ml-inference (mnist, cifar10) or fhe-benchmarking/BERT (mrpc); nothing under its `harness/` is touched. Plans are compiled here,
one for each number of inputs that a run takes.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

import submission

STUB = """#!/usr/bin/env python3
import sys; sys.path.insert(0, {folder!r}); import submission
submission.main({workload!r}, {stage!r})
"""
BUILD = """#!/bin/sh
# Builds the program that every stage calls; $POLYVEIL names another one.
[ -n "$POLYVEIL" ] || cargo build --release -p polyveil-cli --manifest-path {manifest}
"""
NOTHING = """#!/bin/sh
# Nothing to get: this submission has its own engine.
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def folder(root, workload):
    """Where this version of the harness looks for stages, and the suffix of their names."""
    if (root / "submission").is_dir():
        return root / "submission" / "build", ""
    if workload.dataset == "mrpc":
        return root / "submissions", ".py"
    return root / "submissions" / workload.dataset / workload.model, ".py"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("harness", type=Path)
    arguments.add_argument("workload", choices=submission.WORKLOADS)
    arguments.add_argument("--network", type=Path, help="another network than the repository's")
    arguments.add_argument("--compile", default="", help="more options of `polyveil compile`")
    a = arguments.parse_args()
    workload = submission.WORKLOADS[a.workload]
    network = a.network or (workload.network and submission.REPOSITORY / workload.network)
    if not network:
        sys.exit(f"{a.workload}: the repository has no network for it; name one with --network")
    here = str(Path(submission.__file__).resolve().parent)
    into, suffix = folder(a.harness, workload)
    for stage in submission.STAGES:
        executable(into / (stage + suffix), STUB.format(folder=here, workload=a.workload, stage=stage))
    if a.workload != "mrpc":
        executable(a.harness / "scripts" / "get_openfhe.sh", NOTHING)
        executable(a.harness / "scripts" / "build_task.sh", BUILD.format(manifest=submission.REPOSITORY / "Cargo.toml"))
    for batch in sorted(set(workload.batches)):
        plan = a.harness / "io" / "server_data" / f"{batch}.plan"
        plan.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        submission.polyveil("compile", network, "--no-probe", "--force", "--batch", batch, *shlex.split(a.compile), "-o", plan)
        print(f"{plan}: compiled in {time.monotonic() - start:.1f} s, {plan.stat().st_size} bytes")


if __name__ == "__main__":
    main()
