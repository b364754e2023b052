"""The number formats that engines are raced in, and what a result may be off by in each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from tsp3d.io.errors import UserError
from tsp3d.sparse import planned

TOLERANCE = {"float32": 1e-3, "tf32": 3e-2, "float16": 3e-2, "bfloat16": 2e-1}
"""Error, as a share of the result's largest value, up to which a peer is right. Float32 through the backbone's layers
stays far below; two threads that add to the same row at once are far above. Of half precision, which adds up over the
layers, the reference is off by 0.0014 in one layer and 0.006 after 29, of bfloat16 by 0.01 and 0.04; tf32 has the
mantissa of float16."""
NAMES = tuple(TOLERANCE)


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of features and weights."""
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Everyone's float32 products on tensor cores for "tf32", and nobody's otherwise.

    Raises:
        UserError: an unknown precision, or one that our kernels, which read TSP3D_TF32 once, were not started for.
    """
    if precision not in NAMES:
        raise UserError(f"no precision is called {precision}; there are {', '.join(NAMES)}")
    wanted = precision == "tf32"
    if wanted != planned.TF32:
        change = "set TSP3D_TF32=1" if wanted else "unset TSP3D_TF32"
        raise UserError(f"{precision}: {change} in the environment, where our kernels read it")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = wanted
    if "spconv" in sys.modules:
        with suppress(AttributeError):
            sys.modules["spconv"].constants.SPCONV_ALLOW_TF32 = wanted
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
