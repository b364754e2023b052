"""The CUDA sources where there is no GPU: run on the CPU by an emulation, and compiled for every architecture."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tsp3d.sparse import ops

ROOT = Path(__file__).resolve().parents[2]
EMULATION = Path(__file__).resolve().parent / "emulation"
# Sources that emulation.cpp stands for, or that come last because they register the others.
APART = ("primitives.cu", "register_cuda.cu")


def test_every_operator_is_registered_for_cuda():
    text = (ROOT / "csrc" / "register.h").read_text()
    assert sorted(re.findall(r'm\.impl\("(\w+)"', text)) == sorted(set(ops.SCHEMAS) - ops.CPU_ALONE)
    assert "IMPL(tsp3d, CUDA, m) { tsp3d::implement_operators(m); }" in (ROOT / "csrc" / "register_cuda.cu").read_text()


@pytest.fixture(scope="module")
def emulated(tmp_path_factory) -> Path:
    """The CUDA kernels as a library for the CPU."""
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("the emulation of CUDA needs g++ on x86-64 Linux")
    folder = tmp_path_factory.mktemp("emulation")
    sources = [path for path in sorted((ROOT / "csrc").rglob("*.cu")) if path.name not in APART]
    lines = [f'#include "{path}"\n' for path in [*sources, ROOT / "csrc" / "register_cuda.cu"]]
    (folder / "sources.h").write_text("".join(lines))
    made, torch_folder = folder / "emulated.so", Path(torch.__file__).parent
    strings = {
        "TSP3D_BUILT_WITH_TORCH": torch.__version__,
        "TSP3D_NVCC_VERSION": "none",
        "TSP3D_CUDA_ARCHITECTURES": "emulation",
        "SOURCES": folder / "sources.h",
    }
    command = [compiler, "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-Wl,-Bsymbolic"]
    command += ["-Wno-unknown-pragmas", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command += [f'-D{name}="{value}"' for name, value in strings.items()]
    command += ["-isystem", str(EMULATION), "-isystem", str(torch_folder / "include")]
    command += [str(EMULATION / "emulation.cpp"), f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.slow
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_kernels_run_on_the_cpu(emulated, order):
    """The operators' tests, with CUDA's kernels in the place of the CPU's; ``order`` is that of threads in a block."""
    names = ("test_ops", "test_limits", "test_planned", "test_boxes", "test_conv", "test_coords", "test_nn")
    files = [str(ROOT / "tests" / "sparse" / f"{name}.py") for name in names]
    program = (
        "import sys, torch; torch.ops.load_library(sys.argv[1]); import pytest\n"
        "from tsp3d.sparse import ops; assert ops.ON_REFERENCE == ops.CPU_ALONE\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[2:]]))"
    )
    environment = {"TSP3D_BACKEND": "reference", "TSP3D_EMULATION": str(emulated), "TSP3D_EMULATION_ORDER": order}
    done = subprocess.run(
        [sys.executable, "-c", program, str(emulated), *files],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_compiles_for_every_architecture(tmp_path):
    """With no GPU and against any torch. TSP3D_CUDA_ARCHS narrows it."""
    nvcc = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda") / "bin" / "nvcc"
    if not nvcc.exists():
        pytest.skip(f"no CUDA compiler: {nvcc} does not exist (CUDA_HOME names the toolkit)")
    folders = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", *folders],
        env={**os.environ, "TSP3D_CUDA": "only"}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "lib" / "tsp3d" / "_C_cuda.so").stat().st_size > 0
    assert "warning" not in done.stderr.lower(), done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize(("release", "blackwell"), [("12.6", False), ("12.8", True), ("13.0", True)])
def test_the_default_architectures_are_those_that_the_toolkit_knows(tmp_path, release, blackwell):
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f'#!/bin/sh\n[ "$1" = --version ] || exit 1\necho "nvcc, release {release}, V1"\n')
    nvcc.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "TSP3D_CUDA_ARCHS"}
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path / "temp")],
        env={**environment, "TSP3D_CUDA": "only", "CUDA_HOME": str(tmp_path / "cuda")},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0 and "code=sm_90" in done.stderr
    assert ("code=sm_100" in done.stderr) == blackwell
    assert ("code=compute_120" in done.stderr) == blackwell and ("code=compute_90" in done.stderr) != blackwell


def test_a_gpu_that_is_lost_ends_the_run(monkeypatch):
    spec = importlib.util.spec_from_file_location("own_conftest", ROOT / "tests" / "conftest.py")
    assert spec is not None and spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)

    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nhints")

    item = SimpleNamespace(keywords={"gpu"}, nodeid="a.py::test", session=SimpleNamespace(shouldstop=False))
    passed, failed = SimpleNamespace(excinfo=None), SimpleNamespace(excinfo=ValueError())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    conftest.pytest_runtest_makereport(item, failed)  # it failed by itself
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    conftest.pytest_runtest_makereport(item, passed)
    assert item.session.shouldstop is False
    conftest.pytest_runtest_makereport(item, failed)
    assert item.session.shouldstop == "the GPU is lost after a.py::test (CUDA error: an illegal memory access)"


def test_the_script_for_a_gpu_goes_on_without_the_test_that_lost_it_and_ends_in_time(tmp_path):
    """With a stand-in for Python, whose tests lose the GPU as long as one of them is among them."""
    for folder in ("tools", "tsp3d", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "tools" / "gpu_check.sh", tmp_path / "tools")
    (tmp_path / "tsp3d" / "_C_cuda.so").touch()
    (tmp_path / "bin" / "python").write_text(
        '#!/bin/bash\ncase "$*" in\n*get_device_capability*) echo 9.0 ;;\n'
        '*--deselect\\ a.py::bad*) echo "3 passed, 1 deselected" ;;\n'
        '*pytest\\ -v*) echo "!! Interrupted: the GPU is lost after a.py::bad (CUDA error) !!"; exit 2 ;;\nesac\n'
    )
    (tmp_path / "bin" / "python").chmod(0o755)

    def report(total: int) -> str:
        environment = {"BUILD": "0", "PYTHON": str(tmp_path / "bin" / "python"), "TOTAL_SECONDS": str(total)}
        command = ["bash", str(tmp_path / "tools" / "gpu_check.sh"), str(tmp_path / "out")]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 1, done.stdout + done.stderr
        return (tmp_path / "out" / "report.md").read_text()

    told = report(500)
    assert "| tests | FAILED (2)" in told and "| tests-2 | passed" in told and "tests-3" not in told
    assert "no time: " in report(10)
