"""Pinhole cameras: around the box of an object as LAR places them, and inside a whole scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FOCAL = 623.54
"""Focal length of LAR's virtual camera in pixels of an image of 720 × 720 (Bakr et al., NeurIPS 2022, released
code)."""
FULL_SIZE = 720
COCOON = (-60.0, -30.0, 0.0, 30.0, 60.0)
"""LAR's five views around an object, degrees; neighbours lie side by side for a convolution over them."""
AUGMENTED_DISTANCE, AUGMENTED_LIFT, JITTER = (1.5, 4.0), (0.5, 2.5), 0.1
"""Ranges in metres that an augmented camera draws from; each eye is moved by up to ``JITTER`` along each axis."""
EYE_HEIGHT = 1.6
"""Metres above the floor from which a whole scan is seen."""
FLAT = 0.1
"""A box lower than this share of its shorter side is seen from its horizontal face: floor, ceiling, rug."""


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras of one image size. Pixel coordinates are whole numbers at the pixels' centres."""

    eye: Tensor
    """(V, 3) float32, metres."""
    rotation: Tensor
    """(V, 3, 3) float32; rows are right, down and forward in the world's axes."""
    focal: Tensor
    """(V,) float32, pixels. The principal point is the middle of the image, ((W - 1) / 2, (H - 1) / 2)."""
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.eye)

    def __getitem__(self, rows: slice) -> Cameras:
        return Cameras(self.eye[rows], self.rotation[rows], self.focal[rows], self.height, self.width)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points (P, 3) → pixels (V, P, 2) as column and row, and depth (V, P) in metres.

        Pixels mean nothing where the depth is not positive.
        """
        local = torch.einsum("vpk,vck->vpc", points[None] - self.eye[:, None], self.rotation)  # (V, P, 3)
        depth = local[..., 2]
        middle = local.new_tensor([(self.width - 1) / 2, (self.height - 1) / 2])
        return local[..., :2] * (self.focal[:, None] / depth)[..., None] + middle, depth


@dataclass(frozen=True)
class ObjectViews:
    """How objects are looked at. The defaults are LAR's, at the image size of common encoders."""

    angles: tuple[float, ...] = COCOON
    """Degrees around the object."""
    distance: float = 2.0
    """Metres from the box's centre along the face's normal."""
    lift: float = 1.0
    """Metres above that."""
    size: int = 224
    """Pixels of a side of the square image."""
    enlarge: float = 1.02
    """The points within the box times this are drawn."""
    fit: bool = False
    """Come so near, in the same direction, that the box's sphere fills the image: LAR's fixed distance leaves a bottle
    a few pixels and cuts a wardrobe off."""


def look_at(eye: Tensor, target: Tensor, focal: Tensor | float, height: int, width: int) -> Cameras:
    """Upright cameras at ``eye`` (V, 3) that look at ``target`` (V, 3) or (3,); straight up or down with +y on top.

    Raises:
        ValueError: an eye is its own target, or not finite.
    """
    eye = torch.as_tensor(eye, dtype=torch.float64)
    forward = torch.as_tensor(target, dtype=torch.float64) - eye  # (V, 3)
    length = forward.norm(dim=1, keepdim=True)
    if not bool((length > 1e-6).all() & length.isfinite().all()):
        raise ValueError("a camera needs a finite eye and a target apart from it; check the boxes and the distance")
    forward = forward / length
    steep = forward[:, 2:].abs() > 0.9999
    up = torch.where(steep, forward.new_tensor([0.0, 1.0, 0.0]), forward.new_tensor([0.0, 0.0, 1.0]))
    right = torch.linalg.cross(forward, up)
    right = right / right.norm(dim=1, keepdim=True)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)  # (V, 3, 3)
    focals = torch.as_tensor(focal, dtype=torch.float32, device=eye.device).expand(len(eye))
    return Cameras(eye.float(), rotation.float(), focals, height, width)


