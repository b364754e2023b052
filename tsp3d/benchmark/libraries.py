"""The libraries that are raced where they are installed. Nothing here is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from tsp3d.benchmark.peers import KERNELS, Layer, Ours, Peer, Reference, Unavailable
from tsp3d.io.errors import UserError

EXTENT_STEP = 64
"""Grids are padded to a multiple of this, so that no halving loses a voxel at the far side."""


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # old extensions fail with anything from ImportError to AttributeError
        raise Unavailable(f"{module} cannot be imported ({type(error).__name__}: {error})".splitlines()[0]) from error


def _version(package: str, module: Any) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(module, "__version__", "unknown"))


def _extent(coords: Tensor) -> list[int]:
    return [-(-(int(c) + 1) // EXTENT_STEP) * EXTENT_STEP for c in coords[:, 1:].amax(0)]


class _ModuleLayer(Layer):
    """A layer of a library, with the way from its weight's layout back to ours."""

    def __init__(self, module: torch.nn.Module, parameter: Tensor, weight: Tensor, to_ours: Callable[[Tensor], Tensor]):
        self.module, self.parameter, self.to_ours = module, parameter, to_ours
        with torch.no_grad():
            # The inverse of a permutation, whatever it is: where each of our entries lies in the library's.
            place = to_ours(torch.arange(parameter.numel(), device=weight.device).reshape(parameter.shape))
            parameter.view(-1)[place.reshape(-1)] = weight.reshape(-1)

    def __call__(self, x: Any) -> Any:
        return self.module(x)

    def gradient(self) -> Tensor:
        return self.to_ours(super().gradient())


class Spconv(Peer):
    """spconv 2: its implicit GEMM on CUDA, its native algorithm on the CPU, on one thread, as on more it is wrong."""

    name = "spconv"
    note = "1 thread: on more its CPU results are wrong"

    def __init__(self) -> None:
        self.spconv = _import("spconv.pytorch")
        _import("tsp3d.sparse.backends.spconv")

    def version(self) -> str:
        return _version("spconv", self.spconv)

    def limits(self) -> AbstractContextManager[Any]:
        from tsp3d.sparse.backends.spconv import one_thread

        return one_thread()  # of the CPU; on CUDA it changes nothing

    def tensor(self, coords: Tensor, feats: Tensor) -> Any:
        return self.spconv.SparseConvTensor(feats, coords, _extent(coords), 1)

    def layer(self, weight: Tensor, level: int) -> Layer:
        volume, cin, cout = weight.shape
        if volume == 27:
            module = self.spconv.SubMConv3d(cin, cout, 3, bias=False, indice_key=f"map3.{level}")
        else:
            module = self.spconv.SparseConv3d(cin, cout, 2, 2, bias=False, indice_key=f"map2.{level}")
        module = module.to(weight.device, weight.dtype)
        # (Cout, x, y, z, Cin) -> (z, y, x, Cin, Cout) -> (K, Cin, Cout)
        return _ModuleLayer(
            module, module.weight, weight, lambda w: w.permute(3, 2, 1, 4, 0).reshape(volume, cin, cout)
        )

    def feats(self, x: Any) -> Tensor:
        return x.features

    def replace(self, x: Any, feats: Tensor) -> Any:
        return x.replace_feature(feats)

    def coords(self, x: Any, level: int) -> Tensor:
        return x.indices * torch.tensor([1] + [2**level] * 3, dtype=torch.int32, device=x.indices.device)

    def build_map(self, x: Any, kind: str) -> None:
        (size, stride), ops = KERNELS[kind], _import("spconv.pytorch.ops")
        submanifold = stride == 1
        if x.indices.is_cuda:  # what its layers do there
            ops.get_indice_pairs_implicit_gemm(
                x.indices, 1, x.spatial_shape, ops.ConvAlgo.MaskImplicitGemm, list(size), [stride] * 3,
                [1 if submanifold else 0] * 3, [1] * 3, [0] * 3, submanifold, False, is_train=False,
            )  # fmt: skip
            return
        ops.get_indice_pairs(
            x.indices, 1, x.spatial_shape, ops.ConvAlgo.Native, list(size), [stride] * 3,
            [1 if submanifold else 0] * 3, [1] * 3, [0] * 3, submanifold, False,
        )  # fmt: skip


class SpconvThreads(Spconv):
    """spconv on as many threads as everyone else: its CPU kernels race, which the check before the timing shows."""

    name = "spconv-threads"
    note = "more threads than spconv's CPU kernels bear"

    def limits(self) -> AbstractContextManager[Any]:
        return nullcontext()


