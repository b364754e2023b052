"""Generate the demo's scan again: a furnished room, scanned virtually, with three sentences and their true boxes.

python tools/make_demo_scan.py            # writes tsp3d/demo/room.npz and sentences.json
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from tsp3d.io.write import replacing
from tsp3d.results import write_json
from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.scene import SynthScene, generate_scene

FOLDER = Path(__file__).resolve().parent.parent / "tsp3d" / "demo"
SENTENCES = (
    ("the red chair in front of the whiteboard", 13, "chair"),
    ("the blue office chair next to the beige desk", 9, "office chair"),
    ("the lamp on the brown cabinet", 25, "lamp"),
)
"""What the demo asks for, the object meant, and its class as a check that the generator still makes the same room."""


@dataclass
class Options:
    """Write the bundled demo scan. Only parametric furniture is used, so that no one's licence is involved."""

    out: Path = FOLDER
    """Folder to write to."""
    seed: int = 4242
    """Seed of the room; training uses others."""
    index: int = 1
    """Number of the room under that seed."""
    kind: str = "office"
    """Kind of room."""
    points: int = 100_000
    """Points to keep."""
    list_objects: bool = False
    """Print the room's objects and write nothing."""


def pack(scene: SynthScene) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) int16 in millimetres and colours (N, 3) uint8, in an order that compresses well."""
    xyz = np.round(scene.xyz * 1000).astype(np.int16)
    order = np.lexsort((xyz[:, 0], xyz[:, 1] // 20, xyz[:, 2] // 20))
    return xyz[order], scene.rgb[order]


def main(options: Options) -> int:
    """Generate, check and write; the exit code."""
    scene = generate_scene(AssetLibrary("val"), options.seed, options.index, options.points, options.kind)
    objects = {item.id: item for item in scene.description.objects}
    if options.list_objects:
        for item in objects.values():
            print(item.id, item.name, item.color, item.material, np.round(item.box, 2).tolist(), item.support)
        return 0
    wrong = [text for text, target, name in SENTENCES if target not in objects or objects[target].name != name]
    if wrong:
        print(f"error: the room has changed; choose targets again for {wrong} (--list-objects)", file=sys.stderr)
        return 1
    xyz, rgb = pack(scene)
    with replacing(options.out / "room.npz") as temporary:
        np.savez_compressed(temporary, xyz=xyz, rgb=rgb)
    truth = [{"text": text, "box": list(objects[target].box)} for text, target, _ in SENTENCES]
    generator = {"seed": options.seed, "index": options.index, "kind": options.kind, "points": options.points}
    write_json(options.out / "sentences.json", {"unit": "m", "generator": generator, "sentences": truth})
    print(f"{options.out}/room.npz: {len(xyz)} points, {(options.out / 'room.npz').stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
