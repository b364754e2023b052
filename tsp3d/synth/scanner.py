"""A virtual hand-held depth camera: walks through a room and fuses what it sees into a coloured, labelled cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsp3d.synth.mesh import Mesh, Surface
from tsp3d.synth.room import Room
from tsp3d.synth.texture import shade_points


@dataclass(frozen=True)
class ScannerConfig:
    """The camera and its faults. Metres and radians."""

    frames: tuple[int, int] = (44, 84)
    width: int = 112
    height: int = 84
    field_of_view: float = 1.05
    """Horizontal."""
    near: float = 0.35
    far: float = 5.5
    noise: float = 0.0011
    """Standard deviation of depth at 1 m; it grows with the square of depth."""
    drift: float = 0.0016
    """Random walk of the pose from frame to frame, metres (and a third as many radians)."""
    voxel: float = 0.02
    """Grid of which each cell keeps one point."""


@dataclass(frozen=True)
class RawScan:
    """A fused cloud; ``owner`` is the index in ``Room.placed`` or -1."""

    xyz: NDArray[np.float32]  # (N, 3)
    rgb: NDArray[np.uint8]  # (N, 3)
    owner: NDArray[np.int32]  # (N,)


def _free_spots(room: Room, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Places (count, 2) where a person can stand, or near the room's middle where there is none."""
    w, d = room.outline.width / 2 - 0.3, room.outline.depth / 2 - 0.3
    points = rng.uniform((-w, -d), (w, d), (400, 2))
    good = room.outline.contains(points, 0.3)
    for piece in room.placed:
        f = piece.footprint
        if f.z1 < 0.25 or f.z0 > 1.7:
            continue
        delta = points - (f.x, f.y)
        cos, sin = np.cos(f.yaw), np.sin(f.yaw)
        local = np.abs(delta @ np.array([[cos, -sin], [sin, cos]]))
        good &= ~((local[:, 0] < f.half_x + 0.15) & (local[:, 1] < f.half_y + 0.15))
    spots = points[good]
    if len(spots) == 0:
        spots = points[room.outline.contains(points, 0.3)][:8]
    # Farthest-point choice, so that the walk covers the room.
    chosen = [spots[0]]
    for _ in range(min(count, len(spots)) - 1):
        gap = np.min([((spots - c) ** 2).sum(axis=1) for c in chosen], axis=0)
        chosen.append(spots[int(gap.argmax())])
    return np.array(chosen)


