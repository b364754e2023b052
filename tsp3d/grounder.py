"""The facade: load weights once, encode a scan once, ground many sentences in it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Protocol, overload

import numpy as np
import torch

from tsp3d.io import Scan, UserError, load_scan
from tsp3d.io.errors import printable
from tsp3d.io.frame import check_unit, check_up
from tsp3d.pretrained import load_network, pick_device
from tsp3d.request import Options, check_share, check_top_k, clean_text, sentences_of, warn_unless_english
from tsp3d.results import Box, Grounding, scan_to_json
from tsp3d.tiling import OVERLAP_M, TILE_M, TiledNetwork
from tsp3d.turning import turned


class Network(Protocol):
    """What the facade needs of a network; :class:`tsp3d.models.net.GroundingNet` has it."""

    def encode(self, xyz: torch.Tensor, rgb: torch.Tensor | None, /) -> Any:
        """Points (N, 3) float32 in metres z up, colours (N, 3) 0…1 or None → features, opaque to the facade."""
        ...

    def ground(self, encoded: Any, texts: list[str], /, top_k: int = 1) -> Sequence[Any]:
        """For each text something with ``boxes`` (k, 6) in metres, ``scores`` (k,) best first, and ``trace``."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """A scan with its features, ready for any number of sentences."""

    scan: Scan
    encoded: Any
    """The network's features."""
    encode_ms: float
    """How long they took."""
    made_by: str = ""
    """The model, device, precision and turns of the grounder that it is for; empty where nobody said."""


@dataclass(frozen=True, eq=False)
class ScanResult:
    """All that came of one scan of many: answers, or the error that the user should see."""

    source: str
    scan: Scan | None = None
    groundings: list[Grounding] = field(default_factory=list)
    error: str | None = None


