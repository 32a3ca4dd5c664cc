#!/usr/bin/env python3
"""Drive the stages of an installed submission without the harness: `drive.py FOLDER mnist|cifar10|mrpc SIZE INPUTS [LABELS]`.

For what the harness fetches from the network before it starts a stage, and for numbers of inputs that its version does not have. INPUTS and
LABELS are files as the harness writes them. Stages, their order, the measured folders and the fields of measurements/SIZE/results-1.json are
the harness's; its own stages (data, the model in the clear) are not there.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import install
import submission

NAMES = {
    "client_key_generation": "Key Generation",
    "server_preprocess_model": "Encrypted model preprocessing",
    "client_preprocess_input": "Input preprocessing",
    "client_encode_encrypt_input": "Input encryption",
    "server_encrypted_compute": "Encrypted computation",
    "client_decrypt_decode": "Result decryption",
    "client_postprocess": "Result postprocessing",
}


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    root, workload, size = Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3])
    place = submission.Place(workload, size, root)
    into, suffix = install.folder(root, place.workload)
    shutil.rmtree(place.io, ignore_errors=True)
    place.io.mkdir(parents=True)
    place.dataset.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sys.argv[4], place.inputs)
    timing = {}
    for stage in submission.STAGES:
        start = time.monotonic()
        subprocess.run([sys.executable, into / (stage + suffix), str(size)], check=True, cwd=root)
        timing[NAMES[stage]] = f"{time.monotonic() - start:.4f}s"
        print(f"{NAMES[stage]}: {timing[NAMES[stage]]}", flush=True)
    result = {
        "model_name": place.workload.model,
        "dataset_name": place.workload.dataset,
        "Timing": timing,
        "Bandwidth": {
            "Public and evaluation keys": size_of(place.keys),
            "Encrypted input": size_of(place.upload),
            "Encrypted results": size_of(place.download),
            "Packed model weights": size_of(place.server),
        },
        "Server Reported": json.loads(place.reported.read_text()),
    }
    if len(sys.argv) == 6:
        right = Path(sys.argv[5]).read_text().split()
        given = place.predictions.read_text().split()
        agree = sum(a == b for a, b in zip(given, right, strict=True))
        result["Quality"] = {"correct_predictions": agree, "total_samples": len(right), "accuracy": agree / len(right)}
    place.measured.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    (place.measured / "results-1.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
