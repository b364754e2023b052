"""Layers over sparse tensors. Weights have MinkowskiEngine's names and layout (spec/release-state-dict.md)."""

from __future__ import annotations

import math
from abc import abstractmethod
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import backends, ops, planned, reference
from tsp3d.sparse.coords import CoordinateSet
from tsp3d.sparse.kept import countable, kept, native
from tsp3d.sparse.kernel_map import KernelMap, Region, check_step, triple
from tsp3d.sparse.linear import Packed
from tsp3d.sparse.tensor import SparseTensor, refuse_forward_mode, summable

Size = int | tuple[int, int, int]
Sequential = nn.Sequential


class Convolution(nn.Module):
    """What convolutions share. Weight ``kernel`` (K, Cin, Cout), or (Cin, Cout) for kernel size 1; ``bias`` (1, Cout)
    or None.

    On the CPU a packed copy of the weight is kept for calls without gradients. It is made again when the weight
    changes, but a change through ``kernel.data`` is not seen: write to the parameter, under ``torch.no_grad()``."""

    inference_dtype: torch.dtype | None = None
    """What the weight is rounded to at inference (:func:`tsp3d.sparse.fused.reduce_precision`)."""
    inference_range: tuple[float, float] | None = None
    """The lowest and highest feature that int8 tells apart (:func:`tsp3d.sparse.int8.use_int8`)."""

    transposed = False
    """Whether an input at u reaches u + offset_k, rather than an output at u reading there."""

    def __init__(self, cin: int, cout: int, kernel_size: Size, stride: int, dilation: int, bias: bool):
        super().__init__()
        self.cin, self.cout = cin, cout
        self.stride, self.dilation = check_step("stride", stride), check_step("dilation", dilation)
        self.kernel_size = triple(kernel_size)
        volume = math.prod(self.kernel_size)
        self.kernel = nn.Parameter(torch.empty((cin, cout) if volume == 1 else (volume, cin, cout)))
        self.bias = nn.Parameter(torch.empty(1, cout)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation by fan-in, zero bias."""
        fan_in = self.cin * math.prod(self.kernel_size)
        nn.init.normal_(self.kernel, std=math.sqrt(2.0 / fan_in))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @abstractmethod
    def places(self, x: SparseTensor, *like: SparseTensor) -> tuple[CoordinateSet, KernelMap | None]:
        """The voxels of the result, and the kernel map; None where every voxel goes to itself alone."""

    def forward(self, x: SparseTensor, *like: SparseTensor) -> SparseTensor:
        self.check(x)
        target, kernel_map = self.places(x, *like)
        if kernel_map is None:
            return x.replace(self._rows(x.feats))
        weight = self.kernel if self.kernel.ndim == 3 else self.kernel[None]
        if self._keeps(x.feats):
            m, panels = kernel_map, kept(self, [self.kernel], lambda: reference.pack(weight))
            bias = None if self.bias is None else self.bias[0]
            args = (bias, None, m.in_rows, m.out_rows, m.splits, target.rows, False)
            return SparseTensor.over(ops.conv_fused(x.feats, panels, self.cout, *args), target)
        step = min(x.stride, target.stride) * self.dilation
        region = Region(x.coords, target.coords, self.kernel_size, step, self.transposed)
        feats = convolve(x.feats, weight, kernel_map, target.rows, region)
        return SparseTensor.over(feats if self.bias is None else feats + self.bias.to(feats.dtype), target)

    def _rows(self, feats: Tensor) -> Tensor:
        """The result of kernel size 1."""
        bias = None if self.bias is None else self.bias[0]
        if self._keeps(feats):
            return kept(self, self._parts, lambda: Packed.of(self.kernel.T, bias), "rows")(feats)
        return F.linear(feats, self.kernel.T.to(feats.dtype), None if bias is None else bias.to(feats.dtype))

    @property
    def _parts(self) -> list[Tensor]:
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    def _keeps(self, feats: Tensor) -> bool:
        """Whether the weight is packed once, for the operators of inference."""
        parts = self._parts
        same = all(part.dtype == feats.dtype for part in parts)
        others = backends.peer is not None or planned.serves(feats)
        return same and native(feats) and not others and countable(parts)

    def check(self, x: SparseTensor) -> None:
        """ValueError where x has another number of channels, or integers: the weight would be rounded to such."""
        if x.num_channels != self.cin:
            raise ValueError(f"{type(self).__name__} takes {self.cin} channels, got {x.num_channels}")
        if not x.dtype.is_floating_point:
            raise ValueError(f"{type(self).__name__} takes floating-point features, got {x.dtype}: x.to(torch.float32)")

    def extra_repr(self) -> str:
        return (
            f"{self.cin}, {self.cout}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"dilation={self.dilation}, bias={self.bias is not None}"
        )


def convolve(
    feats: Tensor, weight: Tensor, kernel_map: KernelMap, num_out: int, region: Region | None = None
) -> Tensor:
    """(num_out, Cout) of feats (N, Cin) and weight (K, Cin, Cout) over a kernel map; half precision sums in float32.

    With the region of the map another library may do it (:func:`tsp3d.sparse.backends.use`)."""
    refuse_forward_mode(feats)
    if torch.is_autocast_enabled(feats.device.type) and feats.dtype != torch.float64:  # which autocast leaves alone
        feats = feats.to(torch.get_autocast_dtype(feats.device.type))
    weight = weight.to(feats.dtype)
    if feats.dtype in (torch.float16, torch.bfloat16) and not (feats.is_cuda and ops.HALF_ON_CUDA):
        return _convolve(feats.float(), weight.float(), kernel_map, num_out, region).to(feats.dtype)
    return _convolve(feats, weight, kernel_map, num_out, region)


def _peer(feats: Tensor, kernel_map: KernelMap) -> ModuleType | None:
    """The library that is to do the work; None where it is ours. Where there is nothing to do the others fail."""
    served = backends.peer is not None and feats.dtype == torch.float32 and len(kernel_map.in_rows) > 0
    return backends.peer if served else None


def _convolve(feats: Tensor, weight: Tensor, kernel_map: KernelMap, num_out: int, region: Region | None) -> Tensor:
    if region is not None and (peer := _peer(feats, kernel_map)) is not None:
        return peer.conv(feats, weight, kernel_map, num_out, region)
    if planned.serves(feats):
        return planned.convolve(feats, weight, kernel_map, num_out)
    return ops.conv(feats, weight, kernel_map.in_rows, kernel_map.out_rows, kernel_map.splits, num_out)


class Conv3d(Convolution):
    """Sparse convolution. Stride 1 keeps the voxels (submanifold); stride s puts out floor(c / s) * s of each voxel."""

    def __init__(
        self, cin: int, cout: int, kernel_size: Size = 3, stride: int = 1, dilation: int = 1, bias: bool = False
    ):
        super().__init__(cin, cout, kernel_size, stride, dilation, bias)

    def places(self, x: SparseTensor, *like: SparseTensor) -> tuple[CoordinateSet, KernelMap | None]:
        if self.kernel.ndim == 2 and self.stride == 1:
            return x.coordinate_set, None
        return x.coordinate_set.conv_map(self.kernel_size, self.stride, self.dilation)


class GenerativeConvTranspose3d(Convolution):
    """Transposed convolution that makes voxels: an input at u gives outputs at u + offset_k of the finer stride."""

    transposed = True

    def __init__(self, cin: int, cout: int, kernel_size: Size = 3, stride: int = 2, bias: bool = False):
        super().__init__(cin, cout, kernel_size, stride, 1, bias)

    def places(self, x: SparseTensor, *like: SparseTensor) -> tuple[CoordinateSet, KernelMap]:
        return x.coordinate_set.generative_map(self.kernel_size, self.stride)


class ConvTranspose3d(Convolution):
    """Transposed convolution onto the voxels of a given finer tensor."""

    transposed = True

    def __init__(self, cin: int, cout: int, kernel_size: Size = 2, stride: int = 2, bias: bool = False):
        super().__init__(cin, cout, kernel_size, stride, 1, bias)

    def forward(self, x: SparseTensor, like: SparseTensor) -> SparseTensor:  # type: ignore[override]
        return super().forward(x, like)

    def places(self, x: SparseTensor, *like: SparseTensor) -> tuple[CoordinateSet, KernelMap]:
        (finer,) = like
        target = finer.coordinate_set
        return target, x.coordinate_set.map_onto(target, self.kernel_size, self.stride)


class _Pool(nn.Module):
    def __init__(self, kernel_size: Size = 2, stride: int = 2):
        super().__init__()
        self.kernel_size, self.stride = triple(kernel_size), check_step("stride", stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class MaxPool3d(_Pool):
    """Maximum over the voxels present under the kernel."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        target, m = x.coordinate_set.conv_map(self.kernel_size, self.stride)
        feats, best = summable(x.feats), None
        if (peer := _peer(feats, m)) is not None:
            best = peer.max_pool(feats, m, target.rows, Region(x.coords, target.coords, self.kernel_size, x.stride))
        if best is None:
            best, _ = ops.max_pool(feats, m.in_rows, m.out_rows, m.splits, target.rows)
        return SparseTensor.over(best.to(x.dtype), target)


class AvgPool3d(_Pool):
    """Mean over the voxels present under the kernel."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        target, m = x.coordinate_set.conv_map(self.kernel_size, self.stride)
        total = ops.sum_pool(summable(x.feats), m.in_rows, m.out_rows, m.splits, target.rows)
        count = torch.bincount(m.out_rows, minlength=len(target)).clamp_(min=1)
        return SparseTensor.over((total / count[:, None]).to(x.dtype), target)


def _scene_map(x: SparseTensor) -> KernelMap:
    """Every row onto its scene."""
    rows = torch.arange(len(x), dtype=torch.int32, device=x.device)
    return KernelMap(rows, x.batch.clone(), x.offsets[[0, -1]])


class GlobalAvgPool3d(nn.Module):
    """(B, C) mean over each scene; zeros for an empty one."""

    def forward(self, x: SparseTensor) -> Tensor:
        m = _scene_map(x)
        total = ops.sum_pool(summable(x.feats), m.in_rows, m.out_rows, m.splits, x.batch_size)
        return (total / x.counts.clamp(min=1)[:, None]).to(x.dtype)


class GlobalMaxPool3d(nn.Module):
    """(B, C) maximum over each scene; zeros for an empty one."""

    def forward(self, x: SparseTensor) -> Tensor:
        m = _scene_map(x)
        return ops.max_pool(summable(x.feats), m.in_rows, m.out_rows, m.splits, x.batch_size)[0].to(x.dtype)


class BatchNorm(nn.Module):
    """Batch norm over rows; ``.bn`` is a BatchNorm1d. With fewer than two rows training uses the running averages."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What evaluation multiplies by and adds, (C,) each, from the running averages."""
        bn = self.bn
        assert bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        return scale, bn.bias - bn.running_mean * scale

    def forward(self, x: SparseTensor) -> SparseTensor:
        bn, rows = self.bn, x.coordinate_set.rows
        if torch.compiler.is_dynamo_compiling():
            # A trace does not know how many rows there are, and PyTorch's batch norm asks whether there are any.
            if not self.training:
                scale, shift = self.scale_and_shift()
                return x.replace((x.feats * scale + shift).to(x.dtype))
            torch._check(rows >= 2)
        if not self.training or rows >= 2:
            return x.replace(bn(x.feats))
        return x.replace(F.batch_norm(x.feats, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps))


class LayerNorm(nn.LayerNorm):
    """Layer norm of each row."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        return x.replace(super().forward(x.feats))


class Linear(nn.Linear):
    """Linear layer on each row."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        return x.replace(super().forward(x.feats))


class ReLU(nn.Module):
    """max(x, 0) on each row."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(F.relu(x.feats))


class GELU(nn.Module):
    """Gaussian error linear unit on each row."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(F.gelu(x.feats))


class Dropout(nn.Dropout):
    """Dropout on each row."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        return x.replace(super().forward(x.feats))
