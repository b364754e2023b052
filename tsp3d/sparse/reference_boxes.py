"""3D boxes in plain PyTorch: exact IoU with and without yaw, and non-maximum suppression.

A box is (x, y, z, dx, dy, dz[, yaw]): centre, full size, and a counter-clockwise turn about z in radians.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _corners(boxes: Tensor) -> Tensor:
    """(M, 4, 2) footprint corners, counter-clockwise, of (M, 7) boxes."""
    signs = boxes.new_tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    local = signs * boxes[:, None, 3:5]
    cos, sin = boxes[:, 6].cos()[:, None], boxes[:, 6].sin()[:, None]
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return torch.stack([x, y], -1) + boxes[:, None, :2]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _inside(points: Tensor, polygon: Tensor, slack: Tensor) -> Tensor:
    """(..., P) bool: points (..., P, 2) inside a counter-clockwise polygon (..., 4, 2), borders included."""
    edges = polygon.roll(-1, -2) - polygon
    side = _cross(edges[..., None, :, :], points[..., :, None, :] - polygon[..., None, :, :])
    return (side >= -slack[..., None, None]).all(-1)


def _footprint_overlap(a: Tensor, b: Tensor) -> Tensor:
    """(M, N) area of the intersection of two sets of rotated rectangles.

    The corners of the intersection are corners of one inside the other and crossings of edges; sorted by angle they
    form a convex polygon whose area the shoelace formula gives.
    """
    pa = _corners(a)[:, None].expand(-1, len(b), -1, -1)  # (M, N, 4, 2)
    pb = _corners(b)[None].expand(len(a), -1, -1, -1)
    origin = pa.mean(2, keepdim=True)
    pa, pb = pa - origin, pb - origin  # near the origin, so that far-away boxes lose no precision
    slack = 1e-12 * (a[:, None, 3:5].square().sum(-1) + b[None, :, 3:5].square().sum(-1))
    ea, eb = pa.roll(-1, 2) - pa, pb.roll(-1, 2) - pb
    gap = pb[:, :, None] - pa[:, :, :, None]  # (M, N, 4, 4, 2)
    det = _cross(ea[:, :, :, None], eb[:, :, None])
    parallel = det.abs() <= slack[..., None, None]
    safe = torch.where(parallel, 1.0, det)
    t = _cross(gap, eb[:, :, None].expand_as(gap)) / safe
    u = _cross(gap, ea[:, :, :, None].expand_as(gap)) / safe
    crossing = ~parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    hits = pa[:, :, :, None] + t[..., None] * ea[:, :, :, None]
    points = torch.cat([pa, pb, hits.flatten(2, 3)], 2)  # (M, N, 24, 2)
    valid = torch.cat([_inside(pa, pb, slack), _inside(pb, pa, slack), crossing.flatten(2)], 2)
    count = valid.sum(2)
    weight = valid.to(points.dtype)[..., None]
    centre = (points * weight).sum(2, keepdim=True) / count.clamp(min=1)[..., None, None]
    points = torch.where(valid[..., None], points - centre, 0.0)
    angle = torch.where(valid, torch.atan2(points[..., 1], points[..., 0]), torch.inf)
    order = angle.argsort(2)
    points = points.gather(2, order[..., None].expand_as(points))
    # Invalid points sort to the end; repeating the first point there adds no area and closes the polygon.
    used = torch.arange(points.shape[2], device=points.device) < count[..., None]
    points = torch.where(used[..., None], points, points[:, :, :1])
    area = 0.5 * _cross(points, points.roll(-1, 2)).sum(2)
    return torch.where(count >= 3, area.clamp(min=0), 0.0)


def box_iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """(M, N) IoU of boxes a (M, 6 or 7) and b (N, 6 or 7); boxes of no volume have IoU 0. Computed in float64."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = a.double(), b.double()
    low = torch.maximum(a[:, None, :3] - a[:, None, 3:6] / 2, b[None, :, :3] - b[None, :, 3:6] / 2)
    high = torch.minimum(a[:, None, :3] + a[:, None, 3:6] / 2, b[None, :, :3] + b[None, :, 3:6] / 2)
    overlap = (high - low).clamp(min=0)
    if a.shape[1] == 7 or b.shape[1] == 7:
        a, b = (torch.nn.functional.pad(boxes, (0, 7 - boxes.shape[1])) for boxes in (a, b))
        shared = _footprint_overlap(a, b) * overlap[..., 2]
    else:
        shared = overlap.prod(-1)
    one, two = a[:, None, 3:6].prod(-1), b[None, :, 3:6].prod(-1)
    shared = torch.minimum(shared, torch.minimum(one, two))  # turned boxes round
    whole = (a[:, None, 3:6] > 0).all(-1) & (b[None, :, 3:6] > 0).all(-1) & (shared > 0)
    return torch.where(whole, shared / torch.where(whole, one + two - shared, 1.0), 0.0).to(dtype)


def nms_3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices (int64, best score first) of the boxes that no better kept box overlaps by more than ``iou_threshold``.

    Equal scores keep the order of the input; one that is not a number counts as infinite.
    """
    order = scores.nan_to_num(torch.inf, torch.inf, -torch.inf).argsort(descending=True, stable=True)
    overlaps = (box_iou_3d(boxes, boxes) > iou_threshold).cpu()
    kept: list[int] = []
    for i in order.tolist():
        if not kept or not bool(overlaps[i, kept].any()):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)
