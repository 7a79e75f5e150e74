"""Saves hard examples as they look early, midway and late in a training, for a person to see."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coopseg.latent.choice import SCHEMES, MaskChoice
from coopseg.scans.files import write_atomically
from coopseg.training.batches import SliceStore
from coopseg.training.rival import own_networks
from coopseg.training.step import CooperativeStep, StepChoice

FOLDER = "hard_examples"
MOMENTS = (0.1, 0.5, 1.0)  # shares of the steps
SEED = 0  # the same masks at every moment and in every run, so that only the networks differ
BATCH, SHOWN = 4, 2  # batch statistics need more slices than a page shows


def moments(steps: int) -> tuple[int, ...]:
    """Returns the steps after which examples are kept."""
    return tuple(max(1, round(share * steps)) for share in MOMENTS)


def write_hard_examples(folder: Path, number: int, step: CooperativeStep, store: SliceStore) -> None:
    """Write stepNNNNNN.npz; the networks are left as they were, and no draw of the training is used.

    The file holds uint8 arrays (2, H, W), images as 255 × [0, 1], segmentations as class indices: image x and
    label y; reconstruction x' and, for each scheme, image_SCHEME x̂ if the method masks the image code;
    prediction p and, for each scheme, shape_SCHEME p̂ if it masks the shape code. The masked share u is
    p / 2, the mean of its distribution.
    """
    networks = own_networks(step.networks, "the page of hard examples")
    kept = {name: value.clone() for name, value in networks.state_dict().items()}
    images, labels = store.plain(torch.arange(len(store)))
    chosen = _fullest(labels)
    arrays = _decode_all(step, images[chosen], labels[chosen])
    networks.load_state_dict(kept)
    networks.zero_grad(set_to_none=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(folder / f"step{number:06d}.npz", buffer.getvalue())


def _fullest(labels: Tensor) -> Tensor:
    """Returns the number of the slice with most foreground in each of BATCH equal parts of the store."""
    areas = (labels > 0).sum((1, 2)).tolist()
    bounds = np.linspace(0, len(areas), min(BATCH, len(areas)) + 1).astype(int).tolist()
    return torch.tensor([max(range(a, b), key=areas.__getitem__) for a, b in pairwise(bounds)])


def _decode_all(step: CooperativeStep, images: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Runs the training's own step on these slices, with nothing masked and then with each scheme."""
    arrays = {"image": _grey(images), "label": _bytes(labels)}
    drawn = step.sample(images, torch.Generator().manual_seed(SEED))
    share = step.settings.latent.p / 2
    names = {"image": "reconstruction", "shape": "prediction"}
    for scheme, fraction in ((None, 0.0), *((scheme, share) for scheme in SCHEMES)):
        image, shape = (mask and _only(mask, scheme, fraction) for mask in (drawn.image, drawn.shape))
        skips = tuple(_only(mask, scheme, fraction) for mask in drawn.skips)
        choice = StepChoice(drawn.noise, image, shape, skips)
        result = step.backward(images, labels, choice)
        for code, decoded in (("image", result.x_hat), ("shape", result.p_hat)):
            if decoded is not None:
                name = f"{code}_{scheme}" if scheme else names[code]
                arrays[name] = _grey(decoded) if code == "image" else _bytes(decoded.argmax(1))
    return arrays


def _only(mask: MaskChoice, scheme: str | None, fraction: float) -> MaskChoice:
    """Returns the same draws with one scheme and one masked share for every sample."""
    index = SCHEMES.index(scheme or "channel")  # makes no difference if nothing is masked
    return replace(
        mask,
        scheme=torch.full_like(mask.scheme, index),
        fraction=torch.full_like(mask.fraction, fraction),
        present=frozenset({index}),
    )


def _grey(images: Tensor) -> np.ndarray:
    return _bytes((images[:, 0].float() * 255).round().clamp(0, 255))


def _bytes(values: Tensor) -> np.ndarray:
    return values[:SHOWN].to(torch.uint8).cpu().numpy()
