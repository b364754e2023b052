"""An independent, naive reading of expressions: one object at a time, thresholds between strict and permissive.

Nothing of :mod:`tsp3d.synth.relations` is used, so that an error there shows.
"""

from __future__ import annotations

import math

from tsp3d.synth.expressions import Expression, Relation, Selection, View
from tsp3d.synth.types import SceneDescription, SceneObject
from tsp3d.synth.vocabulary import NOUNS, SURFACES


def _gap(a: SceneObject, b: SceneObject, axes: tuple[int, ...]) -> float:
    return math.sqrt(sum(max(abs(a.box[k] - b.box[k]) - (a.box[k + 3] + b.box[k + 3]) / 2, 0.0) ** 2 for k in axes))


def _bottom(o: SceneObject) -> float:
    return o.box[2] - o.box[5] / 2


def _top(o: SceneObject) -> float:
    return o.box[2] + o.box[5] / 2


def _share(a: SceneObject, b: SceneObject) -> float:
    """Share of a's footprint within b's."""
    area = 1.0
    for k in (0, 1):
        low = max(a.box[k] - a.box[k + 3] / 2, b.box[k] - b.box[k + 3] / 2)
        area *= max(min(a.box[k] + a.box[k + 3] / 2, b.box[k] + b.box[k + 3] / 2) - low, 0.0)
    return area / (a.box[3] * a.box[4])


def _turned(dx: float, dy: float, yaw: float) -> tuple[float, float]:
    """Forward and leftward components of an offset for someone who looks along ``yaw``."""
    return dx * math.cos(yaw) + dy * math.sin(yaw), -dx * math.sin(yaw) + dy * math.cos(yaw)


def _pair(kind: str, a: SceneObject, b: SceneObject) -> bool:
    """Whether a stands in the relation to b."""
    dx, dy = a.box[0] - b.box[0], a.box[1] - b.box[1]
    if kind == "near":
        return _gap(a, b, (0, 1, 2)) < 0.9
    if kind == "next to":
        return _gap(a, b, (0, 1)) < 0.6 and _gap(a, b, (2,)) < 0.2
    if kind == "far":
        return _gap(a, b, (0, 1)) > 1.9
    if kind == "on":
        return (a.support == "object" and a.support_id == b.id) or (
            _share(a, b) > 0.5 and abs(_bottom(a) - _top(b)) < 0.1 and a.support != "wall"
        )
    if kind == "above":
        aligned = _gap(a, b, (0, 1)) < 0.4
        return aligned and _bottom(a) > _top(b) + 0.05
    if kind == "under":
        share = max(_share(a, b), _share(b, a)) if a.name == "rug" else _share(a, b)
        beneath = b.name in SURFACES and share > 0.4 and _top(a) < _top(b) and _bottom(a) < _bottom(b) + 0.3
        return beneath or _pair("above", b, a)
    if b.front is None:
        return False
    ahead, left = _turned(dx, dy, b.front)
    # All fronts of the test scenes look along an axis.
    along_x = abs(math.cos(b.front)) > 0.5
    depth, width = (b.box[3] / 2, b.box[4] / 2) if along_x else (b.box[4] / 2, b.box[3] / 2)
    if kind == "front":
        return -0.15 < ahead - depth < 2.0 and abs(left) < width + 0.3
    if kind == "behind":
        return -0.15 < -ahead - depth < 2.0 and abs(left) < width + 0.3
    # Facing b one looks against its front: one's left is its right.
    side = -left if kind == "facing left" else left
    return side > width and side - width < 2.0 and abs(ahead) < max(side, 0.5) and _gap(a, b, (2,)) < 0.5


def _pose(view: View, scene: SceneDescription) -> tuple[float, float, float]:
    anchors = [only(e, scene) for e in view.anchors]
    if view.kind in ("enter", "door"):
        assert scene.entrance is not None
        return scene.entrance
    if view.kind == "sit":
        assert anchors[0].front is not None
        return anchors[0].box[0], anchors[0].box[1], anchors[0].front
    assert scene.entrance is not None
    start = anchors[0].box[:2] if view.kind == "from" else scene.entrance[:2]
    goal = anchors[-1].box[:2]
    return start[0], start[1], math.atan2(goal[1] - start[1], goal[0] - start[0])


