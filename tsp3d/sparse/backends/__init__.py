"""Finding and loading the compiled kernels, and choosing another library for the arithmetic. Nothing here builds."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

REMEDY = (
    "Install a C++ compiler (Debian/Ubuntu: apt-get install g++) and run `pip install -e . --no-build-isolation`, "
    "or `python setup.py build_ext --inplace`, in the source folder."
)

PEERS = {
    "spconv": "`pip install tsp3d[spconv]`, or the wheel for your CUDA, e.g. spconv-cu126",
    "minkowski": "build MinkowskiEngine 0.5.4 from its source, https://github.com/NVIDIA/MinkowskiEngine",
}
"""Libraries that can do the arithmetic of the layers instead, and how each is installed."""

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
    isa = os.environ.get("TSP3D_CPU_ISA", "")
    if isa not in ("", "avx512", "avx2", "baseline"):
        raise ValueError(f"TSP3D_CPU_ISA={isa!r}: use avx512, avx2 or baseline")
    requested = os.environ.get("TSP3D_BACKEND", "auto").strip().lower() or "auto"
    if requested not in ("auto", "cpp", "reference", *PEERS):
        raise ValueError(f"TSP3D_BACKEND={requested!r}: use auto, cpp or reference, or {', '.join(PEERS)}")
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


def load_peer(name: str) -> ModuleType:
    """The module that runs the layers' arithmetic on a library of ``PEERS``: ``conv`` and ``max_pool``.

    Raises:
        ValueError: there is no such backend.
        ImportError: the library is not installed, or does not import here.
    """
    if name not in PEERS:
        raise ValueError(f"no backend is called {name!r}: use auto, or {', '.join(PEERS)}")
    try:
        return importlib.import_module(f"tsp3d.sparse.backends.{name}")
    except ImportError as error:
        raise ImportError(f"the backend {name} cannot be used ({error}); {PEERS[name]}") from error


peer: ModuleType | None = None  # what the layers call instead of our operators


@contextmanager
def use(name: str) -> Iterator[None]:
    """Run the layers' convolutions and max-pools on a library of ``PEERS`` within a ``with`` block: ``use("spconv")``.

    Weights, coordinates, order of rows and results are the same; "auto" stands for this package's own operators. It
    holds for all threads of the process. TSP3D_BACKEND=spconv does it for a whole program.

    Raises:
        ValueError, ImportError: as :func:`load_peer`.
    """
    global peer
    before, peer = peer, None if name == "auto" else load_peer(name)
    try:
        yield
    finally:
        peer = before


if STATUS.requested in PEERS:
    peer = load_peer(STATUS.requested)
