"""A small room, and the same room in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from plyfile import PlyData, PlyElement

Writer = Callable[[Path, np.ndarray, "np.ndarray | None"], None]


def room_points(count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) float64 of floor, two walls and a table in a 4 × 3 × 2.4 m room, colours (N, 3) uint8."""
    rng = np.random.default_rng(3)
    u, v = rng.random(count), rng.random(count)
    part = np.arange(count) % 4
    zero = np.zeros(count)
    xyz = np.select(
        [(part == i)[:, None] for i in range(4)],
        [
            np.stack([4 * u, 3 * v, zero], 1),
            np.stack([4 * u, zero, 2.4 * v], 1),
            np.stack([zero, 3 * u, 2.4 * v], 1),
            np.stack([1 + u, 1 + v, zero + 0.75], 1),
        ],
    )
    rgb = np.array([[90, 80, 70], [220, 220, 210], [200, 210, 220], [150, 90, 40]], dtype=np.uint8)[part]
    return np.round(xyz, 4), rgb


def write_ply(path: Path, xyz: np.ndarray, rgb: np.ndarray | None, text: bool = False) -> None:
    fields = [(axis, "f8") for axis in "xyz"] + (
        [(c, "u1") for c in ("red", "green", "blue")] if rgb is not None else []
    )
    table = np.empty(len(xyz), dtype=fields)
    for column, axis in enumerate("xyz"):
        table[axis] = xyz[:, column]
    if rgb is not None:
        for column, name in enumerate(("red", "green", "blue")):
            table[name] = rgb[:, column]
    PlyData([PlyElement.describe(table, "vertex")], text=text).write(str(path))


def write_pcd(path: Path, xyz: np.ndarray, rgb: np.ndarray | None) -> None:
    lines = ["# .PCD v0.7", "VERSION 0.7"]
    if rgb is None:
        lines += ["FIELDS x y z", "SIZE 4 4 4", "TYPE F F F", "COUNT 1 1 1"]
        rows = [" ".join(f"{v:.6g}" for v in point) for point in xyz]
    else:
        lines += ["FIELDS x y z rgb", "SIZE 4 4 4 4", "TYPE F F F U", "COUNT 1 1 1 1"]
        packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
        rows = [" ".join(f"{v:.6g}" for v in point) + f" {colour}" for point, colour in zip(xyz, packed, strict=True)]
    lines += [f"WIDTH {len(xyz)}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {len(xyz)}", "DATA ascii", *rows]
    path.write_text("\n".join(lines) + "\n")


def write_columns(path: Path, xyz: np.ndarray, rgb: np.ndarray | None) -> None:
    table = xyz if rgb is None else np.hstack([xyz, rgb])
    np.savetxt(path, table, fmt="%.6g", delimiter="," if path.suffix == ".csv" else " ")


def write_npy(path: Path, xyz: np.ndarray, rgb: np.ndarray | None) -> None:
    np.save(path, xyz if rgb is None else np.hstack([xyz, rgb]))


def write_npz(path: Path, xyz: np.ndarray, rgb: np.ndarray | None) -> None:
    if rgb is None:
        np.savez(path, xyz=xyz)
    else:
        np.savez(path, xyz=xyz, rgb=rgb)


def write_las(path: Path, xyz: np.ndarray, rgb: np.ndarray | None) -> None:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=0 if rgb is None else 2, version="1.2")
    header.scales, header.offsets = [0.0001] * 3, [0.0] * 3
    data = laspy.LasData(header)
    data.x, data.y, data.z = xyz.T
    if rgb is not None:
        data.red, data.green, data.blue = rgb.astype(np.uint16).T * 257
    data.write(str(path))


def write_e57(path: Path, xyz: np.ndarray, rgb: np.ndarray | None) -> None:
    pye57 = pytest.importorskip("pye57")
    book = pye57.E57(str(path), mode="w")
    data = {f"cartesian{axis}": xyz[:, i].copy() for i, axis in enumerate("XYZ")}
    if rgb is not None:
        data |= {name: rgb[:, i].copy() for i, name in enumerate(("colorRed", "colorGreen", "colorBlue"))}
    book.write_scan_raw(data)
    book.close()


WRITERS: dict[str, Writer] = {
    ".ply": write_ply,
    ".pcd": write_pcd,
    ".xyz": write_columns,
    ".txt": write_columns,
    ".csv": write_columns,
    ".npy": write_npy,
    ".npz": write_npz,
    ".las": write_las,
    ".laz": write_las,
    ".e57": write_e57,
}
MESHES = (".obj", ".glb", ".gltf", ".stl", ".off", ".ply")


@pytest.fixture(scope="session")
def room() -> tuple[np.ndarray, np.ndarray]:
    return room_points()


@pytest.fixture(params=sorted(WRITERS))
def point_format(request: pytest.FixtureRequest) -> tuple[str, Writer]:
    return request.param, WRITERS[request.param]


@pytest.fixture(params=MESHES)
def mesh_suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def write_scan() -> Callable[..., Path]:
    """``write_scan(path, xyz, rgb=None)`` in the format of the path's extension."""

    def write(path: Path, xyz: np.ndarray, rgb: np.ndarray | None = None) -> Path:
        WRITERS[path.suffix](path, np.asarray(xyz, dtype=float), rgb)
        return path

    return write


@pytest.fixture(scope="session")
def table_mesh() -> trimesh.Trimesh:
    """A 2 × 1 × 0.8 m box with its floor at 0, z up, every corner red."""
    mesh = trimesh.creation.box(extents=(2.0, 1.0, 0.8))
    mesh.apply_translation((5.0, 3.0, 0.4))
    mesh.visual.vertex_colors = np.tile([200, 30, 30, 255], (8, 1))  # type: ignore[union-attr]
    return mesh