def _seen(kind: str, a: SceneObject, b: SceneObject | None, view: View, scene: SceneDescription) -> bool:
    x, y, yaw = _pose(view, scene)
    if b is None:
        _, left = _turned(a.box[0] - x, a.box[1] - y, yaw)
        return left > 0.2 if kind == "view left" else left < -0.2
    sight = math.atan2(b.box[1] - y, b.box[0] - x)
    ahead, left = _turned(a.box[0] - b.box[0], a.box[1] - b.box[1], sight)
    if _gap(a, b, (0, 1)) > 1.8:
        return False
    main = {"beside left": left, "beside right": -left, "view behind": ahead, "view front": -ahead}[kind]
    other = ahead if kind.startswith("beside") else left
    return main > 0.2 and main > 0.4 * abs(other)


def _place(kind: str, o: SceneObject, scene: SceneDescription) -> bool:
    walls = [scene.room[k + 3] / 2 - abs(o.box[k] - scene.room[k]) - o.box[k + 3] / 2 for k in (0, 1)]
    if kind == "corner":
        return max(walls) < 0.6
    if kind == "wall":
        return min(walls) < 0.3
    if kind == "middle":
        return all(abs(o.box[k] - scene.room[k]) < 0.2 * scene.room[k + 3] for k in (0, 1))
    return o.support == kind.split()[1]


def holds(r: Relation, o: SceneObject, scene: SceneDescription) -> bool:
    """Whether a relation holds of an object, for any of the objects that its anchors may mean."""
    return _holds(r, o, scene) != r.negated


def _holds(r: Relation, o: SceneObject, scene: SceneDescription) -> bool:
    if not r.anchors:
        return _seen(r.kind, o, None, r.view, scene) if r.view else _place(r.kind, o, scene)
    firsts = [b for b in scene.objects if b.id != o.id and b.id in fitting(r.anchors[0], scene)]
    if r.view:
        return any(_seen(r.kind, o, b, r.view, scene) for b in firsts)
    if r.kind != "between":
        return any(_pair(r.kind, o, b) for b in firsts)
    for b in firsts:
        for c in scene.objects:
            if c.id in (o.id, b.id) or c.id not in fitting(r.anchors[-1], scene):
                continue
            angles = [math.atan2(k.box[1] - o.box[1], k.box[0] - o.box[0]) for k in (b, c)]
            turn = abs((angles[0] - angles[1] + math.pi) % (2 * math.pi) - math.pi)
            if turn > math.radians(130) and max(_gap(o, k, (0, 1)) for k in (b, c)) < 2.7:
                return True
    return False


def value(s: Selection, o: SceneObject, scene: SceneDescription) -> float:
    """What the selection sorts by, first the smallest."""
    if s.kind in ("closest", "farthest"):
        d = math.dist(o.box[:3], only(s.anchors[0], scene).box[:3])
        return d if s.kind == "closest" else -d
    if s.view:
        x, y, yaw = _pose(s.view, scene)
        ahead, left = _turned(o.box[0] - x, o.box[1] - y, yaw)
        angle = math.atan2(left, ahead)
        return {"leftmost": -angle, "rightmost": angle, "nearest": math.hypot(ahead, left)}[s.kind]
    dx, dy, dz = o.box[3:]
    return {
        "largest": -dx * dy * dz, "smallest": dx * dy * dz, "tallest": -dz, "shortest": dz, "widest": -max(dx, dy),
        "highest": -o.box[2], "lowest": o.box[2],
    }[s.kind]  # fmt: skip


def fitting(e: Expression, scene: SceneDescription) -> list[int]:
    """Ids of the objects that the expression fits."""
    noun = NOUNS[e.noun]
    kept = [
        o for o in scene.objects
        if o.name in noun.reads
        and (noun.support is None or o.support == noun.support)
        and (e.color is None or o.color in (e.color, None))
        and (e.material is None or o.material in (e.material, None))
    ]  # fmt: skip
    if e.count:
        assert len(kept) == e.count
    if e.size:
        measure = {"big": -1, "small": 1, "tall": -1, "short": 1, "wide": -1, "narrow": 1}[e.size]
        kind = {"big": "smallest", "small": "smallest", "tall": "shortest", "short": "shortest"}.get(e.size)
        kept.sort(key=lambda o: measure * (value(Selection(kind), o, scene) if kind else max(o.box[3:5])))
        kept = kept[:1]
    for r in e.relations:
        kept = [o for o in kept if holds(r, o, scene)]
    if e.selection:
        kept.sort(key=lambda o: value(e.selection, o, scene))  # type: ignore[arg-type]
        kept = kept[e.selection.rank - 1 : e.selection.rank]
    return [o.id for o in kept]


def only(e: Expression, scene: SceneDescription) -> SceneObject:
    """The one object that fits."""
    (found,) = fitting(e, scene)
    return next(o for o in scene.objects if o.id == found)
