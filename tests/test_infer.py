"""The command line: exit codes, messages, files."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import tsp3d
import tsp3d.viz.png

BASIC_CONFIG = logging.basicConfig
ROOT = Path(__file__).resolve().parent.parent


class MiddleNetwork:
    """Answers everything with a half-metre cube in the middle."""

    config = None

    def encode(self, xyz: torch.Tensor, rgb: torch.Tensor | None) -> torch.Tensor:
        return xyz.mean(0)

    def ground(self, encoded: torch.Tensor, texts: list[str], top_k: int = 1) -> list[object]:
        box = torch.cat([encoded, torch.full((3,), 0.5)])[None]
        return [SimpleNamespace(boxes=box, scores=torch.tensor([0.75]), trace=None) for _ in texts]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pictures look like is for the tests of viz."""
    monkeypatch.setattr(tsp3d.viz.png, "PANEL", (120, 100))


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of that name, with a network that needs no weights."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # which the script sets, and this takes back
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(
        tsp3d.Grounder,
        "from_pretrained",
        classmethod(
            lambda cls, name="tsp3d-tiny", device="auto", precision="float32", turns=1: tsp3d.Grounder(
                MiddleNetwork(), name=name, turns=turns
            )
        ),
    )
    monkeypatch.setattr(logging, "basicConfig", lambda **kwargs: None)
    return module


@pytest.fixture
def infer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return tool("infer", monkeypatch)


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.npy", "c.xyz"):
        xyz = rng.random((400, 3)) * [4, 3, 2.4]
        np.save(folder / name, xyz) if name.endswith("npy") else np.savetxt(folder / name, xyz)
    return folder


def run(infer: ModuleType, *arguments: str) -> int:
    import tyro

    return infer.main(tyro.cli(infer.Options, args=arguments))


def test_json_alone_on_standard_output(infer, scans, capsys):
    assert run(infer, str(scans / "a.npy"), "--text", "the box", "--json", "-", "--up", "-y") == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["queries"][0]["found"] and content["frame"]["up"] == "-y"
    assert "the box" in captured.err  # the table


def test_folder_with_pictures_and_a_broken_scan(infer, scans, tmp_path, capsys):
    (scans / "b.ply").write_bytes(b"ply\nbroken")
    out = tmp_path / "out"
    code = run(
        infer, str(scans), "--text", "the box", "--text", "Tisch", "--out", str(out), "--json", str(out / "r.json")
    )
    assert code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and "b.ply" in errors[0]
    content = json.loads((out / "r.json").read_text())
    assert [Path(entry["scan"]).name for entry in content] == ["a.npy", "b.ply", "c.xyz"]
    assert "error" in content[1] and len(content[2]["queries"]) == 2
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(
        [f"{s}-{n}.tsp3d.{e}" for s in "ac" for n in ("1-the-box", "2-tisch") for e in ("png", "ply")] + ["r.json"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.ply", "--text", "a"], "none.ply"),
        (["{a}"], "--text"),
        (["{a}", "--text", ""], "say what to find"),
        (["{a}", "--text", "x", "--top-k", "0"], "top_k"),
        (["{a}", "--text", "x", "--min-score", "7"], "min_score"),
        (["{a}", "--text", "x", "--turns", "2"], "MiddleNetwork does not look at turned copies"),
        (["{a}", "--text", "x", "--json", "{a}/r.json"], "r.json"),
        (["{a}", "--text", "x", "--json", "{a}"], "e.g. results.json"),
        (["{a}", "--text", "x", "--out", "{a}"], "a.npy: pictures need a folder"),
        (["{a}", "--text", "x", "--json", "{a}.new", "--out", "{a}.new"], "a.npy.new: named for two results"),
        (["{a}", "--text", "x", "--json", "{a}.new", "--out", "{a}.new/sub"], "a.npy.new: named for two results"),
        (["--text", "x"], "say which scan"),
        (["{a}", "--text", "x", "--out", "{a}", "--json", "{a}.json"], "a.npy"),
    ],
)
def test_user_errors_take_one_line(infer, scans, capsys, arguments: list[str], message: str):
    assert run(infer, *(argument.format(a=scans / "a.npy") for argument in arguments)) == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line]
    assert captured.out == ""  # said before the work, not after
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]


