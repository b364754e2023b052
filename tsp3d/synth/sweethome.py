"""Furniture of the Sweet Home 3D libraries (``.sh3f``): catalogue, OBJ models, classes.

The libraries come with Debian's package ``sweethome3d-furniture`` and from the Sweet Home 3D project; they are read
where the user has them and never shipped. A prepared library (decimated, coloured per face) is cached as one ``.npz``.
"""

from __future__ import annotations

import hashlib
import io
import logging
import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsp3d.synth.mesh import Mesh, Surface

log = logging.getLogger(__name__)

MAX_FACES = 3500
CACHE_VERSION = 3

_SKIP_CATEGORIES = {"Exterior", "Vehicles", "Characters", "Staircases"}
# (category pattern, name pattern, class); the first match decides, "" leaves the model out.
_RULES: tuple[tuple[str, str, str], ...] = (
    (".", r"children|child chair|baby|hospital|mezzanine|bunk|crib|class seat|corner cabinet", ""),
    (".", r"corner bath|armchair ottoman", ""),
    ("Office", r"^(armchair|chair)$", "office chair"),
    (".", r"armchair|winchester armchair", "armchair"),
    (".", r"stool|bar chair|puff", "stool"),
    (".", r"abdominal|workbench", ""),
    (".", r"bench$", "bench"),
    (".", r"\bchair|ryokan chair", "chair"),
    (".", r"opened convertible", ""),
    (".", r"sofa|couch", "sofa"),
    (".", r"coffee table", "coffee table"),
    (".", r"bedside table|nightstand", "nightstand"),
    (".", r"air mattress|futon$|day bed|^bedside|remote control", ""),
    ("Bedroom", r"\bbed$", "bed"),
    (".", r"desk lamp|^lamp$|little lamp|pedestal vase lamp", "lamp"),
    (".", r"pendant lamp|hanging light|chandelier", "lamp:ceiling"),
    (".", r"technical table|table tennis|football table|pool table|bar table", ""),
    (".", r"dressing table|changing table|trestles", ""),
    (".", r"desk( table)?$|wooden desk", "desk"),
    (".", r"table$|table with tablecloth", "table"),
    (".", r"bookcase|shelves$|vertical shelves", "bookshelf"),
    (".", r"wardrobe", "wardrobe"),
    (".", r"dresser|chest of drawers", "dresser"),
    ("Kitchen", r"upper|hood|glass door|high cabinet|island|small lower cabinet", ""),
    ("Kitchen", r"sink", "sink:kitchen"),
    ("Kitchen", r"cabinet", "kitchen cabinet"),
    (".", r"filing cabinet|cupboard|tv stand", "cabinet"),
    ("Bathroom", r"washbasin|vanity$", "sink"),
    ("Bathroom", r"^bath$|bathtub|island bath", "bathtub"),
    ("Bathroom", r"shower stall", "shower"),
    ("Bathroom", r"toilet.* unit|toilets unit", "toilet"),
    ("Miscellaneous", r"radiator", "radiator"),
    ("Living room", r"wall flat tv", "tv:wall"),
    ("Living room", r"^tv|flat tv", "tv"),
    ("Office", r"laptop|ibook|notebook", "laptop"),
    ("Office", r"imac|screen", "monitor"),
    (".", r"fridge|refrigerator", "refrigerator"),
    ("Kitchen", r"microwave", "microwave"),
    ("Kitchen", r"toaster|small oven", ""),
    ("Kitchen", r"^oven|double oven|large stove|propane stove", "oven"),
    (".", r"clothes washing machine|^washing machine|dryer machine", "washing machine"),
    ("Living room", r"plant|yucca|ficus|spathiphyllum|orchids|lily|bonsai|flowers|tulips|cactus|bamboo", "plant"),
    ("Miscellaneous", r"cardboard box|^crate$|^box$", "box"),
    (".", r"handbag|backpack|briefcase|suitcase", "bag"),
    (".", r"dustbin|trash can|recycling bin", "trash can"),
    (".", r"oriental rug|round carpet|carpet", "rug"),
    ("Miscellaneous", r"^vase", "vase"),
    ("Kitchen", r"wine bottle|beer bottle", "bottle"),
    ("Living room", r"upright piano", "piano"),
    ("Living room", r"fireplace", "fireplace"),
    ("Miscellaneous", r"^curtain$", "curtain"),
    ("Bathroom|Kitchen|Office|Living room|Bedroom|Miscellaneous",
     r"bowl|cup|mixer|coffee|toaster|basket|teddy|shoes|sneakers|phone|radio|speaker|printer|stereo|fan$|teapot|fruits|toy"
     r"|apples|bread|pot$|kettle|jar|helmet|ball$|penbox|letter tray|folded clothes|aquarium|doll", "clutter"),
)  # fmt: skip
# Plausible largest extents (metres) of a class; models beyond them are left out.
_LARGEST: dict[str, float] = {
    "chair": 1.25, "stool": 1.2, "plant": 1.6, "box": 1.05, "table": 2.4, "desk": 2.0, "bookshelf": 2.3, "clutter": 0.6,
    "oven": 1.15, "sink": 1.3, "radiator": 1.5, "armchair": 1.3, "sofa": 3.0,
}  # fmt: skip