class Minkowski(Peer):
    """MinkowskiEngine 0.5, where someone has built it."""

    name = "minkowski"

    def __init__(self) -> None:
        self.engine = _import("MinkowskiEngine")

    def version(self) -> str:
        return _version("MinkowskiEngine", self.engine)

    def tensor(self, coords: Tensor, feats: Tensor) -> Any:
        kind = self.engine.CoordinateMapType.CUDA if coords.is_cuda else self.engine.CoordinateMapType.CPU
        # Left to itself it sets the number of threads of everyone in the process.
        threads = torch.get_num_threads()
        manager = self.engine.CoordinateManager(D=3, num_threads=threads, coordinate_map_type=kind)
        return self.engine.SparseTensor(feats, coordinates=coords, coordinate_manager=manager)

    def layer(self, weight: Tensor, level: int) -> Layer:
        volume, cin, cout = weight.shape
        size, stride = (3, 1) if volume == 27 else (2, 2)
        module = self.engine.MinkowskiConvolution(cin, cout, kernel_size=size, stride=stride, dimension=3)
        module = module.to(weight.device)
        return _ModuleLayer(module, module.kernel, weight, lambda w: w)

    def feats(self, x: Any) -> Tensor:
        return x.F

    def replace(self, x: Any, feats: Tensor) -> Any:
        return self.engine.SparseTensor(
            feats, coordinate_map_key=x.coordinate_map_key, coordinate_manager=x.coordinate_manager
        )

    def coords(self, x: Any, level: int) -> Tensor:
        return x.C.int()

    def build_map(self, x: Any, kind: str) -> None:
        (size, stride), manager, key = KERNELS[kind], x.coordinate_manager, x.coordinate_map_key
        target = key if stride == 1 else manager.stride(key, stride)
        manager.kernel_map(key, target, stride=stride, kernel_size=size[0])


class SparseConvNet(Peer):
    """Facebook's SparseConvNet, where someone has built it. Its map is timed with a convolution of one channel."""

    name = "sparseconvnet"

    def __init__(self) -> None:
        self.scn = _import("sparseconvnet")

    def version(self) -> str:
        return _version("sparseconvnet", self.scn)

    def tensor(self, coords: Tensor, feats: Tensor) -> Any:
        layer = self.scn.InputLayer(3, torch.tensor(_extent(coords)), mode=0)
        return layer((coords[:, [1, 2, 3, 0]].long(), feats))

    def layer(self, weight: Tensor, level: int) -> Layer:
        volume, cin, cout = weight.shape
        side = 3 if volume == 27 else 2
        if side == 3:
            module = self.scn.SubmanifoldConvolution(3, cin, cout, 3, False)
        else:
            module = self.scn.Convolution(3, cin, cout, 2, 2, False)
        module = module.to(weight.device)

        def to_ours(w: Tensor) -> Tensor:  # z runs fastest there
            return w.reshape(side, side, side, cin, cout).permute(2, 1, 0, 3, 4).reshape(volume, cin, cout)

        return _ModuleLayer(module, module.weight, weight, to_ours)

    def feats(self, x: Any) -> Tensor:
        return x.features

    def replace(self, x: Any, feats: Tensor) -> Any:
        return self.scn.SparseConvNetTensor(feats, x.metadata, x.spatial_size)

    def coords(self, x: Any, level: int) -> Tensor:
        places = x.get_spatial_locations().int()[:, [3, 0, 1, 2]]
        return places * torch.tensor([1] + [2**level] * 3, dtype=torch.int32)

    def build_map(self, x: Any, kind: str) -> None:
        weight = self.feats(x).new_zeros(27 if kind == "map3" else 8, 1, 1)
        with torch.no_grad():
            self.layer(weight, 0)(self.replace(x, self.feats(x)[:, :1].contiguous()))


PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Ours, Reference, Spconv, SpconvThreads, Minkowski, SparseConvNet)
}


def make_peers(names: tuple[str, ...]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that run here, ours first, and why each of the others does not.

    Raises:
        UserError: a name that is no peer's.
    """
    if unknown := sorted(set(names) - set(PEERS)):
        raise UserError(f"no peer is called {', '.join(unknown)}; there are {', '.join(PEERS)}")
    peers, missing = [], {}
    for name in dict.fromkeys(("tsp3d", *names)):
        try:
            peers.append(PEERS[name]())
        except Unavailable as error:
            missing[name] = str(error)
    return peers, missing
