"""Order, halves and names of training batches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from coopseg.cases.prepare import prepare
from coopseg.config.settings import AugmentationSettings, CaseSettings, Settings, TrainingSettings
from coopseg.errors import CoopsegError
from coopseg.scans.types import Scan
from coopseg.training.augmentation import reach
from coopseg.training.batches import (
    BatchSampler,
    SliceStore,
    filled_share,
    make_batch,
    slices_per_batch,
)

SIZE = (16, 16)


def settings_of(augmentation: dict[str, Any] | None = None, **training: Any) -> Settings:
    return Settings(
        cases=CaseSettings(size=SIZE),
        augmentation=AugmentationSettings(**(augmentation or {})),
        training=TrainingSettings(**training),
    )


def case(
    number: int,
    slices: int = 3,
    label: bool = True,
    canvas: tuple[int, int] = SIZE,
    resampled: tuple[int, int] = (40, 40),
) -> Any:
    rng = np.random.default_rng(number)
    return SimpleNamespace(
        image=rng.random((slices, 1, *canvas), np.float32),
        label=rng.integers(0, 4, (slices, *canvas)).astype(np.uint8) if label else None,
        ref=SimpleNamespace(id=f"p{number}_ED", image=f"p{number}.nii.gz"),
        record=SimpleNamespace(resampled=resampled, size=canvas),
    )


def store_of(*cases: Any) -> SliceStore:
    return SliceStore.from_cases(cases, settings_of())


def test_the_store_names_every_slice_and_knows_its_scan() -> None:
    store = store_of(case(1, resampled=(10, 40)), case(2, slices=2))
    assert store.ids == ("p1_ED:slice0", "p1_ED:slice1", "p1_ED:slice2", "p2_ED:slice0", "p2_ED:slice1")
    np.testing.assert_array_equal(store.images[3], case(2, slices=2).image[0])
    assert store.inside[2].tolist() == [[0, 15], [3, 12]]  # columns, then the 10 rows of the scan
    assert store.inside[3].tolist() == [[0, 15], [0, 15]]


@pytest.mark.parametrize(
    ("cases", "message"), [([], "no training cases"), ([case(1, label=False)], "p1.nii.gz")]
)
def test_a_store_needs_labelled_cases(cases: list[Any], message: str) -> None:
    with pytest.raises(CoopsegError, match=message):
        store_of(*cases)


@pytest.mark.parametrize("shape", [(60, 52, 3), (45, 61, 3), (20, 70, 3)])
def test_a_plain_slice_is_what_a_prediction_sees(shape: tuple[int, int, int]) -> None:
    """Cropped from its canvas and scaled, to the last bit, also where the crop is larger than the scan."""
    rng = np.random.default_rng(0)
    second = (9 * rng.random(shape, np.float32),)
    scan = Scan(rng.random(shape, np.float32), np.diag([1.0, 1, 8, 1]), Path("made up"), more=second)
    settings = settings_of({"pad": 1.5}).model_copy(
        update={"cases": CaseSettings(size=(32, 32), spacing=1.1)}
    )
    label, canvas = rng.integers(0, 4, shape), reach((32, 32), settings.augmentation)
    seen, kept = (prepare(scan, settings.cases, label=label, canvas=size) for size in (None, canvas))
    store = SliceStore.from_cases([kept], settings)
    images, labels = store.plain(torch.arange(3))
    assert store.canvas == canvas > (45, 45)
    np.testing.assert_array_equal(images, seen.image)
    np.testing.assert_array_equal(labels, seen.label)
    assert kept.warnings == seen.warnings


def test_every_slice_comes_once_before_any_comes_twice() -> None:
    sampler = BatchSampler(7, 3, torch.Generator().manual_seed(0))
    drawn = torch.cat([sampler.next() for _ in range(7)]).reshape(3, 7)
    assert all(sorted(row.tolist()) == list(range(7)) for row in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_order_and_augmentation_are_seeded() -> None:
    store, settings = store_of(case(1, slices=9)), settings_of(batch_size=6)

    def batches(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        sampler = BatchSampler(9, slices_per_batch(settings), generator)
        return torch.cat([make_batch(store, sampler.next(), settings, generator)[0] for _ in range(4)])

    assert torch.equal(batches(1), batches(1))
    assert not torch.equal(batches(1), batches(2))


def test_a_batch_larger_than_the_store_is_filled() -> None:
    assert len(BatchSampler(2, 5, torch.Generator()).next()) == 5


def test_half_of_a_batch_is_augmented_and_half_is_the_same_slices_as_they_are() -> None:
    store, settings = store_of(case(1, slices=6)), settings_of(batch_size=4)
    numbers = torch.tensor([4, 1])
    images, labels = make_batch(store, numbers, settings, torch.Generator().manual_seed(0))
    assert slices_per_batch(settings) == 2
    plain = store.plain(numbers)
    assert torch.equal(images[2:], plain[0])
    assert torch.equal(labels[2:], plain[1])
    for moved, plain in zip(images[:2], images[2:], strict=True):
        assert not torch.allclose(moved, plain, atol=0.01)
    assert images.min() >= 0
    assert images.max() <= 1


def test_without_augmentation_slices_are_never_repeated() -> None:
    store, settings = store_of(case(1, slices=6)), settings_of({"enabled": False}, batch_size=4)
    numbers = torch.tensor([0, 3, 5, 2])
    assert slices_per_batch(settings) == 4
    images, _ = make_batch(store, numbers, settings, torch.Generator())
    assert torch.equal(images, store.plain(numbers)[0])


def test_without_a_plain_half_every_slice_is_augmented() -> None:
    settings = settings_of(batch_size=3, plain_half=False)
    store, numbers = store_of(case(1, slices=6)), torch.tensor([5, 0, 2])
    images, labels = make_batch(store, numbers, settings, torch.Generator().manual_seed(0))
    assert slices_per_batch(settings) == len(images) == len(labels) == 3
    assert all(not torch.equal(images[i], plain) for i, plain in enumerate(store.plain(numbers)[0]))


def test_a_share_of_the_augmented_images_gets_another_look() -> None:
    """The last ones, and neither their labels nor the plain half."""
    store, numbers = store_of(case(1, slices=6)), torch.tensor([5, 0, 2, 1])
    batches = []
    for share in (0.0, 0.5):
        settings = settings_of({"random_networks": share}, batch_size=8)
        batches.append(make_batch(store, numbers, settings, torch.Generator().manual_seed(0)))
    (before, marked), (after, marked_after) = batches
    assert torch.equal(marked, marked_after)
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [
        True, True, False, False, True, True, True, True
    ]  # fmt: skip
    assert after[2:4].amin((1, 2, 3)).tolist() == [0, 0]
    assert after[2:4].amax((1, 2, 3)).tolist() == [1, 1]


def test_the_filled_share_is_that_of_the_scans() -> None:
    """None where the scan is larger than what the map reads; a part of it where the scan is small."""
    settings = settings_of(batch_size=4)
    canvas = reach(SIZE, settings.augmentation)
    shares = [
        filled_share(
            store_of(case(1, slices=20, canvas=canvas, resampled=resampled)),
            settings,
            torch.Generator().manual_seed(0),
        )
        for resampled in ((200, 200), (20, 20), (14, 14))
    ]
    assert shares[0] < 0.01 < shares[1] < 0.5 * shares[2]
