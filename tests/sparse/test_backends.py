"""Choosing between the compiled kernels and the reference, and what `python -m tsp3d.info` says of it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch

from tsp3d import info
from tsp3d.sparse import backends, ops


def test_without_a_library_one_warning_says_how_to_mend_it(monkeypatch):
    monkeypatch.setattr(backends, "find_library", lambda: None)
    monkeypatch.setenv("TSP3D_BACKEND", "auto")
    with pytest.warns(RuntimeWarning, match="not built.*build_ext --inplace"):
        status = backends._load()
    assert status.name == "reference" and status.library is None
    monkeypatch.setenv("TSP3D_BACKEND", "cpp")
    with pytest.raises(ImportError, match="not built"):
        backends._load()


def test_a_library_that_does_not_load_is_not_called_missing(monkeypatch, tmp_path):
    broken = tmp_path / "_C_cpu.so"
    broken.write_text("not a library")
    monkeypatch.setattr(backends, "find_library", lambda: broken)
    monkeypatch.setenv("TSP3D_BACKEND", "auto")
    with pytest.warns(RuntimeWarning, match=f"does not load with torch {torch.__version__.split('+')[0]}"):
        assert backends._load().name == "reference"


def test_the_reference_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("TSP3D_BACKEND", "reference")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends._load().name == "reference"
    monkeypatch.setenv("TSP3D_BACKEND", "metal")
    with pytest.raises(ValueError, match="use auto, cpp or reference"):
        backends._load()


def test_the_cuda_library_is_loaded_only_where_torch_has_cuda(monkeypatch, tmp_path):
    broken = tmp_path / "_C_cuda.so"
    broken.write_text("not a library")
    monkeypatch.setattr(backends, "find_library", lambda stem: broken)
    monkeypatch.setenv("TSP3D_BACKEND", "auto")
    monkeypatch.setattr(torch.version, "cuda", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status = backends._load_cuda()
    assert status.name == "reference" and status.reason == "this torch is built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.warns(RuntimeWarning, match="does not load with torch.*TSP3D_CUDA=1"):
        assert backends._load_cuda().name == "reference"
    monkeypatch.setattr(backends, "find_library", lambda stem: None)
    assert backends._load_cuda().reason == "the CUDA kernels were not built"


def test_everything_runs_on_the_reference():
    program = (
        "import torch; from tsp3d import info, sparse; from tsp3d.sparse import nn, ops\n"
        "x, _ = sparse.voxelize(torch.rand(500, 3), torch.rand(500, 3), 0.1)\n"
        "y = nn.GenerativeConvTranspose3d(4, 2)(nn.Conv3d(3, 4, 3, 2)(x)); y.feats.sum().backward()\n"
        "assert ops.ON_REFERENCE == set(ops.SCHEMAS) and len(y); info.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", program],
        env={**os.environ, "TSP3D_BACKEND": "reference"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "plain PyTorch, because TSP3D_BACKEND=reference" in done.stdout


def test_info(capsys):
    assert info.main() == 0
    printed = capsys.readouterr().out
    assert torch.__version__ in printed and "cpu operators" in printed
    if backends.STATUS.name == "cpp":
        assert set(info.compiled_operators()) == set(ops.SCHEMAS)
        assert "OpenMP" in printed
    else:
        assert "to mend it" in printed
