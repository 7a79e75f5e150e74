"""Order, halves and names of training batches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from coopseg.config.settings import AugmentationSettings, Settings, TrainingSettings
from coopseg.errors import CoopsegError
from coopseg.training.batches import BatchSampler, SliceStore, make_batch, slices_per_batch


def case(number, slices=3, label=True):
    rng = np.random.default_rng(number)
    return SimpleNamespace(
        image=rng.random((slices, 16, 16), np.float32),
        label=rng.integers(0, 4, (slices, 16, 16)).astype(np.uint8) if label else None,
        ref=SimpleNamespace(id=f"p{number}_ED", image=f"p{number}.nii.gz"),
    )


def test_the_store_names_every_slice():
    store = SliceStore.from_cases([case(1), case(2, slices=2)])
    assert store.ids == ("p1_ED:slice0", "p1_ED:slice1", "p1_ED:slice2", "p2_ED:slice0", "p2_ED:slice1")
    np.testing.assert_array_equal(store.images[3, 0], case(2, slices=2).image[0])


@pytest.mark.parametrize(
    ("cases", "message"), [([], "no training cases"), ([case(1, label=False)], "p1.nii.gz")]
)
def test_a_store_needs_labelled_cases(cases, message):
    with pytest.raises(CoopsegError, match=message):
        SliceStore.from_cases(cases)


def test_every_slice_comes_once_before_any_comes_twice():
    sampler = BatchSampler(7, 3, torch.Generator().manual_seed(0))
    drawn = torch.cat([sampler.next() for _ in range(7)]).reshape(3, 7)
    assert all(sorted(row.tolist()) == list(range(7)) for row in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_order_and_augmentation_are_seeded():
    store, settings = (
        SliceStore.from_cases([case(1, slices=9)]),
        Settings(training=TrainingSettings(batch_size=6)),
    )

    def batches(seed):
        generator = torch.Generator().manual_seed(seed)
        sampler = BatchSampler(9, slices_per_batch(settings), generator)
        return torch.cat([make_batch(store, sampler.next(), settings, generator)[0] for _ in range(4)])

    assert torch.equal(batches(1), batches(1))
    assert not torch.equal(batches(1), batches(2))


def test_a_batch_larger_than_the_store_is_filled():
    assert len(BatchSampler(2, 5, torch.Generator()).next()) == 5


def test_half_of_a_batch_is_augmented_and_half_is_the_same_slices_as_they_are():
    store = SliceStore.from_cases([case(1, slices=6)])
    settings = Settings(training=TrainingSettings(batch_size=4))
    numbers = torch.tensor([4, 1])
    images, labels = make_batch(store, numbers, settings, torch.Generator().manual_seed(0))
    assert slices_per_batch(settings) == 2
    assert torch.equal(images[2:], store.images[numbers])
    assert torch.equal(labels[2:], store.labels[numbers])
    for moved, plain in zip(images[:2], images[2:], strict=True):
        assert not torch.allclose(moved, plain, atol=0.01)
    assert images.min() >= 0
    assert images.max() <= 1


def test_without_augmentation_slices_are_never_repeated():
    settings = Settings(
        augmentation=AugmentationSettings(enabled=False), training=TrainingSettings(batch_size=4)
    )
    store = SliceStore.from_cases([case(1, slices=6)])
    numbers = torch.tensor([0, 3, 5, 2])
    assert slices_per_batch(settings) == 4
    assert torch.equal(make_batch(store, numbers, settings, torch.Generator())[0], store.images[numbers])


def test_without_a_plain_half_every_slice_is_augmented():
    settings = Settings(training=TrainingSettings(batch_size=3, plain_half=False))
    store, numbers = SliceStore.from_cases([case(1, slices=6)]), torch.tensor([5, 0, 2])
    images, labels = make_batch(store, numbers, settings, torch.Generator().manual_seed(0))
    assert slices_per_batch(settings) == len(images) == len(labels) == 3
    assert all(not torch.equal(images[i], store.images[n]) for i, n in enumerate(numbers))