def test_a_device_stays_one(infer, scans):
    """As a user who may replace it would find out."""
    assert run(infer, str(scans / "a.npy"), "--text", "the box", "--json", os.devnull) == 0
    assert Path(os.devnull).is_char_device()
    if Path("/dev/full").is_char_device():
        assert run(infer, str(scans / "a.npy"), "--text", "the box", "--json", "/dev/full") == 1


def test_a_link_to_a_scan_is_no_place_for_results(infer, scans, tmp_path, capsys):
    (tmp_path / "r.json").symlink_to(scans / "a.npy")
    before = (scans / "a.npy").read_bytes()
    assert run(infer, str(scans / "a.npy"), "--text", "the box", "--json", str(tmp_path / "r.json")) == 1
    assert "r.json: results under a scan's name" in capsys.readouterr().err
    assert (scans / "a.npy").read_bytes() == before


def test_several_scans_as_a_shell_lists_them(infer, scans, tmp_path):
    named = [str(scans / "c.xyz"), str(scans / "a.npy"), str(scans / "*.npy")]
    assert run(infer, *named, "--text", "the box", "--json", str(tmp_path / "r.json")) == 0
    content = json.loads((tmp_path / "r.json").read_text())
    assert [Path(entry["scan"]).name for entry in content] == ["c.xyz", "a.npy"]


def test_the_tool_stays_a_tool():
    assert len((ROOT / "tools" / "infer.py").read_text().splitlines()) < 100


def test_demo_prints_a_table_and_draws(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys):
    demo = tool("demo", monkeypatch)
    assert demo.main(demo.Options(out=tmp_path)) == 0
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.ply"))) == 3
    assert ".png" in capsys.readouterr().out


def test_demo_scan_is_small_and_its_boxes_hold_points():
    folder = ROOT / "tsp3d" / "demo"
    assert (folder / "room.npz").stat().st_size < 2e6
    scan = tsp3d.load_scan(folder / "room.npz", unit="mm")
    xyz = scan.input_frame.to_input(scan.xyz) / 1000
    sentences = json.loads((folder / "sentences.json").read_text())["sentences"]
    assert len(sentences) == 3
    for entry in sentences:
        box = np.array(entry["box"])
        assert (np.abs(xyz - box[:3]) <= box[3:] / 2 + 0.001).all(axis=1).sum() > 50, entry["text"]


def test_a_picture_that_cannot_be_written_costs_itself_alone(infer, scans, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "a-1-the-box.tsp3d.png").mkdir(parents=True)
    assert run(infer, str(scans), "--text", "the box", "--out", str(out), "--json", str(out / "r.json")) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "a-1-the-box" in captured.err and captured.out.count("0.75") == 2
    assert [entry["queries"][0]["found"] for entry in json.loads((out / "r.json").read_text())] == [True, True]
    assert (out / "c-1-the-box.tsp3d.ply").is_file()


def test_a_warning_takes_one_line(infer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging, "basicConfig", BASIC_CONFIG)
    monkeypatch.setattr(logging.root, "handlers", [])
    xyz = np.random.default_rng(0).random((400, 3)) * [4, 3, 2.4]
    xyz[:7] = np.nan
    path = tmp_path / ("long" * 30 + ".npy")
    np.save(path, xyz)
    assert run(infer, str(path), "--text", "the box") == 0
    warning = f"WARNING: {path}: dropped 7 of 400 points that are not finite numbers\n"
    assert capsys.readouterr().err == warning


