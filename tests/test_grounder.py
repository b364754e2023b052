"""The facade over a network that answers with the bounds of what was asked for, so that frames can be checked."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tsp3d
from tsp3d.io.write import replacing, write_text
from tsp3d.pretrained import (
    INT8,
    WEIGHTS,
    find_weights,
    load_network,
    pick_device,
    read_ranges,
    set_precision,
    write_ranges,
)
from tsp3d.request import clean_text
from tsp3d.results import document, dumps, lengths, paired_iou, runs, scan_to_json, slug, unique_prefixes, write_json


@dataclass
class Answer:
    boxes: torch.Tensor
    scores: torch.Tensor
    trace: dict[str, torch.Tensor] = field(default_factory=dict)


class BoundsNetwork:
    """Answers "all" with the scan's bounds, "red" with those of its red points, and anything else with a low score."""

    def __init__(self, min_score: float = 0.3) -> None:
        self.config = SimpleNamespace(head=SimpleNamespace(min_score=min_score), hash=lambda: "0123456789ab")
        self.encoded = 0

    def encode(self, xyz: torch.Tensor, rgb: torch.Tensor | None):
        assert xyz.dtype == torch.float32 and (rgb is None or (rgb.dtype == torch.float32 and float(rgb.max()) <= 1.0))
        self.encoded += 1
        return xyz, rgb

    def ground(self, encoded, texts: list[str], top_k: int = 1) -> list[Answer]:
        xyz, rgb = encoded
        answers = []
        for text in texts:
            points = xyz[(rgb[:, 0] > 0.7) & (rgb[:, 1] < 0.3)] if text == "red" and rgb is not None else xyz
            low, high = points.min(0).values, points.max(0).values
            box = torch.cat([(low + high) / 2, high - low])
            scores = torch.tensor([0.9, 0.6, 0.2] if text in ("red", "all") else [0.1, 0.05, 0.01])[:top_k]
            boxes = box.repeat(len(scores), 1)
            answers.append(Answer(boxes, scores, {"level0": points}))
        return answers


@pytest.fixture
def grounder() -> tsp3d.Grounder:
    return tsp3d.Grounder(BoundsNetwork(), name="bounds")


