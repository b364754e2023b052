"""The sparse residual backbone of TSP3D: stem, then four stages of basic blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsp3d import sparse
from tsp3d.sparse import SparseTensor
from tsp3d.sparse import nn as snn
from tsp3d.sparse.fused import ConvNorm, conv_norm
from tsp3d.sparse.linear import mean_mlp

from .config import BackboneConfig


class BasicBlock(nn.Module):
    """Two 3^3 convolutions with batch norm and a residual connection, through a 1^3 convolution where shapes differ."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = snn.Conv3d(cin, cout, 3, stride)
        self.norm1 = snn.BatchNorm(cout)
        self.conv2 = snn.Conv3d(cout, cout, 3)
        self.norm2 = snn.BatchNorm(cout)
        self.downsample: ConvNorm | None = None
        if stride != 1 or cin != cout:
            self.downsample = ConvNorm(snn.Conv3d(cin, cout, 1, stride), snn.BatchNorm(cout))

    def forward(self, x: SparseTensor) -> SparseTensor:
        inner = conv_norm(self.conv1, self.norm1, x)
        shortcut = x if self.downsample is None else self.downsample(x, relu=False)
        return conv_norm(self.conv2, self.norm2, inner, residual=shortcut.feats)


class Backbone(nn.Module):
    """Voxels of 6 channels -> features of the last three stages, finest first.

    With the stem's pooling the stages are at tensor strides 8, 16, 32, 64 and without it at 4, 8, 16, 32; the first
    stage's output is not used (spec: the release's 8 cm output).
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.conv1 = snn.Conv3d(config.in_channels, config.stem_channels, 3, 2)
        self.norm1 = snn.BatchNorm(config.stem_channels)
        self.pool = snn.MaxPool3d(2, 2) if config.stem_pool else None
        if len(config.channels) != 4 or len(config.blocks) != 4:
            raise ValueError(f"the backbone has four stages; got channels {config.channels} and blocks {config.blocks}")
        cin = config.stem_channels
        for stage, (cout, blocks) in enumerate(zip(config.channels, config.blocks, strict=True), 1):
            layers = [BasicBlock(cin if i == 0 else cout, cout, 2 if i == 0 else 1) for i in range(blocks)]
            setattr(self, f"layer{stage}", snn.Sequential(*layers))
            cin = cout
        self.stride = 4 if config.stem_pool else 2
        """Tensor stride of the stem's output."""

    def forward(self, x: SparseTensor) -> list[SparseTensor]:
        x = conv_norm(self.conv1, self.norm1, x)
        if self.pool is not None:
            x = self.pool(x)
        levels = []
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
            levels.append(x)
        return levels[1:]


class InputSkip(nn.Module):
    """Mean input of a level's voxels, through a small MLP, added to the level's features.

    A word such as "red" needs little more than the mean colour, which a narrow backbone would have to carry through
    all its layers; the mean position within the voxel tells a box's faces more finely than the voxel grid. With
    ``points``, what is in the voxel also passes an MLP before the mean (PointNet's way, Qi et al., CVPR 2017, with a
    mean for the maximum), which tells a thin or small object from what it lies on.
    """

    def __init__(self, dim: int, hidden: int = 32, points: bool = False) -> None:
        super().__init__()
        relu = nn.ReLU(inplace=True)  # the points are many, and new memory costs more than the arithmetic
        self.mlp = nn.Sequential(nn.Linear(7, hidden), relu, _silent(hidden, dim))
        self.points: nn.Sequential | None = None
        if points:
            self.points = nn.Sequential(nn.Linear(7, hidden), relu, nn.Linear(hidden, hidden), relu)
            self.pooled = nn.Sequential(nn.Linear(hidden, hidden), relu, _silent(hidden, dim))

    def forward(self, level: SparseTensor, voxels: SparseTensor, row: Tensor, voxel_size: float) -> SparseTensor:
        """``voxels`` (N, stride 1) hold xyz (m) and colour, ``row`` (N,) int64 is the voxel of ``level`` each lies in;
        none of these is empty."""
        xyz, color = sparse.segment_mean(voxels.feats, row, len(level)).split(3, 1)
        side = level.stride * voxel_size
        center = (level.coords[:, 1:].float() + level.stride / 2) * voxel_size
        update = self.mlp(torch.cat([color, xyz[:, 2:], (xyz - center) / side], 1))
        if self.points is not None:
            xyz, color = voxels.feats[:, :3], voxels.feats[:, 3:6]
            each = torch.cat([color, xyz[:, 2:], (xyz - center.index_select(0, row)) * (4 / side)], 1)
            update = update + self.pooled(mean_mlp(self.points, each, row, len(center)))
        return level.replace(level.feats + update)


def _silent(cin: int, cout: int) -> nn.Linear:
    """A layer that begins as no change to what it is added to."""
    layer = nn.Linear(cin, cout)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