def _path(room: Room, rng: np.random.Generator, frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Camera positions and viewing targets, (frames, 3) each."""
    spots = _free_spots(room, rng, 7)
    order = [int(rng.integers(len(spots)))]
    while len(order) < len(spots):
        gap = ((spots - spots[order[-1]]) ** 2).sum(axis=1)
        gap[order] = np.inf
        order.append(int(gap.argmin()))
    spots = spots[order]
    share = np.linspace(0, len(spots) - 1, frames)
    position = np.stack([np.interp(share, np.arange(len(spots)), spots[:, k]) for k in range(2)], axis=1)
    height = np.interp(np.arange(frames), np.linspace(0, frames, 9), rng.uniform(1.25, 1.75, 9))
    position = np.c_[position + rng.normal(0, 0.02, (frames, 2)), height]
    # Look round: a sweep with changing speed, and often at furniture.
    turn = rng.uniform(-np.pi, np.pi) + np.cumsum(rng.uniform(0.15, 0.75, frames)) * (1 if rng.random() < 0.5 else -1)
    pitch = rng.uniform(-0.75, 0.02, frames)
    target = position + np.c_[np.cos(turn) * np.cos(pitch), np.sin(turn) * np.cos(pitch), np.sin(pitch)] * 2.0
    pieces = [p for p in room.placed if p.labelled]
    if pieces:
        at_object = rng.random(frames) < 0.5
        picked = rng.integers(len(pieces), size=frames)
        centres = np.array([[p.x, p.y, (p.footprint.z0 + p.footprint.z1) / 2] for p in pieces])[picked]
        target[at_object] = centres[at_object] + rng.normal(0, 0.15, (int(at_object.sum()), 3))
    return position, target


def _rays(position: NDArray[np.float64], target: NDArray[np.float64], config: ScannerConfig) -> NDArray[np.float64]:
    """Directions (frames, height * width, 3) of unit length."""
    forward = target - position
    forward /= np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-9)
    forward[:, 2] = np.clip(forward[:, 2], -0.93, 0.93)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(right, forward)
    half = np.tan(config.field_of_view / 2)
    u = np.linspace(-half, half, config.width)
    v = np.linspace(half, -half, config.height) * config.height / config.width
    grid_u, grid_v = (g.reshape(1, -1, 1) for g in np.meshgrid(u, v))
    directions = forward[:, None] + grid_u * right[:, None] + grid_v * up[:, None]
    return directions / np.linalg.norm(directions, axis=2, keepdims=True)


def cast(mesh: Mesh, origins: NDArray[np.floating], directions: NDArray[np.floating]) -> tuple[NDArray, NDArray]:
    """First hits of rays (R, 3): distances (inf where none) and face indices (-1 where none)."""
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(
        scene, np.ascontiguousarray(mesh.vertices, dtype=np.float32), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    )
    result = scene.run(
        np.ascontiguousarray(origins, dtype=np.float32), np.ascontiguousarray(directions, dtype=np.float32), output=True
    )
    faces = np.asarray(result["primID"])
    distance = np.asarray(result["tfar"], dtype=np.float32).copy()
    distance[faces < 0] = np.inf
    return distance, faces


def scan_room(room: Room, rng: np.random.Generator, config: ScannerConfig | None = None) -> RawScan:
    """Walks the camera through the room and fuses its frames. All faults come from ``rng``."""
    config = config or ScannerConfig()
    mesh, owners = room.mesh()
    # Larger rooms are scanned for longer.
    share = min(room.outline.width * room.outline.depth / 35.0, 1.0)
    frames = config.frames[0] + int(round((config.frames[1] - config.frames[0]) * share * float(rng.uniform(0.7, 1.0))))
    position, target = _path(room, rng, frames)
    directions = _rays(position, target, config)
    per_frame = directions.shape[1]
    frame = np.repeat(np.arange(frames), per_frame)
    directions = directions.reshape(-1, 3).astype(np.float32)
    distance, faces = cast(mesh, position[frame], directions)

    hit = np.flatnonzero((faces >= 0) & (distance > config.near) & (distance < config.far * 1.15))
    # Everything that follows is per hit.
    frame, directions, distance, faces = frame[hit], directions[hit], distance[hit], faces[hit]
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normal = normals[faces]
    slant = -(normal * directions).sum(axis=1)
    normal = np.where(slant[:, None] < 0, -normal, normal)
    slant = np.abs(slant)
    surface = mesh.surfaces[faces]
    base = mesh.colors[faces].astype(np.float32)

    # Missing depth: dark, shiny, transparent, far and grazing surfaces, and blobs where a whole patch fails.
    light = base.mean(axis=1) / 255.0
    lost = 0.02 + 0.25 * np.clip(0.16 - light, 0, 1) / 0.16 + 0.9 * np.clip(0.22 - slant, 0, 1) / 0.22
    lost += np.clip((distance - 3.2) / 2.6, 0, 1) * 0.8
    lost = np.where(surface == Surface.GLASS, 0.72, lost)
    lost = lost + np.where(surface == Surface.METAL, 0.12, 0.0)
    keep = rng.random(len(lost)) > lost
    sigma = config.noise * (0.6 + distance**2) * (1 + 1.5 * np.clip(0.5 - slant, 0, 0.5))
    measured = distance + rng.normal(0, 1, len(distance)).astype(np.float32) * sigma

    # Pose drift: a random walk, pulled back as loop closure would.
    step = rng.normal(0, config.drift, (frames, 3))
    turn_step = rng.normal(0, config.drift / 3, frames)
    shift, turn = np.zeros((frames, 3)), np.zeros(frames)
    for k in range(1, frames):
        shift[k] = 0.94 * shift[k - 1] + step[k]
        turn[k] = 0.94 * turn[k - 1] + turn_step[k]
    true = position[frame] + directions * distance[:, None]
    rotated = directions * measured[:, None]
    small = turn[frame][:, None] * np.c_[-rotated[:, 1], rotated[:, 0], np.zeros(len(rotated))]
    xyz = (position[frame] + rotated + small + shift[frame]).astype(np.float32)

    rgb = shade_points(true, normal, base, surface, owners[faces], frame, rng)
    xyz, rgb, owner = xyz[keep], rgb[keep], owners[faces][keep]
    order = rng.permutation(len(xyz))
    xyz, rgb, owner = xyz[order], rgb[order], owner[order]
    cell = np.floor(xyz / config.voxel).astype(np.int64) + (1 << 20)
    key = (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]
    first = np.unique(key, return_index=True)[1]
    first.sort()
    return RawScan(xyz[first], rgb[first], owner[first])