def points(count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    xyz = rng.random((count, 3)) * [4, 3, 2.4] + [10, 20, 1]
    rgb = np.full((count, 3), 120, dtype=np.uint8)
    red = (xyz[:, 0] < 11) & (xyz[:, 1] < 21)
    rgb[red] = (250, 10, 10)
    return xyz, rgb


def test_box_comes_back_in_the_input_frame(grounder: tsp3d.Grounder):
    xyz, rgb = points()
    result = grounder.ground(grounder.encode(tsp3d.Scan(xyz, rgb)), "red")
    red = xyz[rgb[:, 0] > 200]
    assert result.found and result.text == "red" and len(result.boxes) == 1
    box = result.boxes[0]
    np.testing.assert_allclose(np.array(box.center) - np.array(box.size) / 2, red.min(0), atol=1e-5)
    np.testing.assert_allclose(np.array(box.center) + np.array(box.size) / 2, red.max(0), atol=1e-5)
    assert box.score == pytest.approx(0.9) and box.yaw == 0.0
    assert set(result.trace) == {"level0"}
    times = result.timings_ms
    assert set(times) == {"encode", "ground", "total"} and times["total"] == times["encode"] + times["ground"]


@pytest.mark.parametrize("up", ["y", "-y", "x", "-z"])
def test_box_follows_axes_and_unit(grounder: tsp3d.Grounder, up: str):
    xyz, rgb = points()
    scan = tsp3d.Scan.from_arrays(xyz * 1000, rgb, up=up, unit="mm")
    box = grounder.ground(scan, "red").boxes[0]
    red = xyz[rgb[:, 0] > 200] * 1000
    np.testing.assert_allclose(np.array(box.size), np.ptp(red, axis=0), atol=0.1)
    np.testing.assert_allclose(np.array(box.center), (red.min(0) + red.max(0)) / 2, atol=0.1)


def test_many_sentences_share_one_encoding(grounder: tsp3d.Grounder):
    scene = grounder.encode(tsp3d.Scan(*points()))
    results = grounder.ground(scene, ["all", "red", "all"], top_k=3)
    assert [r.text for r in results] == ["all", "red", "all"]
    assert [b.score for b in results[0].boxes] == pytest.approx([0.9, 0.6])  # the third is below the model's 0.3
    assert grounder.network.encoded == 1  # type: ignore[attr-defined]
    assert grounder.ground(scene, []) == []


def test_a_scene_is_for_grounders_like_its_own(grounder: tsp3d.Grounder):
    scene = grounder.encode(tsp3d.Scan(*points()))
    assert tsp3d.Grounder(BoundsNetwork(), name="bounds").ground(scene, "red").found
    with pytest.raises(tsp3d.UserError, match="the scene was encoded by bounds .*encode it with"):
        tsp3d.Grounder(BoundsNetwork(), name="others").ground(scene, "red")


def test_a_scene_is_for_the_weights_and_the_precision_that_it_was_made_with():
    class Trained(torch.nn.Linear, BoundsNetwork):  # type: ignore[misc]
        encode, ground, encoded = BoundsNetwork.encode, BoundsNetwork.ground, 0

    torch.manual_seed(0)
    first, second = Trained(2, 2), Trained(2, 2)
    scene = tsp3d.Grounder(first).encode(tsp3d.Scan(*points()))
    assert tsp3d.Grounder(copy.deepcopy(first)).ground(scene, "red").found
    first.inference_dtype = torch.int8  # type: ignore[assignment]
    for other in (second, first):
        with pytest.raises(tsp3d.UserError, match="the scene was encoded by custom .float32, weights"):
            tsp3d.Grounder(other).ground(scene, "red")
    with pytest.raises(tsp3d.UserError, match=r"call its float\(\)"):
        tsp3d.Grounder(Trained(2, 2).double())


def test_a_network_in_training_mode_is_told(monkeypatch: pytest.MonkeyPatch):
    class Trained(torch.nn.Module, BoundsNetwork):  # type: ignore[misc]
        encode, ground = BoundsNetwork.encode, BoundsNetwork.ground
        encoded = 0

    grounder, scan = tsp3d.Grounder(Trained()), tsp3d.Scan(*points())
    scene = grounder.encode(scan)
    grounder.network.train()  # type: ignore[attr-defined]
    for ask in (lambda: grounder.encode(scan), lambda: grounder.ground(scene, "red")):
        with pytest.raises(tsp3d.UserError, match=r"call its eval\(\)"):
            ask()
    grounder.network.eval()  # type: ignore[attr-defined]
    assert grounder.ground(scene, "red").found


def test_no_name_is_no_model():
    with pytest.raises(tsp3d.UserError, match="got NoneType"):
        tsp3d.Grounder.from_pretrained(None)  # type: ignore[arg-type]
    with pytest.raises(tsp3d.UserError, match="'': no such model; bundled: tsp3d-tiny"):
        tsp3d.Grounder.from_pretrained("")


def test_not_found_says_how_near_it_was(grounder: tsp3d.Grounder):
    scan = tsp3d.Scan(*points())
    result = grounder.ground(scan, "a unicorn")
    assert not result.found and result.boxes == () and result.best_score == pytest.approx(0.1)
    assert grounder.ground(scan, "a unicorn", min_score=0.0).found
    assert not grounder.ground(scan, "red", min_score=0.95).found


def test_what_means_nothing_is_left_out_and_the_best_comes_first():
    class Odd(BoundsNetwork):
        def ground(self, encoded, texts, top_k=1):
            boxes = torch.arange(1.0, 6).repeat(6, 1).T.clone()  # box k is k + 1 all over
            boxes[0, 4] = torch.inf
            return [Answer(boxes, torch.tensor([0.9, torch.nan, 0.5, 1.25, 0.25]))]

        def masks(self, encoded, raw, which):
            return [torch.tensor([k]) for k in which]

    result = tsp3d.Grounder(Odd()).ground(tsp3d.Scan(*points()), "red", top_k=5, min_score=0.5)
    assert [box.score for box in result.boxes] == [1.0, 0.5] and result.best_score == 1.0
    assert [box.size[0] for box in result.boxes] == [4.0, 3.0] and [m.tolist() for m in result.masks] == [[3], [2]]


def test_nothing_fits_and_several_fit(tmp_path):
    class Judge(BoundsNetwork):
        def ground(self, encoded, texts, top_k=1, several=False):
            answers = super().ground(encoded, texts, top_k=3 if several else top_k)
            for text, answer in zip(texts, answers, strict=True):
                answer.presence = 0.2 if text == "a unicorn" else 0.9  # type: ignore[attr-defined]
            return answers

    network = Judge()
    network.config.calibration = SimpleNamespace(min_presence=0.5)
    grounder = tsp3d.Grounder(network)
    scene = grounder.encode(tsp3d.Scan(*points()))
    red, unicorn = grounder.ground(scene, ["red", "a unicorn"], min_score=0.0)
    assert red.found and red.presence == 0.9 and red.reason == "" and len(red.boxes) == 1
    assert not unicorn.found and unicorn.reason == "nothing fits (presence 0.20, needed 0.50)"
    assert unicorn.to_json()["reason"] == unicorn.reason and unicorn.to_json()["presence"] == 0.2
    assert grounder.ground(scene, "a unicorn", min_score=0.0, min_presence=0.1).found
    assert len(grounder.ground(scene, "red", several=True).boxes) == 3  # those below min_score too
    assert len(grounder.ground(scene, "red", several=True, min_score=0.5).boxes) == 2
    with pytest.raises(tsp3d.UserError, match="min_presence must be from 0 to 1"):
        grounder.ground(scene, "red", min_presence=1.5)


def test_masks_are_those_of_the_boxes_kept(grounder: tsp3d.Grounder, tmp_path):
    xyz, rgb = points()
    scene = grounder.encode(tsp3d.Scan(xyz, rgb))
    plain = grounder.ground(scene, "red", top_k=3)
    assert plain.mask is None and "mask" not in plain.to_json()["boxes"][0]
    asked = []

    def masks(encoded, raw, which):
        asked.append(which)
        return [torch.tensor([0, 1, 2, 7, 9, 10])[: 6 - k] for k in which]

    grounder.network.masks = masks  # type: ignore[attr-defined]
    result = grounder.ground(scene, "red", top_k=3)
    assert asked == [[0, 1]] and len(result.masks) == 2  # the third scores too little
    assert result.mask is not None and result.mask.tolist() == [0, 1, 2, 7, 9, 10]
    assert [box["mask"] for box in result.to_json()["boxes"]] == [[0, 3, 7, 1, 9, 2], [0, 3, 7, 1, 9, 1]]
    assert grounder.ground(scene, "none").mask is None and len(asked) == 1
    assert runs([]) == [] and runs([4]) == [4, 1]


def test_scan_without_colour(grounder: tsp3d.Grounder):
    assert grounder.ground(tsp3d.Scan(points()[0]), "all").found


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "...", "\u200b", "🪑 🪑", "→"])
def test_empty_text_is_explained(grounder: tsp3d.Grounder, text: str):
    with pytest.raises(tsp3d.UserError, match="say what to find"):
        grounder.ground(tsp3d.Scan(*points()), text)


