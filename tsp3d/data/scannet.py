"""One scene of a ScanNet download: its mesh's vertices, aligned, with the objects that were annotated on them.

Files of a scene's folder (http://www.scan-net.org, "Data Organization")::

    <id>_vh_clean_2.ply                     vertices with colour
    <id>_vh_clean_2.labels.ply              the same vertices with their NYU40 label
    <id>_vh_clean_2.0.010000.segs.json      "segIndices": the segment of each vertex
    <id>.aggregation.json                   "segGroups": objectId, label and segments of each object
    <id>.txt                                "axisAlignment": a 4×4 matrix, row by row
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from plyfile import PlyData, PlyParseError

NYU40: tuple[str, ...] = (
    "unannotated", "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes",
    "ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard",
    "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture",
    "otherprop",
)  # fmt: skip
"""Names of the NYU40 labels 0 to 40, in the spelling of ScanNet's own table."""


class SceneError(ValueError):
    """A scene cannot be prepared; the message says which file, why, and what to do."""


@dataclass(frozen=True)
class ScannetObject:
    """An annotated object."""

    id: int
    """``objectId``, which ScanRefer, ReferIt3D and Multi3DRefer mean too."""
    label: str
    """Raw category, in lower case with single blanks."""
    nyu40: str
    """NYU40 name of most of its vertices, "" where the labels are missing."""
    vertices: np.ndarray
    """(n,) int64 rows of its vertices, ascending."""


@dataclass(frozen=True)
class ScannetScene:
    """Vertices in the aligned frame (metres, z up) and the objects on them."""

    scene_id: str
    xyz: np.ndarray
    """(N, 3) float64."""
    rgb: np.ndarray
    """(N, 3) uint8."""
    objects: list[ScannetObject]
    """By id; objects without any vertex are left out."""
    notes: tuple[str, ...] = ()
    """What is odd but usable."""


def find_scenes(scans: Path) -> list[Path]:
    """Folders of scenes (``scene0000_00`` and so on) in ``scans`` or in its folder ``scans``, by name.

    Raises:
        FileNotFoundError: none there.
    """
    for place in (scans, scans / "scans"):
        found = sorted(path for path in place.glob("scene*_*") if path.is_dir()) if place.is_dir() else []
        if found:
            return found
    raise FileNotFoundError(
        f"{scans} has no folders scene0000_00, scene0000_01 …: give the folder 'scans' of a ScanNet download"
    )


def read_scene(folder: Path) -> ScannetScene:
    """Read a scene.

    Raises:
        SceneError: a file is missing, damaged, or disagrees with another one.
    """
    scene = folder.name
    mesh = folder / f"{scene}_vh_clean_2.ply"
    vertices = _vertices(mesh)
    xyz = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float64)
    if not len(xyz):
        raise SceneError(f"{mesh.name} has no vertices; download it again")
    if not np.isfinite(xyz).all():
        raise SceneError(f"{mesh.name} has {int((~np.isfinite(xyz)).any(1).sum())} vertices that are not finite")
    if not {"red", "green", "blue"} <= set(vertices.dtype.names or ()):
        raise SceneError(f"{mesh.name} has no colours (red, green, blue); take the file of ScanNet's own download")
    rgb = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1).astype(np.uint8)
    matrix, notes = _alignment(folder / f"{scene}.txt")
    xyz = xyz @ matrix[:3, :3].T + matrix[:3, 3]
    labels = _labels(folder / f"{scene}_vh_clean_2.labels.ply", len(xyz))
    if labels is None:
        notes += ("no labels.ply: objects have no NYU40 class",)
    segments = _segments(folder / f"{scene}_vh_clean_2.0.010000.segs.json", len(xyz))
    objects, empty = _objects(_aggregation(folder, scene), segments, labels)
    if empty:
        notes += (f"objects without vertices are left out: {empty}",)
    return ScannetScene(scene, xyz, rgb, objects, notes)


def box_of(xyz: np.ndarray) -> list[float]:
    """Axis-aligned extents of points (n, 3): centre and full size."""
    lower, upper = xyz.min(0), xyz.max(0)
    return [float(value) for value in np.concatenate([(lower + upper) / 2, upper - lower])]


# Files -------------------------------------------------------------------------------------------------------------


