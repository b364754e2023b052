"""A scan and its answers in the browser: a page to ask in, and a page that is a file. Needs viser."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tsp3d.io import Scan, UserError
from tsp3d.io.write import write_text
from tsp3d.results import Grounding, lengths, turned
from tsp3d.viz.ply import BEST, OTHERS
from tsp3d.viz.png import extents, height_colours, scene_points, tinted
from tsp3d.viz.render import BOX_EDGES, box_corners, point_radius

if TYPE_CHECKING:
    from tsp3d.grounder import Grounder

COLORS = (BEST, (37, 99, 235), (22, 163, 74), (147, 51, 234), (13, 148, 136), (219, 39, 119))
"""Of the sentences' best boxes, in turn."""
MASK_TINT = 0.4
EDGE_M = 0.02


def write_html(path: str | os.PathLike[str], scan: Scan, groundings: Sequence[Grounding]) -> None:
    """Write one page, with everything in it, to turn the scan and its boxes in; any browser shows it, without a server.

    Raises:
        UserError: viser is not installed, or the place cannot be written to.
    """
    server = _server("127.0.0.1", 0)
    try:
        draw_scan(server, scan)
        for number, grounding in enumerate(groundings):
            draw_answer(server, scan, grounding, f"/{number + 1}", COLORS[number % len(COLORS)], name=True)
        write_text(path, server.scene.as_html())
    finally:
        _stop(server)


class Viewer:
    """A page in which sentences are typed, and answered while they are.

    Args:
        grounder: what answers.
        scan: what it is asked about; encoded here, once.
        host: "127.0.0.1" for this machine alone, "0.0.0.0" for all that reach it. Nobody is asked for a password.
        port: the first that is free from here on.

    Raises:
        UserError: viser is not installed, or there is no such address or port here.
    """

    def __init__(self, grounder: Grounder, scan: Scan, host: str = "127.0.0.1", port: int = 8080) -> None:
        self.grounder, self.scan = grounder, scan
        self.scene = grounder.encode(scan)
        self._lock, self._asked = threading.Lock(), None
        self.server = server = _server(host, port)
        draw_scan(server, scan)
        self.text = server.gui.add_text("Find", "", hint="What to find, in English: the brown chair next to the desk")
        self.several = server.gui.add_checkbox("All that it means", False)
        self.boxes = server.gui.add_slider("Boxes", 1, 8, 1, 1, hint="Best first: the others are second guesses")
        self.answer = server.gui.add_markdown("")
        for control in (self.text, self.several, self.boxes):
            control.on_update(self._ask)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = self.server.get_host()
        return f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{self.server.get_port()}"

    def _ask(self, _: Any = None) -> None:
        """Answers what the page asks now; each key that is pressed comes here, on threads of the server."""
        with self._lock:
            asked = (self.text.value.strip(), self.several.value, int(self.boxes.value))
            if asked == self._asked:
                return
            self._asked = asked
            text, several, count = asked
            result = None
            try:
                if text:
                    result = self.grounder.ground(self.scene, text, top_k=None if several else count, several=several)
                said = describe(result) if result else ""
            except UserError as error:
                said = str(error)
            if result:
                draw_answer(self.server, self.scan, result, "/answer", COLORS[0], several=several)
            else:
                self.server.scene.remove_by_name("/answer")
            self.answer.content = said

    def close(self) -> None:
        """Ends the page."""
        _stop(self.server)


def describe(result: Grounding) -> str:
    """The answer in words, as Markdown."""
    time = f"{result.timings_ms.get('ground', 0.0):.0f} ms"
    if not result.found:
        return f"**Not found**: {result.reason or f'best {result.best_score:.2f}'} ({time})"
    unit = result.frame.unit
    lines = []
    for rank, box in enumerate(result.boxes, 1):
        place, size = lengths(box.center, unit), lengths(box.size, unit, " × ")
        lines.append(f"{rank}. **{box.score:.2f}** at {place} {unit}, size {size} {unit}{turned(box)}")
    return "\n".join([*lines, "", time])


def draw_scan(server: Any, scan: Scan) -> None:
    """Puts the scan's points, without a ceiling that would hide them, into a viser server's scene, and a camera
    above."""
    server.scene.set_up_direction("+z")
    xyz, rgb = scene_points(scan, np.empty((0, 6)))
    size = 1.6 * float(np.median(point_radius(xyz)))
    server.scene.add_point_cloud("/scan", xyz.astype(np.float32), rgb, point_size=size, point_shape="rounded")
    low, high = extents(xyz, np.empty((0, 6)))
    middle, reach = (low + high) / 2, float((high - low).max())
    server.initial_camera.look_at = tuple(middle)
    server.initial_camera.position = tuple(middle + np.array([-0.5, -0.75, 0.75]) * reach)


def draw_answer(
    server: Any,
    scan: Scan,
    grounding: Grounding,
    place: str,
    color: tuple[int, int, int],
    several: bool = False,
    name: bool = False,
) -> None:
    """Puts boxes, their scores and the points of their masks under ``place`` in a viser server's scene, instead of what
    was there. ``several``: all boxes are meant, none is a second guess. ``name``: the sentence stands on the first."""
    server.scene.remove_by_name(place)
    colours = height_colours(scan.xyz) if scan.rgb is None else scan.rgb
    for rank, (box, corners) in enumerate(zip(grounding.boxes, map(box_corners, grounding.boxes_m), strict=True)):
        own = color if several or rank == 0 else OTHERS
        edges = corners[np.array(BOX_EDGES)]  # (12, 2, 3)
        server.scene.add_line_segments(f"{place}/box {rank + 1}", edges.astype(np.float32), own, thickness=EDGE_M)
        text = f"{grounding.text}: {box.score:.2f}" if name and rank == 0 else f"{box.score:.2f}"
        top = corners.max(0) - [*(np.ptp(corners[:, :2], axis=0) / 2), 0]
        server.scene.add_label(f"{place}/score {rank + 1}", text, position=tuple(top), anchor="bottom-center")
        if grounding.masks:
            mask = grounding.masks[rank]
            points, rgb = scan.xyz[mask], tinted(colours[mask], slice(None), own, MASK_TINT)
            server.scene.add_point_cloud(
                f"{place}/points {rank + 1}", points, rgb, point_size=0.015, point_shape="rounded"
            )


def _server(host: str, port: int) -> Any:
    try:
        import viser
    except ImportError as error:
        raise UserError(f"the viewer needs viser ({error}): pip install 'tsp3d[viewer]'") from error
    try:  # first, as viser waits without end for a server that could not begin
        if not 0 <= port <= 65535:
            raise OverflowError("ports are numbers from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        if getattr(error, "errno", None) != errno.EADDRINUSE:  # then the next port is taken
            raise UserError(f"no page can be opened at {host!r}, port {port} ({error}); choose others") from error
    with contextlib.redirect_stdout(io.StringIO()):  # its banner, whatever ``verbose`` is
        return viser.ViserServer(host, port, label="tsp3d", verbose=False)


def _stop(server: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()