def test_arrays_are_told_how_to_become_a_scan(grounder: tsp3d.Grounder):
    with pytest.raises(tsp3d.UserError, match=r"got ndarray.*Scan\(xyz, rgb\)"):
        grounder.ground(points()[0], "all")  # type: ignore[call-overload]


@pytest.mark.parametrize("texts", [None, 3, [3], {"a": 1}])
def test_texts_of_the_wrong_type(grounder: tsp3d.Grounder, texts):
    with pytest.raises(tsp3d.UserError, match="string"):
        grounder.ground(tsp3d.Scan(*points()), texts)


@pytest.mark.parametrize(
    "options",
    [{"top_k": 0}, {"top_k": -1}, {"top_k": 1.5}, {"min_score": 2.0}, {"min_score": np.nan}, {"min_score": "0.3"}],
)
def test_options_out_of_range(grounder: tsp3d.Grounder, options):
    with pytest.raises(tsp3d.UserError, match="top_k|min_score"):
        grounder.ground(tsp3d.Scan(*points()), "red", **options)


def test_options_may_be_numbers_of_numpy(grounder: tsp3d.Grounder):
    result = grounder.ground(tsp3d.Scan(*points()), "red", top_k=np.int64(3), min_score=np.float32(0.5))  # type: ignore[call-overload]
    assert len(result.boxes) == 2


def test_other_languages_long_texts_and_broken_bytes(grounder: tsp3d.Grounder, caplog: pytest.LogCaptureFixture):
    scan = tsp3d.Scan(*points())
    with caplog.at_level(logging.WARNING):
        grounder.ground(scan, "桌子旁边的椅子")
    assert "does not look English" in caplog.text
    with caplog.at_level(logging.WARNING):
        assert len(grounder.ground(scan, "chair " * 5000).text) <= 1000
    assert "is cut to 1000" in caplog.text
    assert clean_text("the\udcff  red\0\nchair") == "the? red chair"


