"""The timings of ``tools/benchmark.py model``: from raw points and a sentence to a box, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsp3d.benchmark.rooms import room_points
from tsp3d.benchmark.timing import Timing, clock
from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import find_weights, set_precision

SENTENCES = ("the {} chair next to the desk", "the {} lamp on the table", "the {} sofa in front of the window")
COLORS = ("red", "blue", "green", "brown", "white", "black", "gray", "yellow")
REST = "voxels, pruning and the rest"


@dataclass
class ModelTimes:
    """Milliseconds of one model over several rooms."""

    points: int
    cold: Timing
    """A new scan and a new sentence to a box."""
    warm: Timing
    """Another sentence on an encoded scan."""
    stages: dict[str, Timing]
    """Of ``cold``, which they sum up to."""

    def to_json(self) -> dict[str, Any]:
        return {
            "points": self.points, "cold": self.cold.to_json(), "warm": self.warm.to_json(),
            "stages": {name: timing.to_json() for name, timing in self.stages.items()},
        }  # fmt: skip


def load(name: str, device: torch.device, precision: str = "float32") -> GroundingNet:
    """A network by name or folder. Raises UserError where there is none, or no such precision."""
    folder = find_weights(name)
    net = GroundingNet.from_pretrained(folder, device)
    set_precision(net, precision, device, folder)
    return net


def scan(index: int, points: int) -> tuple[Tensor, Tensor]:
    """Points (P, 3) in metres and colours (P, 3) 0..1 of a room, in random order, the room's middle above the origin.

    A room has so many points that 50,000 are drawn from it."""
    spacing = 0.02
    while True:
        xyz, rgb = room_points(index, spacing)
        if len(xyz) >= points:
            break
        spacing /= 1.5
    chosen = np.random.default_rng(index).permutation(len(xyz))[:points]
    xyz = xyz - (*(xyz.max(axis=0)[:2] / 2), 0)
    return torch.from_numpy(xyz[chosen].astype(np.float32)), torch.from_numpy(rgb[chosen]).float() / 255


def sentence(number: int) -> str:
    """A sentence that differs from the ones before it."""
    return SENTENCES[number % len(SENTENCES)].format(COLORS[number // len(SENTENCES) % len(COLORS)])


def stages_of(net: GroundingNet) -> dict[str, list[nn.Module]]:
    """Which modules make up the stages of the table."""
    head = net.head

    def parts(*names: str) -> list[nn.Module]:
        found = [getattr(head, name) for name in names if hasattr(head, name)]
        return [m for part in found for m in (part if isinstance(part, nn.ModuleList) else [part])]

    stack1, stack2 = head.keep_trans
    return {
        "backbone": [net.vision_backbone, *net.projections, *net.input_skips],
        "text encoder": [net.text_encoder, net.text_projector],
        # The stack's first attention also runs by itself, once for all sentences.
        "attention, level 2": [stack2, stack2.layers[0].self_attention_visual],  # type: ignore[index]
        "attention, level 1": [stack1],
        "attention, completion": parts("com_trans", "com_cls"),
        "up-sampling": parts("up_block_2", "up_block_1"),
        "convolutions of the head": parts("lateral_block_2", "lateral_block_1", "lateral_block_0", "out_block_0"),
        "boxes and scores": parts("keep_conv", "fuse", "bbox_conv", "cls_conv", "pos_embed"),
    }


@contextmanager
def watch(stages: dict[str, list[nn.Module]], device: torch.device) -> Iterator[dict[str, float]]:
    """Seconds spent in the modules of each stage while the block runs; a module within another counts for the outer."""
    spent, open_calls, handles = dict.fromkeys(stages, 0.0), [], []

    def hooks(stage: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(*_: Any) -> None:
            open_calls.append(clock(device))

        def after(*_: Any) -> None:
            start = open_calls.pop()
            if not open_calls:
                spent[stage] += clock(device) - start

        return before, after

    for stage, modules in stages.items():
        before, after = hooks(stage)
        for module in modules:
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def time_model(
    net: GroundingNet, points: int = 50_000, rooms: int = 4, rounds: int = 5, progress: Callable[[], None] | None = None
) -> ModelTimes:
    """Each round grounds a new sentence in each room as if the room were new, then another one in the encoded room.

    The stages are timed in runs of their own: asking a device when it is done costs time."""
    device, scans = net.device, [scan(i, points) for i in range(rooms)]
    cold, warm, seen = [], [], 0
    stages: dict[str, list[float]] = {name: [] for name in (*stages_of(net), REST)}
    for number in range(rounds + 1):
        for xyz, rgb in scans:
            start = clock(device)
            scene = net.encode(xyz, rgb)
            net.ground(scene, [sentence(seen)])
            middle = clock(device)
            net.ground(scene, [sentence(seen + 1)])
            end = clock(device)
            with watch(stages_of(net), device) as spent:
                begun = clock(device)
                net.ground(net.encode(xyz, rgb), [sentence(seen + 2)])
                total = clock(device) - begun
            seen += 3
            if progress:
                progress()
            if number:  # the first round warms up
                cold.append((middle - start) * 1000)
                warm.append((end - middle) * 1000)
                for name, seconds in spent.items():
                    stages[name].append(seconds * 1000)
                stages[REST].append((total - sum(spent.values())) * 1000)
    return ModelTimes(
        points, Timing(tuple(cold)), Timing(tuple(warm)), {name: Timing(tuple(ms)) for name, ms in stages.items()}
    )
