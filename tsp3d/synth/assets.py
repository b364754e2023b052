"""Furniture for the room generator: library models and parametric ones behind one door, split for train and val."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsp3d.synth import (
    parametric_appliances,
    parametric_fixtures,
    parametric_seating,
    parametric_small,
    parametric_storage,
)
from tsp3d.synth.mesh import Mesh, Surface
from tsp3d.synth.parametric import Paint, Shelf, build_parametric, choose_paint, parametric_classes
from tsp3d.synth.sweethome import LibraryModel, find_libraries, is_validation, load_libraries

_REGISTERED = (parametric_appliances, parametric_fixtures, parametric_seating, parametric_small, parametric_storage)

FRONTLESS = frozenset(
    ("stool", "bench", "table", "coffee table", "lamp", "plant", "box", "bag", "trash can", "rug", "pillow", "vase")
    + ("books", "bottle", "curtain", "keyboard")
)
"""Classes without a front that a speaker would agree on."""

_KEEP_COLORS = frozenset(
    {"plant", "tv", "monitor", "laptop", "bottle", "piano", "picture", "clutter", "fireplace", "radiator"}
)
_SELDOM_PAINTED = frozenset(
    {"sink", "toilet", "bathtub", "shower", "oven", "microwave", "washing machine", "refrigerator"}
)


@dataclass(frozen=True)
class Design:
    """A model before its paint: a parametric seed or a library model, with its scale."""

    key: str
    seed: int = 0
    library: int = -1
    """Index of the library model, or -1 for a parametric one."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Asset:
    """One piece of furniture, ready to be placed (own frame: z up, on z = 0, centred, facing -y)."""

    key: str
    name: str
    """Its class, or "clutter"."""
    model: str
    mesh: Mesh
    color: str | None
    material: str | None
    shelves: tuple[Shelf, ...]
    elevation: float = 0.0

    @property
    def has_front(self) -> bool:
        """Whether its front is one that a speaker would agree on."""
        return self.name not in FRONTLESS


class AssetLibrary:
    """Chooses and builds furniture of one split.

    Args:
        split: "train" or "val"; the two never share a model.
        models: Prepared library models (of both splits; the other split's are ignored).
        library_share: How often a class that has library models uses one.
    """

    def __init__(self, split: str, models: list[LibraryModel] | None = None, library_share: float = 0.5) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"AssetLibrary: split is 'train' or 'val', not {split!r}")
        self.split = split
        self.library_share = library_share
        self._models = models or []
        self._by_key: dict[str, list[int]] = {}
        for index, model in enumerate(self._models):
            if is_validation(model.name) == (split == "val"):
                self._by_key.setdefault(model.key, []).append(index)
                if model.key == "plant" and max(model.mesh.size) < 0.5:
                    self._by_key.setdefault("plant:small", []).append(index)
        if "plant" in self._by_key:
            self._by_key["plant"] = [i for i in self._by_key["plant"] if self._models[i].mesh.size[2] >= 0.5]
        self._by_key = {key: indices for key, indices in self._by_key.items() if indices}
        self._parametric = set(parametric_classes())
        self._shelves: dict[int, tuple[Shelf, ...]] = {}

    @property
    def keys(self) -> set[str]:
        """Everything that ``design`` can choose from."""
        return self._parametric | set(self._by_key)

    def design(self, key: str, rng: np.random.Generator) -> Design:
        """A model of the class (or variant) ``key``. Raises KeyError where there is none."""
        available = self._by_key.get(key, [])
        use_library = bool(available) and (key not in self._parametric or rng.random() < self.library_share)
        seed = int(rng.integers(1 << 31))
        jitter = rng.uniform(0.92, 1.08, 3)
        if use_library:
            common = float(rng.uniform(0.95, 1.05))
            x, y, z = (common * jitter).tolist()
            return Design(key, seed, available[int(rng.integers(len(available)))], (x, y, z))
        if key not in self._parametric:
            raise KeyError(f"no furniture of class {key!r} in split {self.split!r}")
        return Design(key, seed)

    def make(
        self, design: Design, rng: np.random.Generator, avoid: str | None = None, paint: Paint | None = None
    ) -> Asset:
        """The design in a paint of its own: ``paint``, or one drawn that is not of the colour ``avoid``."""
        name = design.key.split(":")[0]
        if design.library >= 0:
            return self._from_library(design, name, rng, avoid, paint)
        paint = paint or choose_paint(design.key, rng, avoid)
        built = build_parametric(design.key, design.seed, self.split, paint)
        model = f"parametric/{design.key}/{built.style}"
        return Asset(design.key, name, model, built.mesh, paint.name, paint.material, built.shelves)

    def _from_library(
        self, design: Design, name: str, rng: np.random.Generator, avoid: str | None, paint: Paint | None
    ) -> Asset:
        model = self._models[design.library]
        mesh = model.mesh.scaled(design.scale)
        color: str | None = None
        material: str | None = None
        keep = 1.0 if name in _KEEP_COLORS else (0.75 if name in _SELDOM_PAINTED else 0.25)
        if (rng.random() >= keep or paint is not None) and name not in _KEEP_COLORS and design.key in self._parametric:
            paint = paint or choose_paint(design.key, rng, avoid)
            mesh = repaint(mesh, model.groups, paint)
            color, material = paint.name, paint.material
        sx, sy, sz = design.scale
        shelves = tuple(
            Shelf(s.x0 * sx, s.x1 * sx, s.y0 * sy, s.y1 * sy, s.z * sz, s.clear)
            for s in self._library_shelves(design.library)
        )
        return Asset(design.key, name, model.name, mesh, color, material, shelves, model.elevation)

    def _library_shelves(self, index: int) -> tuple[Shelf, ...]:
        if index not in self._shelves:
            shelf = top_shelf(self._models[index].mesh)
            self._shelves[index] = (shelf,) if shelf else ()
        return self._shelves[index]