def test_result_file_has_the_documented_fields(grounder: tsp3d.Grounder, tmp_path):
    scan = tsp3d.Scan(*points(), source="room.ply")
    results = grounder.ground(grounder.encode(scan), ["red", "a unicorn"])
    content = scan_to_json("room.ply", grounder.name, grounder.config_hash, scan.input_frame, results)
    write_json(tmp_path / "sub" / "r.json", content)
    read = json.loads((tmp_path / "sub" / "r.json").read_text())
    assert list(read) == ["scan", "model", "config_hash", "frame", "queries"]
    assert (read["scan"], read["model"], read["config_hash"]) == ("room.ply", "bounds", "0123456789ab")
    assert list(read["frame"]) == ["unit", "up", "transform"] and np.shape(read["frame"]["transform"]) == (4, 4)
    fields = ["text", "found", "boxes", "timings_ms"]
    assert [list(query) for query in read["queries"]] == [fields, [*fields[:2], "reason", *fields[2:]]]
    assert list(read["queries"][0]["boxes"][0]) == ["center", "size", "yaw", "score"]
    assert read["queries"][1]["found"] is False and read["queries"][1]["boxes"] == []


def test_json_text_is_strict_and_compact():
    assert json.loads(dumps({"a": [1.0, -2e-05], "b": "[\n 1, 2\n ]"})) == {"a": [1.0, -2e-05], "b": "[\n 1, 2\n ]"}
    assert "[1.0, -2e-05]" in dumps({"a": [1.0, -2e-05]})
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps({"a": float("nan")})
    assert document([{"a": 1}], single=True) == {"a": 1}
    assert document([{"a": 1}], single=False) == [{"a": 1}]


def test_lengths_are_given_to_the_millimetre():
    assert lengths((5_400_000.1234, -0.0001, 0.45), "m") == "5400000.123, 0.000, 0.450"
    assert lengths((1234.56, 10.0, -0.04), "cm", " ") == "1234.6 10.0 0.0"
    assert lengths((-645.08, 1008.5, 476.2), "mm") == "-645, 1008, 476"


def test_stream_goes_on_after_a_broken_scan(grounder: tsp3d.Grounder, tmp_path):
    np.save(tmp_path / "a.npy", points()[0])
    (tmp_path / "b.npy").write_bytes(b"broken")
    np.save(tmp_path / "c.npy", points()[0])
    results = list(grounder.ground_many(tsp3d.find_scans(tmp_path), "all"))
    assert [bool(result.error) for result in results] == [False, True, False]
    assert "b.npy" in (results[1].error or "") and results[2].groundings[0].found
    assert "error" in grounder.to_json(results[1]) and "queries" in grounder.to_json(results[0])
    for alone in (tmp_path / "a.npy", str(tmp_path / "a.npy"), tsp3d.load_scan(tmp_path / "a.npy")):
        assert [result.source for result in grounder.ground_many(alone, "all")] == [str(tmp_path / "a.npy")]
    (turned,) = grounder.ground_many(tmp_path / "a.npy", "all", up="y", unit="cm")
    assert turned.scan is not None and (turned.scan.input_frame.up, turned.scan.input_frame.unit) == ("y", "cm")
    mixed = list(grounder.ground_many([points()[0], tsp3d.Scan(*points())], "all"))  # type: ignore[list-item]
    assert "got ndarray; make Scan(xyz, rgb)" in (mixed[0].error or "") and mixed[1].groundings[0].found
    with pytest.raises(tsp3d.UserError, match=r"got ndarray; make Scan\(xyz, rgb\)"):
        grounder.ground_many(points()[0], "all")  # type: ignore[arg-type]
    with pytest.raises(tsp3d.UserError, match="say what to find"):
        grounder.ground_many([], "")
    for options, told in (({"up": "w"}, "up axis 'w'"), ({"unit": "km"}, "unit 'km'")):
        with pytest.raises(tsp3d.UserError, match=told):
            grounder.ground_many([], "all", **options)  # type: ignore[arg-type]
    for none in (None, grounder.encode(tsp3d.Scan(*points()))):
        with pytest.raises(tsp3d.UserError, match="a scan must be a"):
            grounder.ground_many(none, "all")  # type: ignore[arg-type]


def test_scans_and_answers_are_keys_and_compare(grounder: tsp3d.Grounder):
    scans = [tsp3d.Scan(*points()) for _ in range(2)]
    scenes = [grounder.encode(scan) for scan in scans]
    answers = [grounder.ground(scene, "red") for scene in scenes]
    for one, two in (scans, scenes, answers):
        assert one == one and one != two and len({one, two}) == 2
    assert answers[0].frame == answers[1].frame


