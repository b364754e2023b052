"""The table of the study, from reports of runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks/distillation_table.py"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distillation_table", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(out: Path, name: str, ious: list[float]) -> None:
    texts = [("attribute", "the Red chair."), ("attribute", "the wooden chair"), ("near", "the red chair by it")]
    rows = [
        {"scene_id": f"room{kind == 'near'}", "iou": iou, "relation": kind, "text": text}
        for iou, (kind, text) in zip(ious, texts, strict=True)
    ]
    (out / name / "report").mkdir(parents=True)
    (out / name / "report/queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_means_and_spreads(study: ModuleType, tmp_path: Path) -> None:
    report(tmp_path, "student.none.seed0.share1", [0.6, 0.3, 0.0])
    report(tmp_path, "student.none.seed1.share1", [0.1, 0.1, 0.3])
    report(tmp_path, "born-again-ema.shuffled.seed0.share1", [0.0, 0.0, 0.0])
    report(tmp_path, "born-again-ema.none.seed0.share1", [0.9, 0.9, 0.9])
    report(tmp_path, "student.none.seed0.share0.1", [0.3, 0.0, 0.0])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in study.table(study.read_runs(tmp_path)).splitlines()[2:]
    ]
    assert rows == [
        ["100 %", "student alone", "none", "2", "50.0 ± 23.6", "16.7 ± 23.6", "50.0 ± 70.7", "50.0 ± 70.7"],
        ["100 %", "born-again-ema", "as it is", "1", "100.0", "100.0", "100.0", "100.0"],
        ["100 %", "born-again-ema", "shuffled across scenes", "1", "0.0", "0.0", "0.0", "0.0"],
        ["10 %", "student alone", "none", "1", "33.3", "0.0", "100.0", "0.0"],
    ]


def test_what_a_method_is_ahead_by(study: ModuleType, tmp_path: Path) -> None:
    report(tmp_path, "student.none.seed0.share1", [0.0, 0.3, 0.0])
    report(tmp_path, "student.none.seed1.share1", [0.3, 0.3, 0.0])
    report(tmp_path, "lar.none.seed0.share1", [0.6, 0.3, 0.3])
    report(tmp_path, "lar.none.seed1.share1", [0.6, 0.0, 0.3])
    report(tmp_path, "lar.none.seed2.share1", [0.6, 0.0, 0.3])  # without a counterpart
    (line,) = study.paired(study.read_runs(tmp_path), "lar").splitlines()[2:]
    # Gains of the three sentences: 100, 0, 100 and 0, -100, 100; means 50, -50, 100 about 100/3. Rooms: -66.7 and 66.7.
    cells = ["100 %", "student", "none", "+33.3 ± 31.4 (66.7, 0.0)", "+33.3 ± 15.7 (33.3, 33.3)"]
    cells += ["+50.0 ± 0.0 (100.0, 0.0)", "+100.0 ± 0.0 (100.0, 100.0)"]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == cells
    with pytest.raises(FileNotFoundError, match="head"):
        study.paired(study.read_runs(tmp_path), "head")
    (tmp_path / "lar.none.seed0.share1/report/queries.jsonl").write_text("")
    with pytest.raises(ValueError, match="other sentences"):
        study.paired(study.read_runs(tmp_path), "lar")


def test_no_run_is_an_error(study: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished run"):
        study.table(study.read_runs(tmp_path))
