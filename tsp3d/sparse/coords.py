"""Coordinate sets: sorted unique voxel coordinates, with every kernel map that was ever asked of them."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.compiler import is_compiling

from tsp3d.sparse import ops
from tsp3d.sparse.kernel_map import KernelMap, lasting, new_rows

# Filtering walks all pairs of the old map, building walks the new rows; below this share of kept rows building is less.
FILTER_SHARE = 3 / 8

MapKey = tuple[str, tuple[int, int, int], int, int]  # kind, kernel size, stride, dilation


class CoordinateSet:
    """Immutable set of voxels: rows (batch, x, y, z) unique and in lexicographic order.

    coords: (N, 4) int32 in base voxels; stride: int, the coordinates are multiples of it; batch_size: number of scenes,
    of which any may be empty. Tensors over the same voxels share one object, and so share its kernel maps. None of this
    is checked here: ``SparseTensor(feats, coords)`` checks, and ``SparseTensor.from_unsorted`` takes rows in any order.
    """

    def __init__(self, coords: Tensor, stride: int = 1, batch_size: int = 1):
        self.coords = coords
        self.stride = stride
        self.batch_size = batch_size
        self._offsets: Tensor | None = None
        self._lengths: list[int] | None = None
        # Target None stands for this set itself: a reference would be a cycle, and memory would wait for the collector.
        # Another thread may add to it at any time, so it is copied to be searched.
        self._maps: dict[MapKey, tuple[CoordinateSet | None, KernelMap]] = {}
        # Made when it is needed: torch.compile traces the making of sets, and cannot trace that of weak references.
        self._onto: WeakKeyDictionary[CoordinateSet, dict[tuple[int, int, int], KernelMap]] | None = None
        self._around: WeakKeyDictionary[CoordinateSet, dict[float, tuple[Tensor, Tensor]]] | None = None
        self._cells: dict[int, Tensor] = {}  # by stride: row of the strided set that each voxel lies in
        self._pruned_from: tuple[CoordinateSet, Tensor] | None = None  # parent, those of its rows that are left
        self._copied_from: tuple[CoordinateSet, Tensor] | None = None  # parent, scene of each new scene

    def __reduce__(self) -> tuple:
        # Copies and pickles make their maps anew: weak references cannot be pickled.
        return CoordinateSet, (self.coords, self.stride, self.batch_size)

    def __len__(self) -> int:
        return self.coords.shape[0]

    @property
    def rows(self) -> int:
        """The number of rows as tracing knows it: ``len`` has to be a number, and would fix the size in the trace."""
        return self.coords.shape[0]

    @property
    def device(self) -> torch.device:
        return self.coords.device

    @property
    def offsets(self) -> Tensor:
        """(B + 1,) int64: rows of scene b are ``offsets[b]:offsets[b + 1]``."""
        if self._offsets is None and self.batch_size == 1 and self.device.type == "cpu":
            self._offsets = torch.tensor([0, self.rows])
        elif self._offsets is None:
            scenes = torch.arange(self.batch_size + 1, dtype=torch.int32, device=self.device)
            self._offsets = torch.searchsorted(self.coords[:, 0].contiguous(), scenes)
        return self._offsets

    @property
    def lengths(self) -> list[int]:
        """Rows of each scene, as numbers. The first call waits for the device."""
        if self._lengths is None:
            self._lengths = [self.rows] if self.batch_size == 1 else self.offsets.diff().tolist()
        return self._lengths

    def to(self, device: torch.device | str) -> CoordinateSet:
        """The same set on another device, without the cached maps."""
        coords = self.coords.to(device)  # itself where it is there: "cuda" is the current device, of some number
        return self if coords is self.coords else CoordinateSet(coords, self.stride, self.batch_size)

    # --- derived sets -------------------------------------------------------------------------------------------------

    def pruned(self, mask: Tensor, rows: Tensor | None = None) -> CoordinateSet:
        """The rows where mask (N,) bool is True. Maps of this set are filtered when the new set needs them.

        ``rows``: int64 numbers of those rows, where they are known."""
        rows = mask.nonzero().squeeze(1) if rows is None else rows
        result = CoordinateSet(self.coords.index_select(0, rows), self.stride, self.batch_size)
        result._pruned_from = (self, rows)
        return result

    def replicated(self, index: Tensor) -> CoordinateSet:
        """A batch of copies: new scene b is scene ``index[b]`` of this set. index: (B',) int64."""
        rows, batch = self.replicated_rows(index)
        coords = self.coords[rows]
        coords[:, 0] = batch.int()
        result = CoordinateSet(coords, self.stride, len(index))
        result._copied_from = (self, index)
        return result

    def replicated_rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Row of this set, and new scene, of every row of ``replicated(index)``: two (N',) int64."""
        counts = self.offsets.diff()[index]
        batch = torch.repeat_interleave(counts)
        within = torch.arange(len(batch), device=self.device) - (counts.cumsum(0) - counts)[batch]
        return self.offsets[index][batch] + within, batch

    # --- kernel maps --------------------------------------------------------------------------------------------------

    def conv_map(
        self, kernel_size: tuple[int, int, int], stride: int = 1, dilation: int = 1
    ) -> tuple[CoordinateSet, KernelMap]:
        """Output set and map of a convolution or pool; stride 1 keeps this set (submanifold)."""
        return self._map(("conv", kernel_size, stride, dilation))

    def generative_map(self, kernel_size: tuple[int, int, int], stride: int) -> tuple[CoordinateSet, KernelMap]:
        """Output set and map of a generative transposed convolution: every offset of every voxel becomes a voxel."""
        if self.stride % stride:
            raise ValueError(
                f"a transposed convolution of stride {stride} needs a tensor stride it divides, "
                f"got tensor stride {self.stride}"
            )
        return self._map(("generative", kernel_size, stride, 1))

    def map_onto(self, target: CoordinateSet, kernel_size: tuple[int, int, int], stride: int) -> KernelMap:
        """Map of a transposed convolution from this set onto the finer set ``target``."""
        if target.stride * stride != self.stride:
            raise ValueError(
                f"tensor stride {self.stride} cannot go onto tensor stride {target.stride} with a "
                f"transposed convolution of stride {stride}"
            )
        known = target._maps.get(("conv", kernel_size, stride, 1))
        if known is not None and known[0] is self:
            return known[1].swapped()
        if self._onto is None:
            self._onto = WeakKeyDictionary()
        maps = self._onto.setdefault(target, {})
        if kernel_size not in maps:
            with lasting():
                maps[kernel_size] = KernelMap.build(target.coords, self.coords, kernel_size, target.stride).swapped()
        return maps[kernel_size]

    def around(self, points: CoordinateSet, shift: float) -> tuple[Tensor, Tensor]:
        """Rows (M, 8) and trilinear weights (M, 8) of the voxels around those of another set, which are moved by
        ``shift`` base voxels along each axis: what ``ops.interpolate`` takes. Kept for as long as both sets are."""
        if self._around is None:
            self._around = WeakKeyDictionary()
        known = self._around.setdefault(points, {})
        if shift not in known:
            with lasting():
                at = points.coords.double()  # float32 does not hold coordinates beyond 2^24
                at[:, 1:] += shift
                rows, weights = ops.interpolation_weights(self.coords, at, self.stride)
                known[shift] = rows, weights.float()
        return known[shift]

    @property
    def pruned_from(self) -> tuple[CoordinateSet, Tensor] | None:
        """The set that this one was pruned from, and those of its rows (N,) int64 that are left."""
        return self._pruned_from

    def _map(self, key: MapKey) -> tuple[CoordinateSet, KernelMap]:
        if key not in self._maps:
            with lasting():
                target, built = self._derive(key) or self._build(key)
            self._maps[key] = (None if target is self else target, built)
        target, known = self._maps[key]
        return self if target is None else target, known

    def _knows(self, key: MapKey) -> bool:
        """Whether the map is at hand without a search."""
        return key in self._maps or (self._copied_from is not None and self._copied_from[0]._knows(key))

    def _build(self, key: MapKey) -> tuple[CoordinateSet, KernelMap]:
        kind, kernel_size, stride, dilation = key
        if kind == "generative":
            step = self.stride // stride
            coords = ops.dilate_coords(self.coords, list(kernel_size), step)
            target = CoordinateSet(coords, step, self.batch_size)
            # in[u] reaches out[u + offset]: read from the input's side this is an ordinary map onto the output.
            return target, KernelMap.build(coords, self.coords, kernel_size, step).swapped()
        target = self if stride == 1 else self.strided(stride)
        return target, KernelMap.build(self.coords, target.coords, kernel_size, self.stride * dilation)

    def strided(self, stride: int) -> CoordinateSet:
        """The set of cells of ``stride`` tensor strides; one object for all kernels of that stride."""
        for (kind, _, known_stride, _), (target, _) in list(self._maps.items()):
            if target is not None and kind == "conv" and known_stride == stride:
                return target
        step = self.stride * stride
        coords, self._cells[stride], _, _ = ops.unique_coords(self.coords, step)
        return CoordinateSet(coords, step, self.batch_size)

    def rows_in(self, coarse: CoordinateSet) -> Tensor:
        """Row (N,) int64 of the voxel of a coarser set that each voxel lies in, -1 where there is none.

        Nothing is searched where the coarser set is this one strided, in one step or more."""
        for (kind, _, stride, _), (target, _) in list(self._maps.items()):
            if kind == "conv" and target is not None and stride in self._cells and coarse.stride % target.stride == 0:
                rows = self._cells[stride]
                return rows if target is coarse else target.rows_in(coarse).index_select(0, rows)
        place = self.coords.clone()
        place[:, 1:] = place[:, 1:].div(coarse.stride, rounding_mode="floor") * coarse.stride
        return ops.lookup(coarse.coords, place)

    def _derive(self, key: MapKey) -> tuple[CoordinateSet, KernelMap] | None:
        """The map from that of the set this one was copied or pruned from, or None where a search is cheaper."""
        kind, kernel_size, stride, _ = key
        if kind == "conv" and kernel_size == (1, 1, 1) and self.device.type == "cpu" and not is_compiling():
            for (other, size, strides, _), (target, known) in list(self._maps.items()):
                if other == "conv" and strides == stride and all(length % 2 for length in size):
                    return (self if target is None else target), known.middle()
        if self._copied_from is not None:
            parent, index = self._copied_from
            if len(parent) <= len(self) or parent._knows(key):
                source, known = parent._map(key)
                target = self if source is parent else self._sibling(key)  # one without voxels counts as False
                target = source.replicated(index) if target is None else target
                return target, known.replicated(parent.offsets, source.offsets, index)
        if self._pruned_from is not None and kind == "conv":
            parent, rows = self._pruned_from
            if len(self) >= FILTER_SHARE * len(parent) and parent._knows(key):
                source, known = parent._map(key)
                rows = new_rows(rows, len(parent))
                if stride == 1:
                    return self, known.filtered(rows, rows)
                target = self.strided(stride)
                survivors = torch.full((len(source),), -1, dtype=torch.int32, device=self.device)
                kept = ops.lookup(source.coords, target.coords)
                survivors[kept] = torch.arange(len(target), dtype=torch.int32, device=self.device)
                return target, known.filtered(rows, survivors)
        return None

    def _sibling(self, key: MapKey) -> CoordinateSet | None:
        """The output set already made for another kernel of the same kind and stride."""
        for (kind, kernel_size, stride, _), (target, _) in list(self._maps.items()):
            same = kind == key[0] and stride == key[2] and (kind == "conv" or kernel_size == key[1])
            if target is not None and same:
                return target
        return None