def test_what_is_no_network_device_or_tile_is_told():
    for arguments, told in (
        ({"network": "tsp3d-tiny"}, r"Grounder.from_pretrained\('tsp3d-tiny'\)"),
        ({"network": BoundsNetwork(), "device": "gpu"}, "use auto, cpu or cuda"),
        ({"network": BoundsNetwork(), "device": None}, "use auto, cpu or cuda"),
        ({"network": BoundsNetwork(), "tile": 5.0}, "tile must be 6 m or more"),
    ):
        with pytest.raises(tsp3d.UserError, match=told):
            tsp3d.Grounder(**arguments)  # type: ignore[arg-type]
    assert tsp3d.Grounder(BoundsNetwork(), device="auto").device.type in ("cpu", "cuda")


def test_weights_are_the_same_whatever_mode_they_are_loaded_in():
    with torch.inference_mode():
        network = tsp3d.Grounder.from_pretrained(device="cpu").network
    torch.set_default_dtype(torch.float64)
    try:
        other = tsp3d.Grounder.from_pretrained(device="cpu").network
    finally:
        torch.set_default_dtype(torch.float32)
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):  # type: ignore[attr-defined]
        assert not one.is_inference() and two.dtype == torch.float32 and torch.equal(one, two), name


def test_a_scan_too_large_for_the_memory_does_not_stop_the_others(grounder: tsp3d.Grounder, monkeypatch):
    large, small = tsp3d.Scan(*points(600), source="large"), tsp3d.Scan(*points())
    encode = grounder.network.encode

    def limited(xyz, rgb):
        if len(xyz) > 500:
            raise MemoryError
        return encode(xyz, rgb)

    monkeypatch.setattr(grounder.network, "encode", limited)
    results = list(grounder.ground_many([large, small], "all"))
    assert results[0].error == "large: not enough memory for this scan; thin it first" and results[1].groundings


def test_the_bundled_weights_find_what_the_demo_asks_for():
    """With everything as it ships: retrained weights have to pass this too, and code that they do not fit does not."""
    folder = Path(tsp3d.__file__).parent / "demo"
    asked = json.loads((folder / "sentences.json").read_text())["sentences"]
    scan = tsp3d.load_scan(folder / "room.npz", unit="mm")
    grounder = tsp3d.Grounder.from_pretrained(device="cpu")
    *found, piano = grounder.ground(scan, [*(entry["text"] for entry in asked), "the grand piano"])
    xyz = scan.input_frame.to_input(scan.xyz) / 1000
    for entry, result in zip(asked, found, strict=True):
        box, true = result.boxes[0], np.array(entry["box"])
        assert paired_iou(np.array([*box.center, *box.size]) / 1000, true) > 0.4, entry["text"]
        inside = np.all(np.abs(xyz - true[:3]) <= true[3:] / 2 + 0.01, axis=1)
        assert inside[result.mask].mean() > 0.7 and len(result.mask) > 0.5 * inside.sum()
    assert piano.reason.startswith("nothing fits")