def _vertices(path: Path) -> np.ndarray:
    if not path.is_file():
        raise SceneError(
            f"{path.name} is missing; download it (download-scannet.py --type _{path.name.split('_', 2)[2]})"
        )
    try:
        return PlyData.read(str(path), known_list_len={"face": {"vertex_indices": 3}})["vertex"].data
    except (PlyParseError, KeyError, ValueError, EOFError, OSError, UnicodeDecodeError) as error:
        raise SceneError(f"{path.name} cannot be read ({' '.join(str(error).split())}); download it again") from error


def _labels(path: Path, count: int) -> np.ndarray | None:
    """NYU40 label of each vertex (N,), or None where the file is missing."""
    if not path.is_file():
        return None
    vertices = _vertices(path)
    if "label" not in (vertices.dtype.names or ()):
        raise SceneError(f"{path.name} has no property 'label' on its vertices; download it again")
    if len(vertices) != count:
        raise SceneError(f"{path.name} has {len(vertices)} vertices, but the mesh has {count}; download both again")
    return np.clip(vertices["label"].astype(np.int64), 0, len(NYU40) - 1)


def _alignment(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    if not path.is_file():
        raise SceneError(f"{path.name} is missing, and with it the axis alignment; download it (--type .txt)")
    for line in path.read_text(errors="replace").splitlines():
        name, _, values = line.partition("=")
        if name.strip() == "axisAlignment":
            try:
                matrix = np.array([float(value) for value in values.split()]).reshape(4, 4)
            except ValueError as error:
                raise SceneError(f"{path.name}: axisAlignment is not 16 numbers ({values.strip()[:60]!r})") from error
            turn = matrix[:3, :3]
            if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-2) or not np.allclose(matrix[3], [0, 0, 0, 1]):
                raise SceneError(f"{path.name}: axisAlignment is not a rigid motion; download it again")
            return matrix, ()
    return np.eye(4), ("no axisAlignment: the scene keeps its own frame",)


def _json(path: Path, key: str, kind: str) -> Any:
    if not path.is_file():
        raise SceneError(f"{path.name} is missing; download it (--type {kind})")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{path.name} is not JSON ({error}); download it again") from error
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise SceneError(f"{path.name} has no list {key!r}; download it again")
    return content[key]


def _segments(path: Path, count: int) -> np.ndarray:
    segments = np.asarray(_json(path, "segIndices", "_vh_clean_2.0.010000.segs.json"))
    if segments.shape != (count,) or segments.dtype.kind != "i":
        raise SceneError(
            f"{path.name} has {len(segments)} segIndices, but the mesh has {count} vertices; download both"
        )
    return segments.astype(np.int64)


def _aggregation(folder: Path, scene: str) -> list[dict[str, Any]]:
    path = folder / f"{scene}.aggregation.json"
    if not path.is_file() and (folder / f"{scene}_vh_clean.aggregation.json").is_file():
        raise SceneError(
            f"{path.name} is missing; _vh_clean.aggregation.json belongs to the finer mesh (--type .aggregation.json)"
        )
    groups = _json(path, "segGroups", ".aggregation.json")
    for number, group in enumerate(groups):
        lacking = [key for key in ("objectId", "label", "segments") if key not in group]
        if lacking:
            raise SceneError(f"{path.name}: segGroups[{number}] has no {lacking}; download it again")
    ids = [int(group["objectId"]) for group in groups]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise SceneError(f"{path.name}: objectId {twice} is given to several objects; download it again")
    return sorted(groups, key=lambda group: int(group["objectId"]))


def _objects(
    groups: list[dict[str, Any]], segments: np.ndarray, labels: np.ndarray | None
) -> tuple[list[ScannetObject], list[int]]:
    """-> objects with vertices, and the ids of those without."""
    order = np.argsort(segments, kind="stable")
    ordered = segments[order]
    objects, empty = [], []
    for group in groups:
        wanted = np.unique(np.asarray(group["segments"], dtype=np.int64))
        starts, ends = np.searchsorted(ordered, wanted), np.searchsorted(ordered, wanted, side="right")
        rows = [order[start:end] for start, end in zip(starts, ends, strict=True)]
        vertices = np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)
        if not len(vertices):
            empty.append(int(group["objectId"]))
            continue
        nyu40 = "" if labels is None else NYU40[int(np.bincount(labels[vertices]).argmax())]
        label = " ".join(str(group["label"]).lower().replace("_", " ").split())
        objects.append(ScannetObject(int(group["objectId"]), label, nyu40, vertices))
    return objects, empty
