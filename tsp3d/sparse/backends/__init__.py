"""Finding and loading the compiled kernels. Nothing here builds anything."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

REMEDY = (
    "Install a C++ compiler (Debian/Ubuntu: apt-get install g++) and run `pip install -e . --no-build-isolation`, "
    "or `python setup.py build_ext --inplace`, in the source folder."
)


CUDA_REMEDY = (
    "Install the CUDA toolkit and run `TSP3D_CUDA=1 CUDA_HOME=/usr/local/cuda python setup.py build_ext --inplace` "
    "in the source folder."
)


@dataclass(frozen=True)
class BackendStatus:
    """What happened when the compiled kernels of one kind of device were looked for."""

    name: str  # "cpp", "cuda" or "reference"
    library: str | None  # path of the library that was found
    reason: str | None  # why the reference is used, None where it is not
    requested: str  # value of TSP3D_BACKEND


def find_library(stem: str = "_C_cpu") -> Path | None:
    """A compiled library beside the package, or None."""
    found = sorted(Path(__file__).resolve().parents[2].glob(f"{stem}*.so"))
    return found[0] if found else None


def _requested() -> str:
    requested = os.environ.get("TSP3D_BACKEND", "auto").strip().lower() or "auto"
    if requested not in ("auto", "cpp", "reference"):
        raise ValueError(f"TSP3D_BACKEND={requested!r}: use auto, cpp or reference")
    return requested


def _load() -> BackendStatus:
    requested = _requested()
    library = find_library()
    path = str(library) if library else None
    if requested == "reference":
        return BackendStatus("reference", path, "TSP3D_BACKEND=reference", requested)
    if library is None:
        reason = "the compiled kernels were not built"
    else:
        try:
            torch.ops.load_library(path)
            return BackendStatus("cpp", path, None, requested)
        except (OSError, RuntimeError) as error:
            reason = f"{path} was built but does not load with torch {torch.__version__}: {error}"
    if requested == "cpp":
        raise ImportError(f"TSP3D_BACKEND=cpp, but {reason}. {REMEDY}")
    warnings.warn(
        f"tsp3d: {reason}; the slower plain-PyTorch operators are used. {REMEDY} "
        "TSP3D_BACKEND=reference silences this; `python -m tsp3d.info` tells more.",
        RuntimeWarning,
        stacklevel=2,
    )
    return BackendStatus("reference", path, reason, requested)


def _load_cuda() -> BackendStatus:
    """The CUDA library, only where torch has CUDA: elsewhere the names that it needs are missing. Asks for no GPU."""
    requested = _requested()
    library = find_library("_C_cuda")
    path = str(library) if library else None
    if requested == "reference":
        reason = "TSP3D_BACKEND=reference"
    elif torch.version.cuda is None:
        reason = "this torch is built without CUDA"
    elif library is None:
        reason = "the CUDA kernels were not built"
    else:
        try:
            torch.ops.load_library(path)
            return BackendStatus("cuda", path, None, requested)
        except (OSError, RuntimeError) as error:
            reason = f"{path} was built but does not load with torch {torch.__version__}: {error}"
        warnings.warn(
            f"tsp3d: {reason}; CUDA tensors run on the slower plain-PyTorch operators. {CUDA_REMEDY}",
            RuntimeWarning,
            stacklevel=2,
        )
    return BackendStatus("reference", path, reason, requested)


STATUS = _load()
CUDA_STATUS = _load_cuda()
