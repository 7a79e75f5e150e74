"""Networks beside somebody's own: any size, two dimensions or three, and they learn what they are for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from coopseg.errors import CoopsegError
from coopseg.networks import Refiner


@pytest.mark.parametrize("shape", [(33, 40), (5, 24, 31)])
def test_a_refiner_learns_to_fill_a_hole(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape[-2:]], indexing="ij"))
    label = (grid.norm(dim=0) < 0.6).long().expand(1, *shape)
    seen = F.one_hot(label, 2).movedim(-1, 1).float()
    seen[:, 1][..., 14:18, 14:18] = 0  # a hole in the disc
    seen[:, 0] = 1 - seen[:, 1]
    stn = Refiner(2, dims=len(shape), width=4, doublings=2)
    assert stn(seen).shape == seen.shape
    optimiser = torch.optim.Adam(stn.parameters(), 0.02)
    for _ in range(40):
        optimiser.zero_grad()
        F.cross_entropy(stn(seen), label).backward()
        optimiser.step()
    before, after = ((found.argmax(1) != label).sum() for found in (seen, stn(seen)))
    assert after < before / 2


def test_one_dimension_is_refused() -> None:
    with pytest.raises(CoopsegError, match="2-D or 3-D"):
        Refiner(2, dims=1)
