"""Voxels of two networks beside each other, on hand-worked cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tsp3d.data import GroundingBatch
from tsp3d.distill.controls import donor_rows, other_scenes, other_sentences
from tsp3d.distill.matching import Grid, Taught, best_rows, cells, segment_logsumexp, voxel_losses
from tsp3d.models.head import VoxelBoxes

GRID = Grid(0.2, 0.0)


def line(cells: list[int], query: list[int], mass: list[float], edge: float = 0.2) -> VoxelBoxes:
    """Voxels along x with the given masses (need not sum to 1) and unit boxes around them."""
    positions = torch.tensor([[(cell + 0.5) * edge, 0.1, 0.1] for cell in cells])
    boxes = torch.cat([positions, torch.ones(len(cells), 3)], 1)
    return VoxelBoxes(positions, torch.tensor(query), boxes, torch.tensor(mass).log())


def taught(out: VoxelBoxes, confidence: float = 1.0, sentences: int = 1) -> Taught:
    full = torch.full_like(out.logits, confidence)
    return Taught(out.positions, out.query, out.logits, out.boxes, full, torch.ones(sentences))


def test_groups_by_hand() -> None:
    values, index = torch.tensor([0.0, 1.0, 200.0, -300.0]), torch.tensor([0, 0, 2, 3])
    got = segment_logsumexp(values, index, 5)
    assert torch.allclose(got[[0, 2, 3]], torch.tensor([math.log(1 + math.e), 200.0, -300.0]))
    assert got[[1, 4]].tolist() == [-math.inf] * 2
    assert best_rows(torch.tensor([3.0, 5.0, 5.0, 1.0]), torch.tensor([0, 0, 2, 2]), 4).tolist() == [1, -1, 2, -1]


def test_empty_groups_have_finite_gradients() -> None:
    values = torch.tensor([0.0, 1.0], requires_grad=True)
    total = segment_logsumexp(values, torch.tensor([0, 2]), 3)
    total[total.isfinite()].sum().backward()
    assert values.grad is not None and torch.allclose(values.grad, torch.ones(2))


def test_cells_are_those_of_the_sentence() -> None:
    query = torch.tensor([0, 0, 0, 1])
    centers = torch.tensor([[0.05, 0, 0], [0.15, 0, 0], [-0.05, 0, 0], [0.05, 0, 0]])
    cell, sentence = cells(query, centers, 0.2)
    assert cell[0] == cell[1] and len({int(c) for c in cell[[0, 2, 3]]}) == 3
    assert torch.equal(sentence[cell], query)


def test_divergence_by_hand() -> None:
    student = line([0, 1, 2], [0, 0, 0], [0.5, 0.25, 0.25])
    # The teacher has pruned voxel 2, and sees 3 where the student has nothing: 0.8 of its mass is in common.
    teacher = line([0, 1, 3], [0, 0, 0], [0.6, 0.2, 0.2])
    whole = voxel_losses(student, GRID, taught(teacher), GRID)
    expected = 0.8 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.25))
    assert whole["score"].item() == pytest.approx(expected, rel=1e-5)
    common = voxel_losses(student, GRID, taught(teacher), GRID, union=False)
    expected = 0.8 * (0.75 * math.log(0.75 / (2 / 3)) + 0.25 * math.log(0.25 / (1 / 3)))
    assert common["score"].item() == pytest.approx(expected, rel=1e-4)


def test_finer_voxels_of_a_teacher_add_up() -> None:
    student = line([0, 1], [0, 0], [0.75, 0.25])
    fine = line([0, 1, 2], [0, 0, 0], [0.25, 0.5, 0.25], edge=0.1)
    losses = voxel_losses(student, GRID, taught(fine), Grid(0.1, 0.0))
    assert losses["score"].item() == pytest.approx(0, abs=1e-6)
    # The box of a cell is that of its best voxel: the student's is 5 cm off in both cells.
    gap = 1 - 0.95 / 1.05 + 0.05**2 / (1.05**2 + 2)
    assert losses["box"].item() == pytest.approx(gap, rel=1e-4)


def test_boxes_weigh_as_the_teacher_is_sure() -> None:
    student = line([0, 1], [0, 0], [0.5, 0.5])
    moved = replace(student, boxes=student.boxes + torch.tensor([0.1, 0, 0, 0, 0, 0]))
    sure, unsure = (voxel_losses(student, GRID, taught(moved, c), GRID)["box"].item() for c in (1.0, 0.25))
    assert sure > 0 and unsure == pytest.approx(sure / 4)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_same_voxels_are_the_minimum(temperature: float) -> None:
    out = line([0, 1, 2, 0, 4], [0, 0, 0, 1, 1], [0.5, 0.1, 0.9, 2.0, 0.1])
    logits = out.logits.clone().requires_grad_()
    same = voxel_losses(replace(out, logits=logits), GRID, taught(out, sentences=2), GRID, temperature)
    assert same["score"].item() == pytest.approx(0, abs=1e-6) and same["box"].item() == pytest.approx(0, abs=1e-6)
    same["score"].backward()
    assert logits.grad is not None and float(logits.grad.abs().max()) < 1e-6
    corner = replace(out, positions=out.positions - 0.1)
    moved = voxel_losses(corner, Grid(0.2, 0.1), taught(out, sentences=2), GRID, temperature)
    assert moved["score"].item() == pytest.approx(0, abs=1e-6)


def test_nothing_in_common_is_no_loss() -> None:
    a, b = line([0, 1], [0, 0], [1.0, 1.0]), line([5, 6], [0, 0], [1.0, 1.0])
    a.logits.requires_grad_()
    losses = voxel_losses(a, GRID, taught(b), GRID)
    total = losses["score"] + losses["box"]
    total.backward()
    assert total.item() == 0 and a.logits.grad is not None and not bool(a.logits.grad.isnan().any())
    assert voxel_losses(a, GRID, taught(line([], [], [])), GRID)["score"].item() == 0


def test_donors_by_hand(batch: GroundingBatch) -> None:
    assert other_sentences(batch).tolist() == [3, 4, 5, 0, 1, 2]
    assert other_scenes(batch).tolist() == [1, 0]
    uneven = replace(batch, text_scene=torch.tensor([0, 0, 0, 2, 2]))
    assert other_sentences(uneven).tolist() == [3, 4, 3, 0, 1]
    with pytest.raises(ValueError, match="scenes_per_step=2"):
        other_sentences(replace(batch, text_scene=torch.tensor([1, 1])))
    assert donor_rows(torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([1, 0, 0, 2])).tolist() == [3, 4, 3, 0, 1, 5]


def test_shuffled_answers_keep_their_offset_from_the_voxel(batch: GroundingBatch) -> None:
    query = torch.arange(6).repeat_interleave(2)
    out = line(list(range(12)), query.tolist(), [float(i + 1) for i in range(12)])
    out.boxes[:, :3] += torch.arange(12)[:, None]
    said = replace(taught(out, sentences=6), trust=torch.arange(6.0))
    other = said.shuffled(batch)
    rows = [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]

    def offsets(value: Taught) -> Tensor:
        return value.boxes[:, :3] - value.positions

    assert torch.equal(other.logits, said.logits[rows]) and torch.equal(other.positions, said.positions)
    assert torch.allclose(offsets(other), offsets(said)[rows]) and other.trust.tolist() == [3, 4, 5, 0, 1, 2]
