"""Meshes through trimesh: OBJ, GLB, GLTF, STL, OFF; their surface is sampled with its colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError
from tsp3d.io.surface import SAMPLES, spread_over_faces

if TYPE_CHECKING:
    import trimesh

GREY = 160


def read_mesh(path: Path) -> Iterator[Chunk]:
    """Points on all the file's surfaces (or its bare points), coloured by texture, vertex colour or material."""
    import trimesh  # half a second, that other formats need not wait for

    scene = trimesh.load_scene(str(path), process=False)
    parts = scene.dump(concatenate=False)
    parts = parts if isinstance(parts, list) else [parts]
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    clouds = [part for part in parts if isinstance(part, trimesh.PointCloud) and len(part.vertices)]
    loose = [part for part in parts if isinstance(part, trimesh.Trimesh) and not len(part.faces) and len(part.vertices)]
    if not meshes:
        if not clouds and not loose:
            raise ScanError(f"{path}: holds neither faces nor points; export the mesh with its geometry")
        for part in clouds or loose:
            yield Chunk(np.asarray(part.vertices), _point_colours(part))
        return
    areas = np.array([float(np.nan_to_num(mesh.area_faces, posinf=0.0).sum()) for mesh in meshes])
    if areas.sum() <= 0:
        raise ScanError(f"{path}: the mesh has no face with an area; export it with faces, or as points")
    coloured = any(_has_colour(mesh) for mesh in meshes)
    for mesh, area in zip(meshes, areas, strict=True):
        count = round(SAMPLES * area / areas.sum())
        if count:
            triangles = np.asarray(mesh.faces, dtype=np.int64)
            face, weights, xyz = spread_over_faces(np.asarray(mesh.vertices), triangles, count, str(path))
            yield Chunk(xyz, _surface_colours(mesh, face, weights) if coloured else None)


def _point_colours(cloud: trimesh.PointCloud | trimesh.Trimesh) -> np.ndarray | None:
    colours = getattr(cloud.visual, "vertex_colors", None) if hasattr(cloud, "visual") else None
    if colours is None or len(colours) != len(cloud.vertices) or getattr(cloud.visual, "kind", "vertex") is None:
        return None
    return np.asarray(colours)[:, :3]


def _visual(mesh: trimesh.Trimesh) -> Any:
    return mesh.visual  # one of several classes, told apart by `kind`


def _has_colour(mesh: trimesh.Trimesh) -> bool:
    kind = _visual(mesh).kind
    if kind == "texture":
        material = getattr(mesh.visual, "material", None)
        return _image(mesh) is not None or _flat_colour(material) is not None
    return kind is not None


def _image(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """The texture as (H, W, 3) uint8, if there is one with coordinates for each vertex."""
    material, uv = getattr(mesh.visual, "material", None), getattr(mesh.visual, "uv", None)
    if uv is None or len(uv) != len(mesh.vertices):
        return None
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    return None if image is None else np.asarray(image.convert("RGB"))


def _flat_colour(material: object) -> np.ndarray | None:
    """The material's base colour (3,) uint8, if it names one."""
    for name in ("baseColorFactor", "diffuse"):
        value = getattr(material, name, None)
        if value is not None and len(value) >= 3:
            colour = np.asarray(value, dtype=np.float64)[:3]
            scale = 255.0 if np.asarray(value).dtype.kind == "f" and colour.max() <= 1.0 else 1.0
            return np.clip(np.round(colour * scale), 0, 255).astype(np.uint8)
    return None


def _surface_colours(mesh: trimesh.Trimesh, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Colours (P, 3) uint8 of places on the faces; grey where the part has none."""
    visual = _visual(mesh)
    if visual.kind == "texture":
        image = _image(mesh)
        if image is not None:
            uv = np.einsum("pc,pcd->pd", weights, np.asarray(visual.uv)[mesh.faces[face]])[:, :2]
            uv = np.nan_to_num(uv) % 1.0
            column = np.minimum((uv[:, 0] * image.shape[1]).astype(int), image.shape[1] - 1)
            row = np.minimum(((1 - uv[:, 1]) * image.shape[0]).astype(int), image.shape[0] - 1)
            return image[row, column]
        flat = _flat_colour(getattr(visual, "material", None))
        return np.tile(flat if flat is not None else np.uint8(GREY), (len(face), 1 if flat is not None else 3))
    if visual.kind == "vertex":
        corner = np.asarray(visual.vertex_colors, dtype=np.float64)[mesh.faces[face]][:, :, :3]
        return np.round(np.einsum("pc,pcd->pd", weights, corner)).astype(np.uint8)
    if visual.kind == "face":
        return np.asarray(visual.face_colors)[face, :3].astype(np.uint8)
    return np.full((len(face), 3), GREY, dtype=np.uint8)
