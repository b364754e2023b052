"""Which voxels stay, on cases worked by hand."""

import pytest
import torch

from tsp3d.models.pruning import inference_mask, positions, scores_at, top_mask
from tsp3d.sparse import SparseTensor


def test_rank_and_mask_by_hand() -> None:
    scores, offsets = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.2]), torch.tensor([0, 3, 3, 5])
    assert top_mask(scores, offsets, 1).tolist() == [False, True, False, True, False]
    assert top_mask(scores, offsets, 2).tolist() == [False, True, True, True, True]
    assert inference_mask(scores, offsets, 0.4, 0, 0).tolist() == [False, True, True, True, False]
    assert inference_mask(scores, offsets, 0.95, 1, 0).tolist() == [False, True, False, True, False]
    assert inference_mask(scores, offsets, 0.0, 0, 1).tolist() == [False, True, False, True, False]


def test_positions_are_the_centres_or_the_minimum_corners() -> None:
    x = SparseTensor(torch.zeros(1, 1), torch.tensor([[0, 4, -8, 0]], dtype=torch.int32), stride=4)
    torch.testing.assert_close(positions(x, 0.1), torch.tensor([[0.6, -0.6, 0.2]]))
    torch.testing.assert_close(positions(x, 0.1, half=False), torch.tensor([[0.4, -0.8, 0.0]]))


@pytest.mark.parametrize("half", [True, False])
def test_scores_follow_a_ramp_to_the_finer_level(half: bool) -> None:
    def grid(first: int, last: int, stride: int) -> SparseTensor:
        places = torch.cartesian_prod(torch.arange(1), *[torch.arange(first, last, stride)] * 3).int()
        return SparseTensor(torch.zeros(len(places), 1), places, stride=stride)

    slope, coarse, fine = torch.tensor([1.0, 2.0, 4.0]), grid(0, 16, 4), grid(4, 12, 2)
    coarse = coarse.replace((positions(coarse, 0.1, half) @ slope)[:, None])
    torch.testing.assert_close(scores_at(coarse, fine, half), positions(fine, 0.1, half) @ slope)
