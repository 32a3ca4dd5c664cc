"""The notebook of chest X-rays, executed as it is committed."""

import json
import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "chest_xray.ipynb"


def test_the_committed_notebook_has_no_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert len(cells) > 5 and all(not c.get("outputs") and c.get("execution_count") is None for c in cells)


def test_the_notebook_runs():
    pytest.importorskip("torch", reason="the notebook trains with torch, which is not in this environment (POLYVEIL_TEST_PACKAGES)")
    if not os.environ.get("POLYVEIL_XRAY"):
        pytest.skip("POLYVEIL_XRAY does not say where pneumoniamnist.npz of MedMNIST is")
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    text = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "encrypted: the same class as in the clear on 5 of 5" in text, text
