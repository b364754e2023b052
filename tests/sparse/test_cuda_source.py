"""The CUDA sources where there is no GPU: run on the CPU by an emulation, and compiled for every architecture."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

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
