"""Making hard examples touches nothing, and rises are counted as a loop would."""

from __future__ import annotations

import torch

from coopseg.config.settings import LatentSettings
from coopseg.latent.choice import sample_choice
from coopseg.latent.hard import decode_masked, rise_by_scheme
from coopseg.latent.masks import apply_mask, build_mask
from coopseg.networks.decoder import Decoder

SETTINGS = LatentSettings()


def test_decoding_a_masked_code_leaves_no_trace() -> None:
    decoder, code = Decoder(4, 2), torch.rand(3, 16, 2, 2)
    choice = sample_choice(code.shape, SETTINGS, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    gradient = torch.randn_like(code)
    hard = decode_masked(decoder, code, choice=choice, gradient=gradient, settings=SETTINGS)
    assert not hard.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    mask = build_mask(choice, code=code, gradient=gradient, settings=SETTINGS)
    torch.testing.assert_close(hard, decoder(apply_mask(code, mask)).detach())


def test_rises_are_sums_by_scheme() -> None:
    choice = sample_choice((20, 8, 2, 2), SETTINGS, torch.Generator().manual_seed(1))
    clean, hard = torch.rand(20), torch.rand(20)
    found = rise_by_scheme(choice, clean=clean, hard=hard)
    for scheme in range(3):
        mine = choice.scheme == scheme
        expected = torch.stack([clean[mine].sum(), hard[mine].sum(), mine.sum().float()])
        torch.testing.assert_close(found[scheme], expected)