@dataclass(frozen=True)
class LibraryModel:
    """One model of a furniture library, prepared for use."""

    name: str
    """``"<library>/<model>"``."""
    key: str
    """Class, with a variant after a colon for some (``"lamp:ceiling"``), or ``"clutter"``."""
    mesh: Mesh
    """In the model's own frame, at the catalogue's size."""
    groups: NDArray[np.uint8]
    """(F,) rank of each face's material by area; 0 is the largest."""
    elevation: float


def is_validation(model: str) -> bool:
    """Whether a library model belongs to the validation split (about one in five, by its name's hash)."""
    return int(hashlib.sha1(model.encode()).hexdigest(), 16) % 5 == 0


def classify(category: str, name: str) -> str:
    """Class of a catalogue entry, or "" where it is of no use indoors."""
    if category in _SKIP_CATEGORIES:
        return ""
    for category_pattern, name_pattern, key in _RULES:
        if re.search(category_pattern, category) and re.search(name_pattern, name.lower()):
            return key
    return ""


def find_libraries(folder: Path | None) -> list[Path]:
    """The ``.sh3f`` files under ``folder``, or under the usual places of an installation."""
    places = [folder] if folder else [Path("/usr/share/sweethome3d"), Path("~/.eteks/sweethome3d").expanduser()]
    return sorted({path for place in places if place.is_dir() for path in place.rglob("*.sh3f")})


def read_catalogue(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    """Entries of a library's catalogue as dicts of its fields."""
    entries: dict[int, dict[str, str]] = {}
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    for line in text.splitlines():
        match = re.match(r"^(\w+)#(\d+)\s*=\s*(.*)$", line.strip())
        if match:
            entries.setdefault(int(match[2]), {})[match[1]] = match[3]
    return [entries[index] for index in sorted(entries)]


def _texture_or_color(
    archive: zipfile.ZipFile, folder: str, path: str, names: dict[str, str]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.uint8] | None, float]]:
    """Materials of an MTL file: diffuse colour 0..255, texture (H, W, 3) or None, opacity."""
    from PIL import Image

    materials: dict[str, tuple[NDArray[np.float64], NDArray[np.uint8] | None, float]] = {}
    current = ""
    real = names.get(path.lower())
    for line in archive.read(real).decode("latin-1").splitlines() if real else []:
        words = line.split()
        if not words:
            continue
        if words[0] == "newmtl":
            current = " ".join(words[1:])
            materials[current] = (np.full(3, 180.0), None, 1.0)
        elif words[0] == "Kd" and current:
            materials[current] = (np.array([float(w) for w in words[1:4]]) * 255, *materials[current][1:])
        elif words[0] == "d" and current:
            materials[current] = (*materials[current][:2], float(words[-1]))
        elif words[0] == "map_Kd" and current:
            file = names.get(posixpath.normpath(posixpath.join(folder, words[-1])).lower())
            if file:
                image = Image.open(io.BytesIO(archive.read(file))).convert("RGB")
                image.thumbnail((128, 128))
                materials[current] = (materials[current][0], np.asarray(image), materials[current][2])
    return materials