def object_cameras(
    boxes: Tensor, scene_centre: Tensor, views: ObjectViews | None = None, generator: torch.Generator | None = None
) -> Cameras:
    """Cameras around each box, as LAR places them (Bakr et al., NeurIPS 2022, and its code).

    Of the larger pair of upright faces (of a flat box: the horizontal pair) the one nearest the scene's centre is
    looked at: the eye stands at the box's centre + ``distance`` along its normal + ``lift`` up, and turns about the
    vertical through the centre by each angle. For flat boxes, where turning would change nothing, distance and lift
    both go along the normal, and the eye tilts towards the larger upright face.

    Args:
        boxes: (M, 6) centre and full size, metres.
        scene_centre: (3,).
        generator: draws distance and lift of each object, and a jitter of each eye, from the augmentation's ranges.

    Returns:
        M · A cameras, the A angles of the first object first.

    Raises:
        ValueError: boxes of another shape, not finite, or of negative size.
    """
    views = views or ObjectViews()
    boxes = check_boxes(boxes).double()
    toward = torch.as_tensor(scene_centre, dtype=torch.float64, device=boxes.device) - boxes[:, :3]  # (M, 3)
    sign = torch.where(toward < 0, -1.0, 1.0).to(toward)
    size = boxes[:, 3:]
    along_x = size[:, 1] > size[:, 0]  # the faces across x are the larger ones
    lateral = torch.zeros_like(size)
    lateral[:, 0] = torch.where(along_x, sign[:, 0], 0.0)
    lateral[:, 1] = torch.where(along_x, 0.0, sign[:, 1])
    vertical = torch.zeros_like(size)
    flat = size[:, 2] < FLAT * size[:, :2].amin(1)
    vertical[:, 2] = torch.where(flat, sign[:, 2], 1.0)

    count = len(boxes)
    distance, lift = size.new_full((count,), views.distance), size.new_full((count,), views.lift)
    if generator is not None:
        distance, lift = (
            low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64).to(size.device)
            for low, high in (AUGMENTED_DISTANCE, AUGMENTED_LIFT)
        )
    angle = torch.deg2rad(torch.tensor(views.angles, dtype=torch.float64, device=boxes.device))[
        None, :, None
    ]  # (1, A, 1)
    across = torch.stack([-lateral[:, 1], lateral[:, 0], lateral[:, 2]], 1)  # the normal turned by 90 degrees
    turned = lateral[:, None] * angle.cos() + across[:, None] * angle.sin()  # (M, A, 3)
    upright = turned * distance[:, None, None] + (vertical * lift[:, None])[:, None]
    tilted = vertical[:, None] * angle.cos() + lateral[:, None] * angle.sin()
    offset = torch.where(flat[:, None, None], tilted * (distance + lift)[:, None, None], upright)  # (M, A, 3)
    if views.fit:
        # The half-angle of view is the same for every image size.
        sphere = (size.norm(dim=1) / 2).clamp(min=0.05) * views.enlarge
        length = sphere / math.sin(math.atan(FULL_SIZE / 2 / FOCAL))
        offset = offset / offset.norm(dim=2, keepdim=True) * length[:, None, None]
    if generator is not None:
        shake = torch.rand(offset.shape, generator=generator, dtype=torch.float64).to(offset.device)
        near = (offset.norm(dim=2, keepdim=True) / 2).clamp(max=1)  # at a bottle's side 10 cm would be a lot
        offset = offset + (2 * shake - 1) * JITTER * near
    centre = boxes[:, None, :3].expand_as(offset).reshape(-1, 3)
    return look_at(centre + offset.reshape(-1, 3), centre, FOCAL * views.size / FULL_SIZE, views.size, views.size)


def scene_cameras(
    points: Tensor,
    count: int = 8,
    height: int = 480,
    width: int = 640,
    field_of_view: float = 80.0,
    clearance: float = 0.6,
) -> Cameras:
    """Cameras inside a scan, evenly around its middle at a standing person's height, that look across it.

    Each starts on an ellipse near the extents and moves to the middle until no point is nearer than ``clearance``, so
    that none stands in a wardrobe; where there is no such place, the emptiest is taken.

    Args:
        points: (P, 3) metres, z up. Points that are not finite do not count.
        field_of_view: horizontal, degrees.

    Raises:
        ValueError: no finite point, or no camera wanted.
    """
    if count < 1:
        raise ValueError(f"a scan is seen by at least one camera, got {count}")
    points = points[points.isfinite().all(1)].double()
    if not len(points):
        raise ValueError("cameras of a scan need at least one finite point")
    thin = points[:: max(1, len(points) // 20_000)]
    low, high = torch.quantile(thin, thin.new_tensor([0.01, 0.99]), dim=0)
    middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=0.5)
    stand = low[2] + EYE_HEIGHT
    azimuth = 2 * math.pi * (torch.arange(count, device=points.device) + 0.5) / count
    around = torch.stack([azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth)], 1).double()  # (V, 3)
    share = torch.linspace(0.9, 0.2, 8, dtype=torch.float64, device=points.device)
    ground = torch.stack([middle[0], middle[1], stand])
    places = ground + share[None, :, None] * around[:, None] * half  # (V, 8, 3)
    nearest = torch.cdist(places.reshape(-1, 3), thin).amin(1).view(count, -1)  # (V, 8)
    free = nearest >= clearance
    chosen = torch.where(free.any(1), free.int().argmax(1), nearest.argmax(1))  # (V,)
    eye = places[torch.arange(count, device=points.device), chosen]
    target = ground - 0.6 * around * half
    target[:, 2] = low[2] + 0.6 * half[2]
    return look_at(eye, target, width / 2 / math.tan(math.radians(field_of_view) / 2), height, width)


def check_boxes(boxes: Tensor) -> Tensor:
    """The boxes as a tensor (M, 6). Raises ValueError on another shape, a number that is not finite, or a negative
    size."""
    boxes = torch.as_tensor(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 6:
        raise ValueError(f"boxes must be (M, 6) centre and full size, got {tuple(boxes.shape)}")
    bad = ~(boxes.isfinite().all(1) & (boxes[:, 3:] >= 0).all(1))
    if bool(bad.any()):
        row = int(bad.int().argmax())
        raise ValueError(f"box {row} is {boxes[row].tolist()}: six finite numbers with sizes of at least 0 are needed")
    return boxes
