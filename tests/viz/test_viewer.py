"""The page to ask in, the page that is a file, and the Rerun recording."""

from __future__ import annotations

import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tsp3d.io import UserError
from tsp3d.results import Grounding
from tsp3d.viz.rrd import write_rrd
from tsp3d.viz.viewer import OTHERS, Viewer, describe, draw_answer, write_html

# Helpers beside the tests: nothing is on the path in pytest's importlib mode.
sys.path.insert(0, str(Path(__file__).parent))
from red_cube import CUBE, make_grounding, make_room

pytest.importorskip("viser", reason="viser is not installed")


class Answers:
    """A grounder that finds the cube for any text but "nothing", and both boxes where several are asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, int | None]] = []

    def encode(self, scan):
        return scan

    def ground(self, scan, text: str, several: bool = False, top_k: int | None = None) -> Grounding:
        self.asked.append((text, several, top_k))
        if text == "error":
            raise UserError("not that")
        count = 0 if text == "nothing" else 2 if several else top_k
        return replace(make_grounding(scan, CUBE[:count], text), timings_ms={"ground": 12.3})


def settled(viewer: Viewer, wanted: str) -> str:
    """The page's answer once it holds ``wanted``: the server calls back from threads of its own."""
    end = time.monotonic() + 20
    while wanted not in viewer.answer.content and time.monotonic() < end:
        time.sleep(0.01)
    return viewer.answer.content


@pytest.fixture
def viewer():
    viewer = Viewer(Answers(), make_room(unit="mm"), port=18080)  # type: ignore[arg-type]
    yield viewer
    viewer.close()


def names(viewer: Viewer) -> set[str]:
    return {name for name in viewer.server.scene._handle_from_node_name if name.startswith("/answer/")}


def test_the_page_answers_what_is_typed(viewer, capsys):
    assert b"<html" in urllib.request.urlopen(viewer.url, timeout=20).read().lower()
    viewer.text.value = "the red cube "
    assert settled(viewer, "0.90") == "1. **0.90** at 1000, 500, 400 mm, size 800 × 800 × 800 mm\n\n12 ms"
    assert names(viewer) == {"/answer/box 1", "/answer/score 1"}
    viewer.boxes.value = 2
    settled(viewer, "0.70")
    assert names(viewer) == {f"/answer/{part} {rank}" for part in ("box", "score") for rank in (1, 2)}
    viewer.several.value = True
    viewer.text.value = "nothing"
    assert settled(viewer, "Not found") == "**Not found**: best 0.20 (12 ms)"
    assert not names(viewer)
    viewer.text.value = "error"
    assert settled(viewer, "not that")
    assert viewer.grounder.asked[:2] == [("the red cube", False, 1), ("the red cube", False, 2)]  # type: ignore[attr-defined]
    assert ("nothing", True, None) in viewer.grounder.asked  # type: ignore[attr-defined]
    assert capsys.readouterr().out == ""


def test_a_key_that_changes_nothing_is_not_answered_again(viewer):
    viewer.text.value = "the cube"
    settled(viewer, "0.90")
    viewer.text.value = "the cube "
    viewer.text.value = ""
    end = time.monotonic() + 20
    while viewer.answer.content and time.monotonic() < end:
        time.sleep(0.01)
    assert not names(viewer) and [text for text, *_ in viewer.grounder.asked] == ["the cube"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no such host", 0), ("127.0.0.1", 99999)])
def test_an_address_that_is_not_ours_is_refused_and_not_waited_for(host: str, port: int):
    with pytest.raises(UserError, match="no page can be opened at"):
        Viewer(Answers(), make_room(), host, port)  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", [True, False])
def test_html_holds_scan_and_answers(colour: bool, tmp_path, capsys):
    scan = make_room(colour)
    found = replace(make_grounding(scan, CUBE[:1]), masks=(np.arange(len(scan) - 3000, len(scan)),))
    write_html(tmp_path / "a.html", scan, [found, make_grounding(scan, CUBE[:0], "the piano")])
    page = (tmp_path / "a.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html") and len(page) > 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"] and capsys.readouterr().out == ""
    with pytest.raises(UserError, match="cannot be written"):
        write_html("/dev/null/a.html", scan, [])


class Drawn:
    """Records what is put into a scene."""

    def __init__(self) -> None:
        self.scene, self.nodes = self, {}

    def __getattr__(self, name: str):
        return lambda place, *args, **kwargs: self.nodes.__setitem__(place, (name, args, kwargs))


@pytest.mark.parametrize("several", [True, False])
def test_boxes_are_drawn_where_they_are_with_the_points_of_their_masks(several: bool):
    scan, drawn = make_room(up="y", unit="mm"), Drawn()
    mask = np.arange(len(scan) - 3000, len(scan))
    answer = replace(make_grounding(scan, CUBE), masks=(mask, mask[:5]))
    draw_answer(drawn, scan, answer, "/a", (0, 0, 255), several=several, name=True)
    edges, color = drawn.nodes["/a/box 1"][1]
    assert color == (0, 0, 255) and edges.shape == (12, 2, 3)
    np.testing.assert_allclose(edges.reshape(-1, 3).min(0), CUBE[0, :3] - CUBE[0, 3:] / 2, atol=1e-6)
    np.testing.assert_allclose(edges.reshape(-1, 3).max(0), CUBE[0, :3] + CUBE[0, 3:] / 2, atol=1e-6)
    assert drawn.nodes["/a/box 2"][1][1] == ((0, 0, 255) if several else OTHERS)
    assert drawn.nodes["/a/score 1"][1] == ("the red cube: 0.90",) and drawn.nodes["/a/score 2"][1] == ("0.70",)
    np.testing.assert_allclose(drawn.nodes["/a/score 1"][2]["position"], (1.0, 0.5, 0.8), atol=1e-6)
    points, rgb = drawn.nodes["/a/points 1"][1]
    np.testing.assert_array_equal(points, scan.xyz[mask])
    assert len(points) == len(rgb) == 3000 and (rgb[:, 2] > 100).all()  # tinted blue
    assert "/a/points 2" in drawn.nodes


def test_an_answer_in_words_gives_the_reason():
    scan = make_room()
    answer = replace(make_grounding(scan, CUBE[:0]), reason="nothing fits")
    assert describe(answer).startswith("**Not found**: nothing fits")


def test_without_viser_and_rerun_the_remedy_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UserError, match=r"pip install 'tsp3d\[viewer\]'"):
        write_html(tmp_path / "a.html", make_room(), [])
    with pytest.raises(UserError, match=r"pip install 'tsp3d\[rerun\]'"):
        write_rrd(tmp_path / "a.rrd", make_room(), [])
    assert not list(tmp_path.iterdir())


def test_rerun_recording(tmp_path):
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    scan = make_room(up="y", unit="mm")
    found = replace(make_grounding(scan, CUBE), masks=(np.arange(10), np.arange(5)))
    write_rrd(tmp_path / "a.rrd", scan, [found, make_grounding(scan, CUBE[:0], "the piano")])
    assert [path.name for path in tmp_path.iterdir()] == ["a.rrd"] and (tmp_path / "a.rrd").stat().st_size > 10_000
    assert rerun.__version__
