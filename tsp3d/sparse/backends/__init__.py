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


@dataclass(frozen=True)
class BackendStatus:
    """What happened when the compiled kernels were looked for."""

    name: str  # "cpp" or "reference"
    library: str | None  # path of the library that was found
    reason: str | None  # why the reference is used, None for "cpp"
    requested: str  # value of TSP3D_BACKEND


def find_library() -> Path | None:
    """The compiled CPU library beside the package, or None."""
    found = sorted(Path(__file__).resolve().parents[2].glob("_C_cpu*.so"))
    return found[0] if found else None


def _load() -> BackendStatus:
    requested = os.environ.get("TSP3D_BACKEND", "auto").strip().lower() or "auto"
    if requested not in ("auto", "cpp", "reference"):
        raise ValueError(f"TSP3D_BACKEND={requested!r}: use auto, cpp or reference")
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


STATUS = _load()