def read_obj(archive: zipfile.ZipFile, path: str, names: dict[str, str]) -> tuple[Mesh, NDArray[np.uint8]] | None:
    """An OBJ model as a mesh (z up, facing -y, in the file's unit) with its faces' material ranks; None if empty."""
    folder = posixpath.dirname(path)
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    face_uvs: list[tuple[int, int, int]] = []
    face_materials: list[int] = []
    material_names: list[str] = [""]
    current = 0
    materials: dict[str, tuple[NDArray[np.float64], NDArray[np.uint8] | None, float]] = {}
    for line in archive.read(names[path.lower()]).decode("latin-1").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == "vt":
            uvs.append([float(w) for w in words[1:3]])
        elif words[0] == "mtllib":
            mtl = posixpath.normpath(posixpath.join(folder, " ".join(words[1:])))
            materials.update(_texture_or_color(archive, folder, mtl, names))
        elif words[0] == "usemtl":
            name = " ".join(words[1:])
            if name not in material_names:
                material_names.append(name)
            current = material_names.index(name)
        elif words[0] == "f":
            corners = [word.split("/") for word in words[1:]]
            v = [int(c[0]) - 1 if int(c[0]) > 0 else len(vertices) + int(c[0]) for c in corners]
            t = [int(c[1]) - 1 if len(c) > 1 and c[1] else -1 for c in corners]
            for k in range(1, len(v) - 1):
                faces.append((v[0], v[k], v[k + 1]))
                face_uvs.append((t[0], t[k], t[k + 1]))
                face_materials.append(current)
    if not faces:
        return None
    points = np.array(vertices)[:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0])
    triangles, material = np.array(faces), np.array(face_materials)
    colors = np.full((len(faces), 3), 180.0)
    surfaces = np.full(len(faces), Surface.PLAIN, dtype=np.uint8)
    uv_index = np.array(face_uvs)
    for index, name in enumerate(material_names):
        chosen = material == index
        if name not in materials or not chosen.any():
            continue
        diffuse, texture, opacity = materials[name]
        colors[chosen] = diffuse
        if texture is not None and uvs and (uv_index[chosen] >= 0).all():
            middle = np.array(uvs)[uv_index[chosen]].mean(axis=1) % 1.0
            high, wide = texture.shape[:2]
            u = (middle[:, 0] * (wide - 1)).astype(int)
            v = ((1 - middle[:, 1]) * (high - 1)).astype(int)
            # Faces far larger than the texture's detail are better served by its mean.
            colors[chosen] = 0.5 * texture[v, u] + 0.5 * texture.reshape(-1, 3).mean(axis=0)
        if opacity < 0.7:
            surfaces[chosen] = Surface.GLASS
    mesh = Mesh(
        points.astype(np.float32), triangles.astype(np.int32), np.clip(colors, 0, 255).astype(np.uint8), surfaces
    )
    areas = np.bincount(material, weights=mesh.areas(), minlength=len(material_names))
    rank = np.argsort(np.argsort(-areas))
    return mesh, np.minimum(rank[material], 255).astype(np.uint8)


def decimate(mesh: Mesh, groups: NDArray[np.uint8], limit: int) -> tuple[Mesh, NDArray[np.uint8]]:
    """At most about ``limit`` faces; colours and groups are taken from the nearest original face."""
    if len(mesh.faces) <= limit:
        return mesh, groups
    from scipy.spatial import KDTree

    keys, first, inverse = np.unique(np.round(mesh.vertices / 1e-4), axis=0, return_index=True, return_inverse=True)
    del keys
    points, triangles = mesh.vertices[first], inverse.reshape(-1)[mesh.faces]
    triangles = triangles[
        (triangles[:, 0] != triangles[:, 1])
        & (triangles[:, 1] != triangles[:, 2])
        & (triangles[:, 0] != triangles[:, 2])
    ]
    try:
        import fast_simplification

        simplified = fast_simplification.simplify(
            points.astype(np.float32),  # pyright: ignore[reportArgumentType]
            triangles.astype(np.int32),
            target_count=limit,
            agg=5,
        )
        points, triangles = simplified[0], simplified[1]
    except ImportError:
        # Without the library: snap vertices to an ever coarser grid.
        cell = float(np.ptp(points, axis=0).max()) / 150
        while len(triangles) > limit:
            _, index, back = np.unique(np.round(points / cell), axis=0, return_index=True, return_inverse=True)
            points, triangles = points[index], back.reshape(-1)[triangles]
            flat = (triangles[:, 0] == triangles[:, 1]) | (triangles[:, 1] == triangles[:, 2])
            triangles = triangles[~(flat | (triangles[:, 0] == triangles[:, 2]))]
            cell *= 1.4
    tree = KDTree(mesh.vertices[mesh.faces].mean(axis=1))
    nearest = tree.query(points[triangles].mean(axis=1))[1]
    slim = Mesh(points.astype(np.float32), triangles.astype(np.int32), mesh.colors[nearest], mesh.surfaces[nearest])
    return slim, groups[nearest]


