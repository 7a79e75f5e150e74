"""Norm against torch.nn.BatchNorm2d, and what each mode touches."""

from __future__ import annotations

import torch
from torch import nn

from coopseg.networks.norm import Norm, norm_mode


def test_equals_batchnorm_in_both_modes():
    ours, theirs = Norm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_mode_neither_records_nor_learns_and_ends_with_its_block():
    norm = Norm(3)
    x = torch.randn(4, 3, 5, 5)
    with norm_mode([norm], record=False, learn=False):
        quiet = norm(x)
    assert not quiet.requires_grad
    assert norm.running_mean.abs().max() == 0
    loud = norm(x)
    torch.testing.assert_close(loud, quiet)
    assert loud.requires_grad
    assert norm.running_mean.abs().max() > 0


def test_running_statistics_make_samples_independent():
    norm = Norm(2, running=True)
    x = torch.randn(4, 2, 3, 3)
    torch.testing.assert_close(norm(x)[:2], norm(x[:2]))
