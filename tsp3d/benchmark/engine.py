"""The races of ``tools/benchmark.py engine``: maps, layers by channels, and the whole backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tsp3d.benchmark.peers import Peer
from tsp3d.benchmark.precision import arithmetic
from tsp3d.benchmark.race import Case, race, race_map
from tsp3d.benchmark.rooms import pyramid, voxels
from tsp3d.benchmark.workloads import CHANNELS, BackboneWork, InferenceWork, LayerWork


def level_of(channels: int) -> int:
    """The level of the backbone at which a width is at home: 0 up to 32, 1 at 64, 2 at 128, 3 from 256."""
    return min(sum(channels > wide for wide in CHANNELS[:-1]), len(CHANNELS) - 1)


def race_engine(
    peers: list[Peer], counts: Sequence[int], channels: Sequence[int], rounds: int, device: torch.device,
    backward: bool = False, backbone: Sequence[int] = CHANNELS, missing: dict[str, str] | None = None,
    progress: Callable[[Case], None] | None = None, precision: str = "float32", blocks: Sequence[int] = (),
) -> list[Case]:  # fmt: skip
    """All cases for each number of voxels (no channels in ``backbone`` leave the backbone out).

    Layers of C channels run on the level of the backbone where that width is at home: a narrow layer on all voxels, a
    wide one on an eighth or less of the surface, as in a network. Maps of layers are ready before their time begins.
    """
    cases: list[Case] = []

    def done(case: Case) -> None:
        cases.append(case)
        if progress:
            progress(case)

    both = (False, True) if backward else (False,)
    with arithmetic(precision):
        for count in counts:
            levels = [level.to(device) for level in pyramid(voxels(count), len(CHANNELS))]
            for kind in ("map3", "map2"):
                layer = LayerWork(levels[0], kind, 1, 1, "tf32" if precision == "tf32" else "float32")
                done(race_map(layer, peers, rounds, missing))
            for width in channels:
                level = levels[level_of(width)]
                works = (("map3", width, width), ("map2", width, 2 * width))
                for work in (LayerWork(level, *sizes, precision) for sizes in works):
                    for also_back in both:
                        done(race(work, peers, rounds, also_back, maps=False, missing=missing))
            if backbone:
                whole = BackboneWork(levels[0], tuple(backbone), tuple(blocks), precision)
                for also_back in both:
                    done(race(whole, peers, rounds, also_back, missing=missing))
                folded = InferenceWork(levels[0], tuple(backbone), tuple(blocks), precision)
                done(race(folded, peers, rounds, missing=missing))
    return cases
