"""The front door: a path in, a Scan out; and the scans of a folder or pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tsp3d.io.arrays import read_npy, read_npz
from tsp3d.io.cloud import MAX_POINTS, Chunk, explain
from tsp3d.io.errors import ScanError, printable
from tsp3d.io.frame import check_unit, check_up
from tsp3d.io.laser import read_e57, read_las
from tsp3d.io.mesh import read_mesh
from tsp3d.io.pcd import read_pcd
from tsp3d.io.ply import read_ply
from tsp3d.io.scan import Scan, gather, prepare
from tsp3d.io.text import read_text

OUTPUT_MARK = ".tsp3d."
"""Part of the names that results are written under; a folder of scans may be the folder of results, too."""

READERS: dict[str, tuple[str, Callable[[Path], Iterator[Chunk]]]] = {
    ".ply": ("PLY", read_ply),
    ".pcd": ("PCD", read_pcd),
    **dict.fromkeys((".xyz", ".txt", ".csv", ".asc", ".pts"), ("text points", read_text)),
    ".npy": ("NPY", read_npy),
    ".npz": ("NPZ", read_npz),
    **dict.fromkeys((".obj", ".glb", ".gltf", ".stl", ".off"), ("a mesh", read_mesh)),
    ".las": ("LAS", read_las),
    ".laz": ("LAZ", read_las),
    ".e57": ("E57", read_e57),
}


def load_scan(
    path: str | os.PathLike[str],
    up: str | None = None,
    unit: str = "m",
    max_points: int = MAX_POINTS,
    align: bool = True,
) -> Scan:
    """Read a scan and bring it to metres, z up, floor near z = 0, centred, level, its walls along x and y.

    Args:
        path: PLY, PCD, XYZ/TXT/CSV, NPY/NPZ, OBJ/GLB/GLTF/STL/OFF (surface sampled), LAS/LAZ or E57.
        up: the file's upward axis: x, y, z, -x, -y or -z. Default z; for GLB and GLTF y, as that format says.
        unit: the file's unit: m, cm or mm.
        max_points: larger clouds are thinned to one point per voxel, deterministically.
        align: find out how far the floor is tilted (up to 45 degrees) and the walls turned, and undo it, with a
            warning; False takes the scan as it lies.

    Raises:
        ScanError: no such file, unknown format, broken or empty. The message names the file and the remedy.
    """
    if not isinstance(path, str | os.PathLike):
        raise ScanError(f"a scan's path must be text, got {type(path).__name__}")
    path = Path(path)
    source = printable(path)
    suffix = path.suffix.lower()
    up = check_up(up if up is not None else ("y" if suffix in (".glb", ".gltf") else "z"))
    check_unit(unit)
    _check_file(path)
    if suffix not in READERS:
        raise ScanError(f"{source}: unknown format {suffix or '(no extension)'}; convert it to one of {_known()}")
    kind, reader = READERS[suffix]
    try:
        cloud = gather(reader(path), unit, source, max_points)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # parsers raise anything, from struct.error to Rust's PanicException
        raise explain(source, error, kind) from error
    return prepare(cloud.xyz, cloud.rgb, up, unit, source, align)


def find_scans(*patterns: str | os.PathLike[str]) -> list[Path]:
    """The scans that files, folders or glob patterns stand for, each pattern's sorted, each scan once; results of
    earlier runs are left out.

    Raises:
        ScanError: nothing there.
    """
    if not patterns:
        raise ScanError("say which scan: a file, a folder or a pattern such as 'scans/*.ply'")
    return list(dict.fromkeys(path for pattern in patterns for path in _find(os.fspath(pattern))))


def _find(text: str) -> list[Path]:
    path = Path(text)
    if not text:
        raise ScanError("the scan's path is empty; pass a file, a folder or a pattern such as 'scans/*.ply'")
    try:
        folder = path.is_dir()
        if path.exists() and not folder:
            return [path]
        matches = path.iterdir() if folder else map(Path, glob.glob(os.path.expanduser(text), recursive=True))
        found = sorted(match for match in matches if match.is_file() and is_scan(match))
    except (OSError, ValueError) as error:
        raise ScanError(f"{text[:200]!r}: not a usable path ({error})") from error
    if folder and not found:
        raise ScanError(f"{text}: the folder holds no scan; known formats are {_known()}")
    if not found:
        hint = "no file matches the pattern" if glob.has_magic(text) else "no such file or folder; check the path"
        raise ScanError(f"{text}: {hint}")
    return found


def iter_scans(
    pattern: str | os.PathLike[str],
    up: str | None = None,
    unit: str = "m",
    max_points: int = MAX_POINTS,
    align: bool = True,
) -> Iterator[Scan]:
    """Load the scans of a file, folder or pattern one at a time. Raises ScanError at the first that cannot be read."""
    for path in find_scans(pattern):
        yield load_scan(path, up=up, unit=unit, max_points=max_points, align=align)


def is_scan(path: Path) -> bool:
    """Whether the name is a scan's, and no result's."""
    return path.suffix.lower() in READERS and OUTPUT_MARK not in path.name and not path.name.startswith(".")


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise ScanError(f"{path}: this is a folder; pass a file, or use find_scans for all of its scans")
        if not path.exists():
            raise ScanError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise ScanError(f"{path}: not a regular file (a pipe or device); save the scan to a file first")
        if path.stat().st_size == 0:
            raise ScanError(f"{path}: the file is empty (0 bytes); export or download it again")
        with path.open("rb"):
            pass
    except ScanError:
        raise
    except (OSError, ValueError) as error:
        raise ScanError(f"{str(path)[:200]!r}: cannot be opened ({error})") from error


def _known() -> str:
    return ", ".join(suffix[1:].upper() for suffix in READERS)
