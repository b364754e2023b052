"""Sentences that mean several objects or none: true by an independent reading, of every kind, the same every time."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tsp3d.data.datasets import open_dataset
from tsp3d.data.toy import write_toy_dataset
from tsp3d.synth.dataset import write_sets
from tsp3d.synth.expressions import referents
from tsp3d.synth.sets import MIX, set_expressions, set_sentences
from tsp3d.synth.types import SceneDescription
from tsp3d.synth.vocabulary import NOUNS

sys.path.insert(0, str(Path(__file__).parent))
from language_scenes import box_object, random_scene


@pytest.mark.parametrize("seed", range(6))
def test_the_objects_named_are_all_that_fit_and_none_others(seed: int) -> None:
    scene = random_scene(seed, furniture=18)
    made = set_expressions(scene, np.random.default_rng(seed), 30)
    assert len({s.text for _, s in made}) == len(made) > 10
    names = Counter(o.name for o in scene.objects)
    for e, sentence in made:
        strict, loose = (referents(e, scene, strict=reading) for reading in (True, False))
        assert sentence.target == loose == (strict if sentence.target else ())
        assert (len(sentence.target) >= 2) == (sentence.eval_type == "mt")
        known = any(names[name] for name in NOUNS[e.noun].names)
        if sentence.eval_type == "zt_w_d":
            assert known
        if sentence.eval_type == "zt_wo_d":
            assert not any(names[name] for name in NOUNS[e.noun].reads)
        by_id = {o.id: o for o in scene.objects}
        for i in sentence.target:
            assert by_id[i].name in NOUNS[e.noun].names and e.color in (None, by_id[i].color)


def test_a_room_that_can_be_read_by_eye() -> None:
    chairs = [box_object(i, "chair", i - 1.0, 1, 0.45, 0.5, 0.5, 0.9, color="red") for i in range(3)]
    table = box_object(3, "table", 0, -1.5, 0.4, 1.4, 0.8, 0.8, color="white")
    scene = SceneDescription("room", (*chairs, table), (0, 0, 1.3, 5, 5, 2.6))
    made = set_sentences(scene, np.random.default_rng(0), 60)
    several = [s for s in made if s.eval_type == "mt"]
    assert several and all(s.target == (0, 1, 2) for s in several if s.relation in ("none", "attribute"))
    assert any("three" in s.text.lower() for s in several) and any("all" in s.text.lower() for s in several)
    colours = [s.text.lower() for s in made if s.eval_type == "zt_w_d" and s.relation == "attribute"]
    assert colours and not any("red chair" in text or "white table" in text for text in colours)
    assert not any("chair" in s.text.lower() for s in made if s.eval_type == "zt_wo_d" and s.relation == "none")


def test_kinds_come_in_their_shares_and_again_the_same() -> None:
    def all_of(count: int) -> list:
        scenes = (random_scene(seed, furniture=18) for seed in range(20))
        return [s for scene in scenes for s in set_sentences(scene, np.random.default_rng(1), count)]

    made = all_of(20)
    shares = {kind: count / len(made) for kind, count in Counter(s.eval_type for s in made).items()}
    assert shares.keys() == MIX.keys() and all(abs(shares[kind] - MIX[kind]) < 0.15 for kind in MIX)
    assert any(s.relation not in ("none", "attribute") for s in made if s.eval_type == "mt")
    assert made == all_of(20)
    assert set_sentences(SceneDescription("empty", (), (0, 0, 1, 2, 2, 2)), np.random.default_rng(0)) == []


def test_they_are_added_to_a_dataset_and_read_with_the_others(tmp_path: Path) -> None:
    folder = write_toy_dataset(tmp_path / "toy", train=3)
    plain = open_dataset("synth", folder, "train")
    with pytest.raises(FileNotFoundError, match=r"make_synth\.py --sets"):
        open_dataset("synth-multi", folder, "train")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    made = write_sets(folder, 8)
    assert made["train"] > 0 and all(path.read_bytes() == content for path, content in before.items())
    first = (folder / "train/sets.jsonl").read_bytes()
    write_sets(folder, 8)
    assert (folder / "train/sets.jsonl").read_bytes() == first
    both = open_dataset("synth-multi", folder, "train")
    for index in range(len(plain)):
        old, new = plain[index].queries, both[index].queries
        assert [q.text for q in new[: len(old)]] == [q.text for q in old] and len(new) > len(old)
        for query in new:
            count = {"z": 0, "s": 1, "m": 2}[query.meta["eval_type"][0]]
            assert min(len(query.targets), 2) == count and (query.meta["kind"] == "absent") == (count == 0)
    assert len(plain) == len(both)
    with pytest.raises(FileNotFoundError, match=r"dataset\.json"):
        write_sets(tmp_path / "nowhere", 8)
    assert json.loads(first.splitlines()[0])["eval_type"] in MIX
