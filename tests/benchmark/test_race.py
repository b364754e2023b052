"""Races: who is right is timed, who is wrong or fails is shown so; ratios; the JSON and the tables."""

from __future__ import annotations

import json

import pytest
import torch
from rich.console import Console

from tsp3d.benchmark import libraries, report
from tsp3d.benchmark.engine import level_of, race_engine
from tsp3d.benchmark.peers import Ours, Reference
from tsp3d.benchmark.precision import TOLERANCE
from tsp3d.benchmark.race import Case, Entry, check, oracle, race
from tsp3d.benchmark.timing import Timing
from tsp3d.benchmark.workloads import BackboneWork, InferenceWork, LayerWork
from tsp3d.io.errors import UserError

CPU = torch.device("cpu")


def case() -> Case:
    """Ours 20 ms, spconv 50, the reference 40, and one that is wrong."""
    entries = {
        "tsp3d": Entry("ok", "1", "", 1e-7, Timing((19.0, 20.0, 21.0))),
        "spconv": Entry("ok", "2", "one thread", 0.0, Timing((50.0,))),
        "reference": Entry("ok", "3", "", 0.0, Timing((40.0,))),
        "racy": Entry("wrong", "4", "", float("inf")),
    }
    return Case("work", 100, False, flop=1e9, sgemm=100.0, peers=entries)


def test_ratio_is_to_the_fastest_correct_peer():
    one = case()
    assert one.fastest_peer == "reference" and one.ratio == pytest.approx(2.0)
    assert one.slower("spconv") == pytest.approx(2.5) and one.slower("racy") is None
    assert one.rate("tsp3d") == pytest.approx(50.0)
    alone = Case("work", 1, False, 0.0, 1.0, {"tsp3d": Entry("ok", timing=Timing((1.0,)))})
    assert alone.fastest_peer is None and alone.ratio is None and alone.rate("tsp3d") is None


def test_json_of_a_case(tmp_path):
    result = report.of_engine([case()])
    head = report.header("engine", CPU, ["tools/benchmark.py", "engine", "--json", "a b.json"])
    assert [path.name for path in result.write(head, tmp_path / "r.json", None)] == ["r.json", "r.png"]
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["schema"] == "tsp3d-benchmark 1" and found["command"].endswith("--json 'a b.json'")
    assert {"cpu", "cores", "threads", "load", "gpu", "features"} <= set(found["machine"]) and found["date"]
    (one,) = found["cases"]
    assert one["ratio"] == 2.0 and one["fastest_peer"] == "reference" and one["sgemm_gflops"] == 100.0
    assert one["peers"]["tsp3d"]["share_of_sgemm"] == pytest.approx(0.5)
    assert one["peers"]["racy"] == {"status": "wrong", "version": "4", "note": "", "error": None}
    assert (tmp_path / "r.png").stat().st_size > 1000


def test_the_table_says_who_is_wrong():
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    report.of_engine([case()]).print(console)
    text = console.export_text()
    assert "wrong" in text and "2.00" in text and "50%" in text and "spconv: one thread" in text
    assert "racy is wrong in work: error inf" in text


@pytest.mark.parametrize("backward", [False, True])
def test_wrong_and_broken_peers_are_not_timed(coords, bad_peers, backward):
    work = BackboneWork(coords, (4, 6), blocks=(1, 1))
    peers = [Ours(), Reference(), *bad_peers]
    one = race(work, peers, rounds=1, backward=backward, missing={"absent": "not installed"})
    assert {name: entry.status for name, entry in one.peers.items()} == {
        "tsp3d": "ok", "reference": "ok", "wrong": "wrong", "broken": "failed", "absent": "missing",
    }  # fmt: skip
    assert [name for name, entry in one.peers.items() if entry.timing] == ["tsp3d", "reference"]
    assert one.peers["broken"].note == "RuntimeError: no kernel for this"
    error = one.peers["wrong"].error
    assert error is not None and error > TOLERANCE["float32"]
    # Measured: below 1e-5 in float32, with gradients through batch norm.
    assert all(entry.error is not None and entry.error < 1e-4 for entry in list(one.peers.values())[:2])


@pytest.mark.parametrize("name", [name for name in libraries.PEERS if name != "spconv-threads"])
def test_peers_agree_with_the_oracle(coords, name):
    try:
        peer = libraries.PEERS[name]()
    except Exception as error:
        pytest.skip(str(error))
    works = [
        LayerWork(coords, "map3", 3, 5),
        LayerWork(coords, "map2", 3, 5),
        BackboneWork(coords, (4, 6, 8), (1, 1, 1)),
    ]
    for work in works:
        entry, _ = check(peer, work, oracle(work, True), True)
        assert entry.status == "ok", f"{work.name}: {entry}"
    folded = InferenceWork(coords, (4, 6, 8), (1, 1, 1))
    entry, _ = check(peer, folded, oracle(folded, False), False)
    assert entry.status == "ok", entry
    for kind in ("map3", "map2"):
        peer.build_map(peer.tensor(coords, torch.zeros(len(coords), 1)), kind)


def test_operations_are_counted(coords):
    # A wavy floor as one dense loop counts it.
    cells = {tuple(row) for row in coords[:, 1:].tolist()}
    steps = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    pairs = sum((a + x, b + y, c + z) in cells for a, b, c in cells for x, y, z in steps)
    assert LayerWork(coords, "map3", 3, 5).flop == 2 * pairs * 15
    assert LayerWork(coords, "map2", 3, 5).flop == 2 * len(coords) * 15
    whole = BackboneWork(coords, (4,), blocks=(2,))
    assert whole.flop == 2 * pairs * (6 * 4 + 4 * 4 * 4)


def test_all_cases_of_the_engine(small_rooms):
    cases = race_engine([Ours(), Reference()], [120], [4, 64], 1, CPU, True, (4, 6))
    assert [one.title for one in cases] == [
        "3^3 map", "2^3 map, stride 2",
        "3^3, 4 to 4", "3^3, 4 to 4, forward and backward",
        "2^3 stride 2, 4 to 8", "2^3 stride 2, 4 to 8, forward and backward",
        "3^3, 64 to 64", "3^3, 64 to 64, forward and backward",
        "2^3 stride 2, 64 to 128", "2^3 stride 2, 64 to 128, forward and backward",
        "backbone 4, 6, with maps", "backbone 4, 6, with maps, forward and backward",
        "backbone 4, 6, with maps, norms folded",
    ]  # fmt: skip
    assert cases[6].voxels < cases[2].voxels == 120
    assert all(one.ratio is not None and one.sgemm > 0 for one in cases)
    assert cases[3].flop == 3 * cases[2].flop
    assert [level_of(c) for c in (16, 32, 48, 64, 128, 256, 512)] == [0, 0, 1, 1, 2, 3, 3]


def test_unknown_and_missing_peers(monkeypatch):
    with pytest.raises(UserError, match="torchsparse.*reference"):
        libraries.make_peers(("reference", "torchsparse"))
    monkeypatch.setitem(__import__("sys").modules, "spconv", None)
    monkeypatch.setitem(__import__("sys").modules, "spconv.pytorch", None)
    peers, missing = libraries.make_peers(("reference", "spconv"))
    assert [peer.name for peer in peers] == ["tsp3d", "reference"] and "spconv.pytorch" in missing["spconv"]