def repaint(mesh: Mesh, groups: np.ndarray, paint: Paint) -> Mesh:
    """The mesh with its largest materials (at least half of its area) in the paint, their own light and dark kept."""
    areas = mesh.areas()
    by_group = np.bincount(groups, weights=areas)
    covered = np.cumsum(np.sort(by_group)[::-1]) / max(float(areas.sum()), 1e-9)
    order = np.argsort(-by_group)
    chosen = np.isin(groups, order[: int(np.searchsorted(covered, 0.6)) + 1]) & (mesh.surfaces != Surface.GLASS)
    if not chosen.any():
        return mesh
    light = mesh.colors.astype(np.float64).mean(axis=1)
    mean = max(float(np.average(light[chosen], weights=areas[chosen] + 1e-9)), 12.0)
    relief = np.clip(light / mean, 0.8, 1.18)
    colors, surfaces = mesh.colors.copy(), mesh.surfaces.copy()
    colors[chosen] = np.clip(np.array(paint.rgb) * relief[chosen, None], 4, 252).astype(np.uint8)
    surfaces[chosen] = paint.surface
    return Mesh(mesh.vertices, mesh.faces, colors, surfaces)


def top_shelf(mesh: Mesh) -> Shelf | None:
    """The largest level surface of a mesh that things can stand on, or None."""
    corners = mesh.vertices[mesh.faces]  # (F, 3, 3)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    level = np.abs(cross[:, 2]) > 0.95 * 2 * np.maximum(area, 1e-12)
    dx, dy, dz = mesh.size
    if not level.any() or dx * dy == 0:
        return None
    heights = corners[:, :, 2].mean(axis=1)
    bins = np.round(heights[level] / 0.02).astype(int)
    totals = np.bincount(np.maximum(bins, 0), weights=area[level])
    enough = np.flatnonzero(totals > 0.35 * dx * dy)
    if len(enough) == 0:
        return None
    best = int(enough[-1])
    z = best * 0.02
    inside = level & (np.abs(heights - z) < 0.025)
    points = corners[inside].reshape(-1, 3)
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    # What stands above the surface (a back, a hutch) narrows it.
    above = corners.reshape(-1, 3)
    above = above[above[:, 2] > z + 0.04]
    y1 = float(high[1])
    if len(above):
        behind = above[above[:, 1] > 0]
        if len(above) - len(behind) > 0.25 * len(above):
            return None
        if len(behind):
            y1 = min(y1, float(behind[:, 1].min()))
    z_top = float(points[:, 2].max())
    x0, x1, y0 = float(low[0]), float(high[0]), float(low[1])
    inset_x, inset_y = 0.06 * (x1 - x0), 0.08 * (y1 - y0)
    if x1 - x0 < 0.2 or y1 - y0 < 0.18 or z_top < 0.2:
        return None
    return Shelf(x0 + inset_x, x1 - inset_x, y0 + inset_y, y1 - inset_y, z_top)


def default_cache() -> Path:
    """The folder that prepared libraries are kept in (``TSP3D_CACHE`` or ``~/.cache/tsp3d``)."""
    return Path(os.environ.get("TSP3D_CACHE", "~/.cache/tsp3d")).expanduser()


def load_assets(folder: Path | None, cache: Path | None = None) -> list[LibraryModel]:
    """Prepared library models of ``folder`` (or of an installed Sweet Home 3D); an empty list where there are none.

    Raises:
        FileNotFoundError: ``folder`` was named but holds no ``.sh3f`` file.
    """
    paths = find_libraries(folder)
    if folder is not None and not paths:
        raise FileNotFoundError(
            f"{folder}: no .sh3f furniture library found; unpack Debian's sweethome3d-furniture there (dpkg -x), "
            "or leave --assets out"
        )
    return load_libraries(paths, cache or default_cache())