class Grounder:
    """Finds what sentences mean in scans.

    >>> grounder = Grounder.from_pretrained("tsp3d-tiny")
    >>> scene = grounder.encode(load_scan("room.ply"))
    >>> grounder.ground(scene, "the brown chair next to the desk").boxes[0].center
    """

    def __init__(
        self, network: Network, name: str = "custom", device: str | torch.device = "cpu", tile: float = TILE_M,
        turns: int = 1,
    ) -> None:  # fmt: skip
        """``network`` is moved to ``device`` (as :meth:`from_pretrained` has it) and put in evaluation mode if it is a
        torch module. Scans wider than 1.5 times ``tile`` metres (6 or more) are cut into tiles (:mod:`tsp3d.tiling`);
        infinity keeps all whole. With ``turns`` 2 or 4 the network looks at so many turned copies of each, which takes
        longer (:mod:`tsp3d.turning`).

        Raises:
            UserError: a name in the place of a network, no such device, too small tiles, another number of turns, or
                turns with a network that cannot pool them.
        """
        if isinstance(network, str | os.PathLike):
            raise UserError(f"a Grounder takes a network; use Grounder.from_pretrained({os.fspath(network)!r})")
        if not tile >= 2 * OVERLAP_M:
            raise UserError(f"tile must be {2 * OVERLAP_M:g} m or more (neighbours share {OVERLAP_M:g}), got {tile}")
        self.device = pick_device(device)
        if isinstance(network, torch.nn.Module):
            if any(weight.is_floating_point() and weight.dtype != torch.float32 for weight in network.parameters()):
                raise UserError("the network's weights must be float32: call its float() first")
            network = network.to(self.device).eval()  # type: ignore[assignment]
        self.network = network
        self._tiled = TiledNetwork(turned(network, turns), tile)
        self.name = name
        self._made_by = f"{name} ({_weights_of(network)}) on {self.device}, {turns} turn(s)"
        self.config_hash = _config_hash(getattr(network, "config", None))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "tsp3d-tiny",
        device: str | torch.device = "auto",
        precision: str = "float32",
        turns: int = 1,
    ) -> Grounder:
        """Load weights by the name of a bundled model, a folder, or a Hugging Face hub id (``user/model``).

        Args:
            device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1".
            precision: "float32", or on a CPU for the convolutions "int8", with weights that have been calibrated for it
                (tools/calibrate_int8.py), or "bfloat16", where the CPU multiplies it (AVX-512 BF16).
            turns: 2 or 4 look at so many turned copies of a scan: a little more often right, and slower.

        Raises:
            UserError: no such weights, or not usable; or no such device, precision or number of turns.
        """
        if not isinstance(name, str | os.PathLike):
            raise UserError(f"a model is a name, a folder or a hub id, got {type(name).__name__}")
        where = pick_device(device)
        network = load_network(os.fspath(name), where, precision)
        return cls(network, name=os.fspath(name), device=where, turns=turns)

    @property
    def min_score(self) -> float:
        """The model's own threshold: boxes that score less are left out unless the caller says otherwise."""
        return float(getattr(getattr(getattr(self.network, "config", None), "head", None), "min_score", 0.0))

    @property
    def min_presence(self) -> float:
        """The model's own threshold of presence: 0 unless it was calibrated."""
        calibration = getattr(getattr(self.network, "config", None), "calibration", None)
        return float(getattr(calibration, "min_presence", 0.0))

    @torch.inference_mode()
    def encode(self, scan: Scan | str | os.PathLike[str]) -> Scene:
        """Features of a scan (or of the file at a path; metres, z up). Raises ScanError if the file cannot be read."""
        scan = _as_scan(scan)
        self._check_mode()
        start = self._now()
        xyz = torch.from_numpy(scan.xyz).to(self.device)  # (N, 3)
        rgb = None if scan.rgb is None else torch.from_numpy(scan.rgb).to(self.device).float() / 255.0  # (N, 3)
        encoded = self._tiled.encode(xyz, rgb)
        return Scene(scan, encoded, (self._now() - start) * 1000, self._made_by)

    @overload
    def ground(
        self,
        scene: Scene | Scan | str | os.PathLike[str],
        text: str,
        top_k: int | None = None,
        min_score: float | None = None,
        min_presence: float | None = None,
        several: bool = False,
    ) -> Grounding: ...
    @overload
    def ground(
        self,
        scene: Scene | Scan | str | os.PathLike[str],
        text: Sequence[str],
        top_k: int | None = None,
        min_score: float | None = None,
        min_presence: float | None = None,
        several: bool = False,
    ) -> list[Grounding]: ...

    def ground(
        self,
        scene: Scene | Scan | str | os.PathLike[str],
        text: str | Sequence[str],
        top_k: int | None = None,
        min_score: float | None = None,
        min_presence: float | None = None,
        several: bool = False,
    ) -> Grounding | list[Grounding]:
        """The boxes that a sentence means, or each of several sentences (which share the scan's features).

        Args:
            scene: from :meth:`encode`; a scan or path is encoded first.
            top_k: at most this many boxes, best first; by default 1, or 16 with ``several``.
            min_score: boxes below are left out (0…1). None: the model's own threshold.
            min_presence: if the model gives less for the presence of anything that fits (0…1), nothing is found.
                None: the model's own threshold, which calibration sets (tools/calibrate.py) and which is 0 without.
            several: give all objects that the sentence means ("the two lamps"), as many as the calibration takes for
                meant. Otherwise boxes after the first are alternatives to it.

        Returns:
            A Grounding for a string, a list of them for a list; boxes in the frame and unit of the input.

        Raises:
            UserError: an empty text, ``top_k``, ``min_score`` or ``min_presence`` out of range, or a scene of a
                grounder with another model, device, precision or number of turns.
        """
        options = Options(top_k, min_score, min_presence, several)
        texts = self._check(text, options)
        if not isinstance(scene, Scene):
            scene = self.encode(scene)
        results = self._ground(scene, texts, options)
        return results[0] if isinstance(text, str) else results

    def _check(self, text: str | Sequence[str], options: Options) -> list[str]:
        texts = [clean_text(text)] if isinstance(text, str) else [clean_text(one) for one in sentences_of(text)]
        check_top_k(options.count)
        for name in ("min_score", "min_presence"):
            check_share(name, getattr(options, name))
        for one in texts:
            warn_unless_english(one)
        return texts

    @torch.inference_mode()
    def _ground(self, scene: Scene, texts: list[str], options: Options) -> list[Grounding]:
        if not texts:
            return []
        if scene.made_by not in ("", self._made_by):
            raise UserError(
                f"the scene was encoded by {scene.made_by}, not by {self._made_by}: encode it with the latter"
            )
        self._check_mode()
        start = self._now()
        more = {"several": True} if options.several else {}
        raw = self._tiled.ground(scene.encoded, texts, top_k=int(options.count), **more)
        elapsed = (self._now() - start) * 1000 / len(texts)
        return [self._result(scene, one, answer, options, elapsed) for one, answer in zip(texts, raw, strict=True)]

    def ground_many(
        self,
        scans: Iterable[Scan | str | os.PathLike[str]] | Scan | str | os.PathLike[str],
        texts: str | Sequence[str],
        top_k: int | None = None,
        min_score: float | None = None,
        up: str | None = None,
        unit: str = "m",
        min_presence: float | None = None,
        several: bool = False,
        align: bool = True,
    ) -> Iterator[ScanResult]:
        """Ground the same sentences in one scan (or path) after the other, with one scan in memory at a time.

        Options as :meth:`ground`; ``up``, ``unit`` and ``align`` as :func:`tsp3d.load_scan`, for the paths among the
        scans (a Scan has its own frame). A scan that cannot be read gives a result with ``error`` and does not stop the
        others. Wrong texts or options raise UserError before the first scan is read.
        """
        options = Options(top_k, min_score, min_presence, several)
        check_unit(unit)
        check_up("z" if up is None else up)
        if isinstance(scans, np.ndarray) or not isinstance(scans, Iterable | str | os.PathLike):
            scans = _as_scan(scans)  # refused but for a Scan: the rows of an array are no scans
        scans = [scans] if isinstance(scans, Scan | str | os.PathLike) else scans  # a path is no list of letters
        return self._stream(scans, self._check(texts, options), options, up, unit, align)

    def _stream(
        self,
        scans: Iterable[Scan | str | os.PathLike[str]],
        texts: list[str],
        options: Options,
        up: str | None,
        unit: str,
        align: bool,
    ) -> Iterator[ScanResult]:
        for item in scans:
            source = printable(item) if isinstance(item, str | os.PathLike) else getattr(item, "source", "array")
            try:
                scan = _as_scan(item, up, unit, align)
                yield ScanResult(source, scan, self._ground(self.encode(scan), texts, options))
            except UserError as error:
                yield ScanResult(source, error=str(error))
            except (MemoryError, torch.OutOfMemoryError):
                yield ScanResult(source, error=f"{source}: not enough memory for this scan; thin it first")

    def to_json(self, result: ScanResult) -> dict[str, Any]:
        """The result of one scan as in the result file; ``{"scan", "model", "config_hash", "error"}`` if it failed."""
        if result.scan is None:
            return {"scan": result.source, "model": self.name, "config_hash": self.config_hash, "error": result.error}
        frame = result.scan.input_frame
        return scan_to_json(result.source, self.name, self.config_hash, frame, result.groundings)

    def _result(self, scene: Scene, text: str, raw: Any, options: Options, ground_ms: float) -> Grounding:
        least = self.min_score if options.min_score is None else options.min_score
        if options.several and options.min_score is None:
            least = 0.0  # several share the score of one: calibration has chosen among them
        presence = getattr(raw, "presence", None)
        wanted = self.min_presence if options.min_presence is None else options.min_presence
        fits = presence is None or presence >= wanted
        boxes = _numpy(raw.boxes).reshape(-1, 6)  # (k, 6) metres
        scores = np.clip(_numpy(raw.scores).reshape(-1), 0.0, 1.0)  # (k,)
        good = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
        best = float(scores[good].max(initial=0.0))
        reason = "" if fits else f"nothing fits (presence {presence:.2f}, needed {wanted:.2f})"
        if fits and not (good & (scores >= least)).any():
            reason = f"not found (best {best:.2f}, needed {least:.2f})"
        good &= (scores >= least) & fits
        kept = np.flatnonzero(good)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        boxes, scores = boxes[kept], scores[kept]
        frame = scene.scan.input_frame
        rotation = frame.box_rotation
        turn = None if np.allclose(rotation, np.eye(3), atol=1e-9) else tuple(map(tuple, rotation.tolist()))
        rows = frame.boxes_to_input(boxes).tolist()
        return Grounding(
            text=text,
            boxes=tuple(
                Box(tuple(row[:3]), tuple(row[3:]), frame.yaw if turn else 0.0, float(score), turn)
                for row, score in zip(rows, scores, strict=True)
            ),
            boxes_m=boxes,
            frame=frame,
            reason=reason,
            presence=presence,
            best_score=best,
            timings_ms={"encode": scene.encode_ms, "ground": ground_ms, "total": scene.encode_ms + ground_ms},
            trace=getattr(raw, "trace", None),
            masks=self._masks(scene, raw, kept.tolist()),
        )

    def _masks(self, scene: Scene, raw: Any, kept: list[int]) -> tuple[np.ndarray, ...]:
        masks = self._tiled.masks(scene.encoded, raw, kept) if kept else None
        return tuple(mask.cpu().numpy() for mask in masks or ())

    def _check_mode(self) -> None:
        if getattr(self.network, "training", False):
            raise UserError("the network is in training mode; call its eval() before grounding")

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _weights_of(network: object) -> str:
    """Of a torch module the precision of its convolutions and a hash of some numbers of each weight, which no count of
    threads changes; else the class's name."""
    if not isinstance(network, torch.nn.Module):
        return type(network).__name__
    dtypes = {getattr(part, "inference_dtype", None) for part in network.modules()} - {None}
    precision = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)) or "float32"
    found = hashlib.sha256()
    for weight in network.parameters():
        found.update(weight.detach().flatten()[:: 1 + weight.numel() // 64].cpu().numpy().tobytes())
    return f"{precision}, weights {found.hexdigest()[:8]}"


def _as_scan(scan: object, up: str | None = None, unit: str = "m", align: bool = True) -> Scan:
    if isinstance(scan, Scan):
        return scan
    if isinstance(scan, str | os.PathLike):
        return load_scan(scan, up=up, unit=unit, align=align)
    raise UserError(f"a scan must be a tsp3d.Scan or a path, got {type(scan).__name__}; make Scan(xyz, rgb) of arrays")


def _numpy(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _config_hash(config: Any) -> str:
    """First 12 hex digits of the SHA-256 of the configuration's sorted JSON, or the configuration's own hash."""
    own = getattr(config, "hash", None)
    if callable(own):
        return str(own())
    plain = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]
