"""Windows, pixel by pixel."""

from __future__ import annotations

import torch

from coopseg.rivals.windows import covered


def test_a_window_covers_its_pixels_and_no_other() -> None:
    start, length = torch.tensor([[[0, 0], [2, 3]], [[4, 1], [1, 1]]]), torch.tensor([[[1, 2], [3, 3]]] * 2)
    found = covered(start, length, torch.Size((5, 6)))
    assert found.shape == (2, 2, 5, 6)
    for b in range(2):
        for n in range(2):
            (top, left), (height, width) = start[b, n].tolist(), length[b, n].tolist()
            for row in range(5):
                for column in range(6):
                    inside = top <= row < top + height and left <= column < left + width
                    assert bool(found[b, n, row, column]) == inside
