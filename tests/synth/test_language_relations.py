"""Each relation on scenes small enough to work out by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tsp3d.synth.expressions import Expression, Interpreter, Relation, Selection, View, referents
from tsp3d.synth.relations import SceneGeometry, Viewpoint
from tsp3d.synth.types import SceneDescription, SceneObject

# Helpers beside the tests: nothing is on the path in pytest's importlib mode.
sys.path.insert(0, str(Path(__file__).parent))
from language_scenes import box_object, random_scene

ROOM = (0.0, 0.0, 1.3, 8.0, 8.0, 2.6)


def scene(*objects: SceneObject, entrance=None) -> SceneDescription:
    return SceneDescription("hand", objects, ROOM, entrance)


def chair(i: int, x: float, y: float, **more) -> SceneObject:
    return box_object(i, "chair", x, y, 0.45, 0.5, 0.5, 0.9, **more)


def both(expression: Expression, s: SceneDescription) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return referents(expression, s, strict=True), referents(expression, s, strict=False)


def said(kind: str, *anchors: str, view: View | None = None, noun: str = "chair", **more) -> Expression:
    return Expression(noun, relations=(Relation(kind, tuple(Expression(a) for a in anchors), view, **more),))


def test_next_to_near_and_far():
    desk = box_object(0, "desk", 0, 0, 0.375, 1.4, 0.7, 0.75)
    s = scene(desk, chair(1, 1.1, 0), chair(2, 1.95, 0), chair(3, 3.5, 0), chair(4, -3.5, 3.5))
    # Free distances to the desk: 0.15, 1.0, 2.55 and over 3 m.
    assert both(said("next to", "desk"), s) == ((1,), (1,))
    assert both(said("near", "desk"), s) == ((1,), (1, 2))
    assert both(said("far", "desk"), s) == ((3, 4), (3, 4))
    assert both(said("near", "desk", negated=True), s) == ((3, 4), (2, 3, 4))


def test_on_by_support_and_by_shape():
    desk = box_object(0, "desk", 0, 0, 0.375, 1.4, 0.7, 0.75)
    lamp = box_object(1, "lamp", 0.3, 0, 0.95, 0.2, 0.2, 0.4, support="object", support_id=0)
    unsure = box_object(2, "lamp", -0.3, 0, 0.95, 0.2, 0.2, 0.4)
    s = scene(desk, lamp, unsure, box_object(3, "lamp", 3, 3, 0.8, 0.3, 0.3, 1.6))
    assert both(said("on", "desk", noun="lamp"), s) == ((1,), (1, 2))
    assert both(said("on floor", noun="lamp"), s)[0] == (3,)


def test_standing_on_a_rug():
    s = scene(box_object(0, "rug", 0, 0, 0.01, 2, 1.5, 0.02), chair(1, 0.3, 0.2), chair(2, 1.1, 0), chair(3, 3, 3))
    assert both(said("on", "rug"), s) == ((1,), (1, 2))


def test_under_a_table_and_under_a_picture():
    table = box_object(0, "table", 0, 0, 0.375, 1.4, 0.8, 0.75)
    inside, half, away = (box_object(i, "box", x, 0, 0.15, 0.3, 0.3, 0.3) for i, x in ((1, 0.2), (2, 0.75), (3, 2.5)))
    assert both(said("under", "table", noun="box"), scene(table, inside, half, away)) == ((1,), (1, 2))
    picture = box_object(4, "picture", 0, 3.97, 1.6, 0.6, 0.05, 0.5, support="wall")
    sofa, other = (box_object(i, "sofa", x, 3.5, 0.4, 2, 0.9, 0.8) for i, x in ((5, 0), (6, -2.8)))
    s = scene(picture, sofa, other)
    assert both(said("under", "picture", noun="sofa"), s) == ((5,), (5,))
    assert both(said("above", "sofa", noun="picture"), s) == ((4,), (4,))


def test_between():
    bed, desk = box_object(0, "bed", -2, 0, 0.3, 1.6, 2, 0.6), box_object(1, "desk", 2, 0, 0.375, 0.7, 1.4, 0.75)
    s = scene(bed, desk, chair(2, 0, 0.1), chair(3, 0, 3), chair(4, 3, 3))
    assert both(said("between", "bed", "desk"), s) == ((2,), (2,))
    windows = [box_object(i, "window", x, 3.95, 1.5, 1, 0.1, 1.2, support="wall") for i, x in ((5, -1.5), (6, 1.5))]
    pictures = [box_object(i, "picture", x, 3.97, 1.5, 0.5, 0.05, 0.5, support="wall") for i, x in ((7, 0), (8, 3))]
    assert both(said("between", "window", noun="picture"), scene(*windows, *pictures)) == ((7,), (7,))


def test_front_and_behind_follow_the_anchors_own_front():
    # The sofa looks along +y.
    sofa = box_object(0, "sofa", 0, 0, 0.4, 2, 0.9, 0.8, front=math.pi / 2)
    s = scene(sofa, chair(1, 0.2, 1.2), chair(2, 0.2, -1.2), chair(3, 1.6, 0))
    assert both(said("front", "sofa"), s) == ((1,), (1,))
    assert both(said("behind", "sofa"), s) == ((2,), (2,))


@pytest.mark.parametrize("turn", range(4))
def test_left_and_right_of_something_that_one_faces(turn):
    # The bed looks along +x (turned by quarters); who faces it looks along -x, where left is -y.
    angle = turn * math.pi / 2
    c, n = round(math.cos(angle)), round(math.sin(angle))
    size = (2.0, 1.6) if turn % 2 == 0 else (1.6, 2.0)
    bed = box_object(0, "bed", 0, 0, 0.3, *size, 0.6, front=angle)
    at = {i: (-y * n, y * c) for i, y in ((1, -1.2), (2, 1.2))}
    lamps = [box_object(i, "lamp", x, y, 0.8, 0.3, 0.3, 1.6) for i, (x, y) in at.items()]
    s = scene(bed, *lamps)
    assert both(said("facing left", "bed", noun="lamp"), s) == ((1,), (1,))
    assert both(said("facing right", "bed", noun="lamp"), s) == ((2,), (2,))


def test_viewpoint_axes():
    g = SceneGeometry(scene(chair(0, 2, 1), chair(1, 2, -1), chair(2, -1, 2)))
    ahead_x = Viewpoint(g, np.zeros(2), 0.0)  # at the origin, looking along +x: left is +y
    np.testing.assert_allclose(ahead_x.left, [1, -1, 2])
    np.testing.assert_allclose(ahead_x.ahead, [2, 2, -1])
    ahead_y = Viewpoint(g, np.zeros(2), math.pi / 2)  # looking along +y: left is -x
    np.testing.assert_allclose(ahead_y.left, [-2, -2, 1], atol=1e-12)
    backwards = Viewpoint(g, np.zeros(2), math.pi)  # looking along -x: left is -y
    np.testing.assert_allclose(backwards.left, [-1, 1, -2], atol=1e-12)


def test_left_and_right_as_one_enters():
    s = scene(chair(0, 2, 1), chair(1, 2, -1), entrance=(0.0, 0.0, 0.0))
    enter = View("enter")
    assert both(said("view left", view=enter), s) == ((0,), (0,))
    assert both(said("view right", view=enter), s) == ((1,), (1,))
    assert referents(Expression("chair", selection=Selection("leftmost", view=enter)), s) == (0,)
    assert referents(Expression("chair", selection=Selection("rightmost", view=enter)), s) == (1,)
    turned = scene(chair(0, 2, 1), chair(1, 2, -1), entrance=(4.0, 0.0, math.pi))
    assert both(said("view left", view=enter), turned) == ((1,), (1,))


def test_beside_and_behind_as_seen_from_the_entrance():
    table = box_object(9, "table", 2, 0, 0.375, 1.0, 1.0, 0.75)
    s = scene(
        table, chair(0, 2, 1.1), chair(1, 2, -1.1), chair(2, 3.1, 0), chair(3, 0.95, 0), entrance=(-2.0, 0.0, 0.0)
    )
    enter = View("enter")
    assert referents(said("beside left", "table", view=enter), s) == (0,)
    assert referents(said("beside right", "table", view=enter), s) == (1,)
    assert referents(said("view behind", "table", view=enter), s) == (2,)
    assert referents(said("view front", "table", view=enter), s) == (3,)


def test_sitting_and_looking_from_one_thing_to_another():
    # On the sofa at the origin, looking along +y: left is -x.
    sofa = box_object(5, "sofa", 0, 0, 0.4, 2, 0.9, 0.8, front=math.pi / 2)
    lamps = [box_object(i, "lamp", x, 2, 0.8, 0.3, 0.3, 1.6) for i, x in ((0, -1.5), (1, 1.5))]
    s = scene(sofa, *lamps, box_object(6, "bed", 0, -3, 0.3, 1.6, 2, 0.6), entrance=(0.0, 3.9, -math.pi / 2))
    sit = View("sit", (Expression("sofa"),))
    assert both(said("view left", view=sit, noun="lamp"), s) == ((0,), (0,))
    # From the sofa to the bed one looks along -y: left is +x. From the door to the bed likewise.
    for view in (View("from", (Expression("sofa"), Expression("bed"))), View("from door", (Expression("bed"),))):
        near = scene(sofa, s.objects[3], chair(2, 1.2, -2), chair(3, -1.2, -2), entrance=s.entrance)
        assert both(said("view left", view=view), near) == ((2,), (2,))


def test_places_in_the_room():
    s = scene(chair(0, 3.6, 3.6), chair(1, 3.7, 0), chair(2, 0.2, -0.3), chair(3, 2.9, 3.0))
    assert both(said("corner"), s) == ((0,), (0, 3))
    assert both(said("wall"), s)[0] == (1,)
    assert both(said("middle"), s) == ((2,), (2,))


def test_closest_needs_a_margin():
    door = box_object(9, "door", -4, 0, 1, 0.1, 0.9, 2)
    closest = Expression("chair", selection=Selection("closest", 1, (Expression("door"),)))
    assert both(closest, scene(door, chair(0, -2, 0), chair(1, 1, 0))) == ((0,), (0,))
    close_call = scene(door, chair(0, -2, 0), chair(1, -1.9, 0.3))
    assert both(closest, close_call) == ((), (0, 1))
    farthest = Expression("chair", selection=Selection("farthest", 1, (Expression("door"),)))
    assert both(farthest, scene(door, chair(0, -2, 0), chair(1, 1, 0))) == ((1,), (1,))


def test_selections_count_look_alikes():
    big, small = chair(0, 0, 0), box_object(1, "chair", 2, 0, 0.25, 0.3, 0.3, 0.5)
    largest = Expression("chair", selection=Selection("largest"))
    assert both(largest, scene(big, small)) == ((0,), (0,))
    armchair = box_object(2, "armchair", -2, 0, 0.5, 0.9, 0.9, 1.0)
    assert both(largest, scene(big, small, armchair))[1] != (0,)
    assert referents(Expression("chair", selection=Selection("largest")), scene(big)) == ()  # no choice to make


def test_ordinals_count_from_the_side():
    chairs = [chair(i, 3, y) for i, y in enumerate((-2, -0.7, 0.7, 2))]
    s = scene(*chairs, entrance=(-2.0, 0.0, 0.0))
    for rank, left, right in ((1, 3, 0), (2, 2, 1), (3, 1, 2), (4, 0, 3)):
        for kind, wanted in (("leftmost", left), ("rightmost", right)):
            e = Expression("chair", selection=Selection(kind, rank, (), View("enter")), count=4)
            assert both(e, s) == ((wanted,), (wanted,))
    assert both(Expression("chair", selection=Selection("leftmost", 2, (), View("enter")), count=3), s) == ((), ())


def test_colours_and_materials_that_could_be_confused():
    s = scene(
        chair(0, 0, 0, color="brown", material="wooden"),
        chair(1, 2, 0, color="beige"),
        chair(2, -2, 0, color="blue", material="metal"),
    )
    assert both(Expression("chair", "brown"), s) == ((0,), (0, 1))
    assert both(Expression("chair", "blue"), s) == ((2,), (2,))
    assert both(Expression("chair", None, "wooden"), s) == ((0,), (0, 1))  # the second's material is unknown
    assert both(Expression("chair", size="big"), s)[0] == ()


def test_strict_implies_permissive():
    names = (
        "on", "above", "under", "next_to", "near", "far", "front_of", "behind", "facing_left", "facing_right",
        "between", "corner", "wall", "middle", "on_wall", "on_floor",
    )  # fmt: skip
    for seed in range(12):
        s = random_scene(seed, 14)
        g = SceneGeometry(s)
        assert s.entrance is not None
        view = Viewpoint(g, np.array(s.entrance[:2]), s.entrance[2])
        masks = [getattr(g, name) for name in names]
        masks += [f(sign) for f in (view.side, view.beside, view.beyond) for sign in (1.0, -1.0)]
        for loose, strict in masks:
            assert not (strict & ~loose).any()


def test_unknown_viewpoints_assert_nothing():
    s = scene(chair(0, 2, 1), chair(1, 2, -1))
    interpreter = Interpreter(s)
    e = said("view left", view=View("enter"))
    assert not interpreter.fits(e, True).any()
    assert interpreter.fits(e, False).all()
