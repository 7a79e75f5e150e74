"""What the log is told of a step's losses."""

from __future__ import annotations

import torch

from coopseg.training.ledger import Ledger


def test_terms_are_noted_unweighted_and_summed_weighted() -> None:
    ledger = Ledger()
    first = torch.tensor(3.0, requires_grad=True)
    assert float(ledger.add("first", first, 0.5).detach()) == 1.5
    ledger.add("second", torch.tensor(4.0), 2.0)
    assert {name: float(value) for name, value in ledger.losses.items()} == {
        "first": 3.0,
        "second": 4.0,
        "total": 9.5,
    }
    assert not any(value.requires_grad for value in ledger.losses.values())


def test_what_is_returned_carries_the_weight_into_the_gradient() -> None:
    term = torch.tensor(3.0, requires_grad=True)
    Ledger().add("term", term, 0.25).backward()
    assert float(term.grad) == 0.25