def test_models_and_devices_that_are_not_there(tmp_path):
    with pytest.raises(tsp3d.UserError, match="no such model; bundled"):
        find_weights("no-such-model")
    with pytest.raises(tsp3d.UserError, match="no config.json and no model.safetensors"):
        find_weights(str(tmp_path))
    (tmp_path / "run/export").mkdir(parents=True)
    with pytest.raises(tsp3d.UserError, match="a run has its own in .*run/export"):
        find_weights(str(tmp_path / "run"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(tsp3d.UserError, match="weights cannot be loaded|cannot load the weights"):
        tsp3d.Grounder.from_pretrained(tmp_path, device="cpu")
    for part, content in (("model.safetensors", b""), ("config.json", b"{")):  # errors that are no RuntimeError
        damaged = shutil.copytree(WEIGHTS / "tsp3d-tiny", tmp_path / f"no {part}")
        (damaged / part).write_bytes(content)
        for load in (tsp3d.Grounder.from_pretrained, lambda name, device: load_network(name, torch.device(device))):
            with pytest.raises(tsp3d.UserError, match="weights cannot be loaded"):
                load(str(damaged), "cpu")
    with pytest.raises(tsp3d.UserError, match="auto, cpu or cuda"):
        pick_device("gpu")
    with pytest.raises(tsp3d.UserError, match="cuda:99"):
        pick_device("cuda:99")


def test_file_names_from_sentences_and_scans():
    assert slug("The brown chair / next to: the desk?") == "the-brown-chair-next-to-the-desk"
    assert slug("椅子") == "椅子" and slug("///") == "text" and len(slug("a" * 500)) == 40
    names = unique_prefixes(["x/room.ply", "x/room.pcd", "y/room.ply", "y/room.pcd", "z/room.ply"])
    assert len(set(names)) == 5 and names[0] == "room"


def test_files_are_whole_or_absent(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_real_network_behind_the_facade(tmp_path):
    """A small untrained GroundingNet, saved and loaded, gives the same finite boxes twice."""
    from tsp3d.models.config import load_model_config
    from tsp3d.models.net import GroundingNet

    config = load_model_config("tsp3d/configs/model/tsp3d-tiny.yaml")
    GroundingNet(config, text_folder="tsp3d/weights/text-small").eval().save_pretrained(tmp_path)
    scan = tsp3d.Scan(*points(3000))
    answers = []
    for _ in range(2):
        grounder = tsp3d.Grounder.from_pretrained(tmp_path, device="cpu")
        answers.append(grounder.ground(scan, ["the red chair", "the sofa"], top_k=2, min_score=0.0))
    assert all(answer.found for answer in answers[0])
    assert [a.boxes for a in answers[0]] == [a.boxes for a in answers[1]]
    assert len(grounder.config_hash) == 12
    shared = tsp3d.Grounder.from_pretrained(tmp_path, device="cpu")  # which has packed no weights yet
    texts = [["the red chair", "the sofa"], ["the sofa", "the lamp"], ["the desk"]]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda some: shared.ground(scan, some, min_score=0.0), texts))
    alone = [grounder.ground(scan, some, min_score=0.0) for some in texts]
    assert [[a.boxes for a in some] for some in together] == [[a.boxes for a in some] for some in alone]


def test_precision_is_checked():
    with pytest.raises(tsp3d.UserError, match="use float32, bfloat16 or int8"):
        tsp3d.Grounder.from_pretrained(device="cpu", precision="int3")
    with pytest.raises(tsp3d.UserError, match="is for the CPU"):
        set_precision(torch.nn.Identity(), "bfloat16", torch.device("cuda"), Path())


def test_int8_needs_ranges_of_these_weights(tmp_path):
    from tsp3d.models.config import load_model_config
    from tsp3d.models.net import GroundingNet
    from tsp3d.sparse import ops

    config = load_model_config("tsp3d/configs/model/tsp3d-tiny.yaml")
    net = GroundingNet(config, text_folder="tsp3d/weights/text-small").eval()
    net.save_pretrained(tmp_path)
    with pytest.raises(tsp3d.UserError, match="have no int8.json; python tools/calibrate_int8.py"):
        tsp3d.Grounder.from_pretrained(tmp_path, device="cpu", precision="int8")
    write_ranges(tmp_path, {"head.out_block_0.0": (0.0, 1 / 3)}, "a test")
    assert read_ranges(tmp_path) == {"head.out_block_0.0": (0.0, 0.33333)}
    if "conv_int8" not in ops.ON_REFERENCE:
        set_precision(net, "int8", torch.device("cpu"), tmp_path)
        assert net.get_submodule("head.out_block_0.0").inference_dtype == torch.int8
        write_ranges(tmp_path, {"head.no_block": (0.0, 1.0)}, "a test")
        with pytest.raises(tsp3d.UserError, match="is called head.no_block; use float32"):
            tsp3d.Grounder.from_pretrained(tmp_path, device="cpu", precision="int8")
    GroundingNet(config, text_folder="tsp3d/weights/text-small").save_pretrained(tmp_path)
    with pytest.raises(tsp3d.UserError, match="made for other weights"):
        read_ranges(tmp_path)
    (tmp_path / INT8).write_text('{"weights": 3, "ranges": [1]}')
    with pytest.raises(tsp3d.UserError, match="not readable"):
        read_ranges(tmp_path)


def test_bundled_weights_have_their_ranges():
    """They are to be found again (tools/calibrate_int8.py) where the weights change."""
    assert len(read_ranges(find_weights("tsp3d-tiny"))) == 20


def test_two_threads_write_one_file_apart(tmp_path):
    path = tmp_path / ("名" * 83 + ".json")  # as long as a name may be
    with replacing(path) as mine:
        writer = threading.Thread(target=write_text, args=(path, "theirs"))
        writer.start()
        writer.join()
        assert path.read_text() == "theirs"
        mine.write_text("mine")
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