@pytest.mark.parametrize("cause", [KeyboardInterrupt, SystemExit])
def test_what_was_found_before_a_stop_is_kept(infer, scans, tmp_path, monkeypatch, cause):
    def stop(result, console, files):
        if result.source.endswith("c.xyz"):
            raise cause

    monkeypatch.setattr(infer, "print_table", stop)
    (scans / "b.ply").write_bytes(b"ply\nbroken")
    (scans / "d.npy").write_bytes(b"not reached")
    arguments = [str(scans), "--text", "the box", "--json", str(tmp_path / "r.json")]
    if cause is KeyboardInterrupt:
        assert run(infer, *arguments) == 130
    else:  # as the table does where its reader has closed the pipe
        with pytest.raises(SystemExit):
            run(infer, *arguments)
    names = [Path(entry["scan"]).name for entry in json.loads((tmp_path / "r.json").read_text())]
    assert names == ["a.npy", "b.ply", "c.xyz"]


def test_standard_output_that_takes_nothing(infer, scans, capsys, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(infer, str(scans / "a.npy"), "--text", "the box", "--json", "-") == 1
        monkeypatch.undo()
    assert "error: standard output cannot be written to (No space left on device)" in capsys.readouterr().err


def test_a_file_name_that_is_no_utf8(infer, scans, tmp_path):
    name = os.fsdecode(b"caf\xe9.npy")
    (scans / "a.npy").rename(scans / name)
    assert (
        run(
            infer, str(scans / name), "--text", "the middle", "--json", str(tmp_path / "r.json"), "--out", str(tmp_path)
        )
        == 0
    )
    result = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert result["scan"].endswith("caf\N{REPLACEMENT CHARACTER}.npy") and result["queries"][0]["found"]


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(infer, scans, monkeypatch):
    monkeypatch.setattr(MiddleNetwork, "encode", None)
    assert run(infer, str(scans), "--text", "x", "--out", str(scans / "a.npy")) == 1


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return tool("view", monkeypatch)


def test_view_writes_a_page(view, scans, tmp_path, capsys):
    pytest.importorskip("viser", reason="viser is not installed")
    page = tmp_path / "page.html"
    assert run(view, str(scans / "a.npy"), "--text", "the box", "--text", "<b>it</b>", "--html", str(page)) == 0
    assert capsys.readouterr().out == f"{page}\n" and page.stat().st_size > 100_000


def test_view_serves_a_page_until_it_is_stopped(view, scans, monkeypatch, capsys):
    pytest.importorskip("viser", reason="viser is not installed")
    addresses: list[str] = []

    def look(seconds: float) -> None:
        if seconds == 3600:  # all is up: the tool waits
            addresses.append(capsys.readouterr().out.split()[0])
            assert urllib.request.urlopen(addresses[0], timeout=20).status == 200
            raise KeyboardInterrupt

    monkeypatch.setattr(view.time, "sleep", look)
    assert run(view, str(scans / "a.npy"), "--text", "the box", "--port", "18180") == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(addresses[0], timeout=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npy", "--html", "a.html"], "say what to find"),
        (["a.npy", "--text", "x", "--html", "c.xyz"], "results under a scan's name"),
        (["a.npy", "--text", "x", "--rrd", "a.npy/x.rrd"], "cannot be written"),
        (["b.ply"], "no such file"),
    ],
)
def test_view_says_in_a_line_what_it_cannot_do(view, scans, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(scans)
    assert run(view, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(path.name for path in scans.iterdir()) == ["a.npy", "c.xyz"]


@pytest.mark.parametrize("name", ["infer", "view", "demo"])
@pytest.mark.parametrize("own", ["", "active"])
def test_threads_are_told_how_to_wait_before_torch_is_loaded(name: str, own: str) -> None:
    """OpenMP reads it when its library is loaded, which comes with torch; what the user has set stays."""
    program = """
import importlib.abc, os, runpy, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            sys.exit("waits " + os.environ.get("OMP_WAIT_POLICY", "?"))
sys.meta_path.insert(0, Watch())
runpy.run_path(sys.argv[1])
"""
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": own} if own else {}
    command = [sys.executable, "-c", program, str(ROOT / "tools" / f"{name}.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == f"waits {own or 'passive'}"
