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
    assert not torch.allclose(images[:2], images[2:], atol=0.01)


def test_without_augmentation_slices_are_never_repeated():
    settings = Settings(
        augmentation=AugmentationSettings(enabled=False), training=TrainingSettings(batch_size=4)
    )
    store = SliceStore.from_cases([case(1, slices=6)])
    numbers = torch.tensor([0, 3, 5, 2])
    assert slices_per_batch(settings) == 4
    assert torch.equal(make_batch(store, numbers, settings, torch.Generator())[0], store.images[numbers])
