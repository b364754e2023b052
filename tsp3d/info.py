"""What is built and what runs here: ``python -m tsp3d.info``."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path

import torch

import tsp3d
from tsp3d.sparse import ops, tuning
from tsp3d.sparse.backends import CUDA_REMEDY, CUDA_STATUS, PEERS, REMEDY, STATUS


def build_info(library: str) -> dict[str, str]:
    """What a compiled library says of itself: compiler, torch, and openmp and instruction_set or architectures."""
    function = ctypes.CDLL(library).tsp3d_build_info
    function.restype = ctypes.c_char_p
    return dict(part.split("=", 1) for part in function().decode().split(";"))


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Which of the instruction sets that the kernels know this processor has."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split("flags", 1)[-1].split("\n", 1)[0].split() if info.exists() else []
    return [name for name in ("avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw") if name in flags]


def report() -> list[tuple[str, str]]:
    """Rows of (what, value) in the order in which they are printed."""
    rows = [
        ("tsp3d", f"{getattr(tsp3d, '__version__', 'unknown')} in {Path(tsp3d.__file__).parent}"),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("processor", f"{cpu_name()}, {os.cpu_count()} cores, {' '.join(cpu_features()) or 'no known features'}"),
        ("cuda", _cuda()),
        *_cuda_library(),
        ("cpu operators", "compiled (C++)" if STATUS.name == "cpp" else f"plain PyTorch, because {STATUS.reason}"),
        ("library", STATUS.library or "not built"),
    ]
    if STATUS.requested in PEERS:
        rows.append(("layers", f"convolution and max-pooling by {STATUS.requested}"))
    if STATUS.library and STATUS.name == "cpp":
        built = build_info(STATUS.library)
        rows.append(("built with", f"{built['compiler']}, torch {built['torch']} (serves torch >= 2.10)"))
        rows.append(("runs with", f"{built['instruction_set']}, OpenMP {built['openmp']}"))
    else:
        compiler = next((path for path in map(shutil.which, ("g++", "c++", "clang++")) if path), None)
        rows.append(("compiler", compiler or "none found"))
    missing = [name for name in ops.SCHEMAS if name not in compiled_operators()]
    if STATUS.name == "cpp" and missing:
        rows.append(("stale library", f"lacks {', '.join(missing)}; build it again"))
    if STATUS.name != "cpp" and STATUS.requested != "reference":
        rows.append(("to mend it", REMEDY))
    elif STATUS.requested == "reference":
        rows.append(("to mend it", "unset TSP3D_BACKEND"))
    return rows


def compiled_operators() -> list[str]:
    """Names of the operators that the loaded library serves on the CPU."""
    return [] if STATUS.name != "cpp" else [name for name in ops.SCHEMAS if name not in ops.ON_REFERENCE]


def _cuda() -> str:
    if not torch.cuda.is_available():
        return "not available" if torch.version.cuda else "this torch is built without CUDA"
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}, CUDA {torch.version.cuda}"


def _cuda_library() -> list[tuple[str, str]]:
    """Rows on the CUDA kernels: where they are, or what to do about it; nothing where there is no use for them."""
    if CUDA_STATUS.name == "cuda" and CUDA_STATUS.library:
        built = build_info(CUDA_STATUS.library)
        on_reference = ", ".join(sorted(ops.ON_REFERENCE_CUDA))
        return [
            ("cuda operators", "compiled" + (f", but for {on_reference}" if on_reference else "")),
            ("cuda library", CUDA_STATUS.library),
            (
                "cuda choices",
                f"kept in {tuning.cache_folder() / 'tuning'}" if tuning.enabled() else "fixed (TSP3D_TUNE=0)",
            ),
            ("cuda built with", f"{built['compiler']} for {built['architectures']}, torch {built['torch']}"),
        ]
    if not CUDA_STATUS.library and not torch.version.cuda:
        return []
    rows = [("cuda operators", f"plain PyTorch, because {CUDA_STATUS.reason}")]
    if torch.version.cuda and CUDA_STATUS.requested != "reference":
        rows.append(("to mend cuda", CUDA_REMEDY))
    return rows


def main() -> int:
    rows = report()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
