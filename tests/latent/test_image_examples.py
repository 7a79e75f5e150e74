"""The image decoder beside somebody's network: it learns, and masked codes give harder images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coopseg.latent import ImageExamples, LatentMasks


@pytest.mark.parametrize("shape", [(32, 24), (3, 32, 24)])
def test_it_learns_to_restore_and_masks_spoil_it(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dims = len(shape)
    convolution: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
    stride = (1,) * (dims - 2) + (4, 4)
    encoder = nn.Sequential(convolution(2, 16, 5, stride, 2), nn.ReLU())
    image = torch.stack([torch.rand(2, *shape), torch.rand(2, *shape) * 9 - 3], 1)
    image = nn.functional.interpolate(image[..., ::4, ::4], size=shape)  # smooth enough to be restored
    examples = ImageExamples(encoder(image), image, LatentMasks(soft=False))
    optimiser = torch.optim.Adam([*encoder.parameters(), *examples.parameters()], 0.01)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = examples.loss(encoder(image), image)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    generator, code = torch.Generator().manual_seed(0), encoder(image)
    for _ in range(5):
        hard = examples.harder(code, image, generator)
        assert not hard.requires_grad
        assert hard.shape == image.shape
        for each, whole in zip(hard, image, strict=True):
            assert whole.min() <= each.min()
            assert each.max() <= whole.max()
    kept = ImageExamples.harder(examples, code, image, generator)
    assert not torch.equal(kept, examples(code, image.shape[2:]))


def test_without_masks_it_restores() -> None:
    image, code = torch.rand(2, 1, 16, 16), torch.rand(2, 8, 4, 4)
    examples = ImageExamples(code, image, LatentMasks(p=0.0))
    plain = examples(code, image.shape[2:])
    lowest, highest = image.flatten(1).aminmax(dim=1)
    expected = plain.minimum(highest.view(-1, 1, 1, 1)).maximum(lowest.view(-1, 1, 1, 1))
    torch.testing.assert_close(examples.harder(code, image), expected)
