"""Convolution and max-pooling by MinkowskiEngine: ``backends.use("minkowski")`` or TSP3D_BACKEND=minkowski.

Coordinates and the order of rows stay ours. MinkowskiEngine takes no kernel map from outside, so it makes each with a
hash table of its own, from our coordinates.

Tried on the CPU with 0.5.4, PyTorch 2.13, Python 3.11 and OpenBLAS 0.3.34. Built by hand with g++ 12 as C++20 and
-DCPU_ONLY; its C++ needed no change, five of its Python files ``from collections.abc import Sequence``.

What goes wrong in that version, and is kept from happening here: it crashes without voxels (the layers do not call it
then); a max-pool whose size is its stride pools cells, though an odd kernel is centred on their corners; a voxel with
nothing under a pool's kernel gets the lowest float, and its gradient is written outside of the tensor; a coordinate
manager sets the number of threads of the whole process. What stays: on two or more threads the gradient of a weight
differs in its last digits from run to run. CUDA has not been tried, and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import MinkowskiEngine as engine
import torch
from MinkowskiEngineBackend._C import ConvolutionMode
from torch import Tensor

if TYPE_CHECKING:
    from tsp3d.sparse.kernel_map import KernelMap, Region

# A manager keeps every coordinate that it was ever given: one for each of our maps, to be freed with it.
_searched: WeakKeyDictionary[KernelMap, tuple[Any, Any, Any]] = WeakKeyDictionary()


def _between(kernel_map: KernelMap, region: Region) -> tuple[Any, Any, Any, Any]:
    """What its functions take last: the kernel, the keys of the coordinates in and out, and what holds them."""
    if region.in_coords.is_cuda:
        raise RuntimeError("the backend minkowski is for the CPU; it has not been tried on CUDA")
    # Between given coordinates the stride matters to pools alone, and to them only where it is the kernel's size.
    kernel = engine.KernelGenerator(list(region.kernel_size), max(region.kernel_size) + 1, dimension=3)
    if kernel_map not in _searched:
        threads, kind = torch.get_num_threads(), engine.CoordinateMapType.CPU
        manager = engine.CoordinateManager(D=3, num_threads=threads, coordinate_map_type=kind)
        # The kernel's offsets are multiples of what it is told is the tensor stride.
        step = [region.step] * 3
        ends = [manager.insert_and_map(region.in_coords.contiguous(), step, "in")[0]]
        if region.out_coords is not region.in_coords:
            ends.append(manager.insert_and_map(region.out_coords.contiguous(), step, "out")[0])
        _searched[kernel_map] = ends[0], ends[-1], manager
    return kernel, *_searched[kernel_map]


def conv(feats: Tensor, weight: Tensor, kernel_map: KernelMap, num_out: int, region: Region) -> Tensor:
    """(num_out, Cout) of feats (N, Cin) float32 and weight (K, Cin, Cout)."""
    kernel, *between = _between(kernel_map, region)
    transposed = engine.MinkowskiConvolutionTransposeFunction
    function = transposed if region.transposed else engine.MinkowskiConvolutionFunction
    return function.apply(feats, weight.contiguous(), kernel, ConvolutionMode.DEFAULT, *between)


def max_pool(feats: Tensor, kernel_map: KernelMap, num_out: int, region: Region) -> Tensor | None:
    """(num_out, C) maxima of feats (N, C), or None where some voxel has nothing under the kernel."""
    reached = torch.zeros(num_out, dtype=torch.bool, device=feats.device)
    reached[kernel_map.out_rows.long()] = True
    if not reached.all():
        return None
    kernel, *between = _between(kernel_map, region)
    mode = engine.PoolingMode.LOCAL_MAX_POOLING
    return engine.MinkowskiLocalPoolingFunction.apply(feats, mode, kernel, *between)