def _prepare(
    archive: zipfile.ZipFile, entry: dict[str, str], key: str, library: str, names: dict[str, str]
) -> LibraryModel | None:
    path = entry["model"].lstrip("/")
    read = read_obj(archive, path, names)
    if read is None:
        return None
    mesh, groups = read
    if "modelRotation" in entry:
        # The catalogue's matrix turns the model in its own y-up frame.
        rows = np.array([float(w) for w in entry["modelRotation"].split()]).reshape(3, 3)
        y_up = mesh.vertices[:, [0, 2, 1]] * np.array([1, 1, -1], dtype=np.float32)
        turned = y_up @ rows.T.astype(np.float32)
        mesh = Mesh(
            (turned[:, [0, 2, 1]] * np.array([1, -1, 1])).astype(np.float32), mesh.faces, mesh.colors, mesh.surfaces
        )
    size = np.array([float(entry[field]) / 100 for field in ("width", "depth", "height")])
    used = mesh.vertices[np.unique(mesh.faces)]
    low, high = used.min(axis=0), used.max(axis=0)
    scale = size / np.maximum(high - low, 1e-6)
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    mesh = Mesh(((mesh.vertices - middle) * scale).astype(np.float32), mesh.faces, mesh.colors, mesh.surfaces)
    mesh, groups = decimate(mesh, groups, MAX_FACES)
    if len(mesh.faces) > 3 * MAX_FACES or len(mesh.faces) == 0:
        return None
    return LibraryModel(f"{library}/{Path(path).stem}", key, mesh, groups, float(entry.get("elevation") or 0) / 100)


def read_library(path: Path) -> Iterator[LibraryModel]:
    """The useful models of one ``.sh3f`` file, prepared. Raises FileNotFoundError or zipfile.BadZipFile."""
    with zipfile.ZipFile(path) as archive:
        names = {name.lower(): name for name in archive.namelist()}
        for entry in read_catalogue(archive):
            if entry.get("doorOrWindow") == "true" or "model" not in entry:
                continue
            key = classify(entry.get("category", ""), entry.get("name", ""))
            size = max(float(entry[field]) / 100 for field in ("width", "depth", "height"))
            small = key == "clutter" and size < 0.1
            if not key or small or size > _LARGEST.get(key, 3.0):
                continue
            try:
                model = _prepare(archive, entry, key, path.stem, names)
            except (ValueError, KeyError, IndexError, OSError) as error:
                log.warning("%s: model %s left out: %s", path.name, entry["model"], error)
                continue
            if model is not None:
                yield model


def load_libraries(paths: list[Path], cache: Path) -> list[LibraryModel]:
    """All useful models of the libraries, from the cache folder where they were prepared before."""
    if not paths:
        return []
    stamp = hashlib.sha1(
        repr([(p.name, p.stat().st_size) for p in paths] + [CACHE_VERSION, MAX_FACES, _RULES]).encode()
    )
    file = cache / f"sweethome-{stamp.hexdigest()[:12]}.npz"
    if not file.exists():
        log.info("preparing furniture of %s (once)", ", ".join(path.name for path in paths))
        models = [model for path in paths for model in read_library(path)]
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{np.random.default_rng().integers(1 << 30)}.tmp.npz")
        np.savez(
            partial,
            names=np.array([m.name for m in models]),
            keys=np.array([m.key for m in models]),
            elevations=np.array([m.elevation for m in models]),
            vertex_counts=np.array([len(m.mesh.vertices) for m in models]),
            face_counts=np.array([len(m.mesh.faces) for m in models]),
            vertices=np.concatenate([m.mesh.vertices for m in models]),
            faces=np.concatenate([m.mesh.faces for m in models]),
            colors=np.concatenate([m.mesh.colors for m in models]),
            surfaces=np.concatenate([m.mesh.surfaces for m in models]),
            groups=np.concatenate([m.groups for m in models]),
        )
        partial.replace(file)
    data = np.load(file, allow_pickle=False)
    ends_v, ends_f = np.cumsum(data["vertex_counts"]), np.cumsum(data["face_counts"])
    names, keys, elevations = data["names"], data["keys"], data["elevations"]
    parts = [np.split(data[field], ends_v[:-1]) for field in ("vertices",)]
    parts += [np.split(data[field], ends_f[:-1]) for field in ("faces", "colors", "surfaces", "groups")]
    return [
        LibraryModel(
            str(names[i]), str(keys[i]), Mesh(*(part[i] for part in parts[:4])), parts[4][i], float(elevations[i])
        )
        for i in range(len(names))
    ]
