"""What a header claims is checked before it is believed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.header import HEADER_BYTES, Header, parse_header

PATH = Path("scan.nii")


def raw_header(
    kind: Any = nib.Nifti1Header,
    shape: tuple[int, ...] = (3, 4, 5),
    spacing: tuple[float, ...] = (1.5, 1.25, 8.0),
) -> Any:
    header = kind()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_zooms(spacing + (1.0,) * (len(shape) - 3))
    header.set_sform(np.diag([-spacing[0], -spacing[1], spacing[2], 1]), code=1)
    header["vox_offset"] = kind.single_vox_offset
    header["magic"] = kind.single_magic
    return header


def parse(header: Any) -> Header:
    return parse_header(header.binaryblock.ljust(HEADER_BYTES, b"\0"), PATH)


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_a_sound_header(kind: Any) -> None:
    header = parse(raw_header(kind))
    assert header.shape == (3, 4, 5)
    assert header.dtype == np.int16
    assert header.version == (1 if kind is nib.Nifti1Header else 2)
    assert header.end == kind.single_vox_offset + 2 * 60
    np.testing.assert_array_equal(header.affine, np.diag([-1.5, -1.25, 8, 1]))


def test_byte_order_does_not_matter() -> None:
    swapped = raw_header().as_byteswapped()
    assert parse(swapped).shape == (3, 4, 5)
    assert parse(swapped).dtype.newbyteorder("=") == np.int16


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((3, 4, 5, 1), (3, 4, 5)),
        ((3, 4, 5, 1, 1), (3, 4, 5)),
        ((3, 4, 1), (3, 4, 1)),
        ((3, 4, 5, 6), (3, 4, 5, 6)),
    ],
)
def test_trailing_axes_of_length_one_are_dropped(stored: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert parse(raw_header(shape=stored)).shape == shape


def test_two_dimensions_become_one_slice() -> None:
    header = raw_header(shape=(3, 4, 1))
    header["dim"][0] = 2
    assert parse(header).shape == (3, 4, 1)


def test_acdc_sform_of_unit_voxels_beside_a_true_qform() -> None:
    header = raw_header(spacing=(1.25, 1.5, 10.0))
    header.set_qform(np.diag([-1.25, -1.5, 10, 1]), code=1)
    header.set_sform(np.diag([-1, -1, 1, 1]), code=1)
    np.testing.assert_allclose(parse(header).affine, np.diag([-1.25, -1.5, 10, 1]), atol=1e-6)


def test_unit_sform_without_a_qform_takes_its_scales_from_pixdim() -> None:
    header = raw_header(spacing=(1.25, 1.5, 10.0))
    header.set_sform(np.diag([-1, 1, -1, 1]), code=1)
    np.testing.assert_array_equal(parse(header).affine, np.diag([-1.25, 1.5, -10, 1]))


def test_no_code_means_left_posterior_superior() -> None:
    header = raw_header()
    header["sform_code"] = 0
    np.testing.assert_array_equal(parse(header).affine, np.diag([-1.5, -1.25, 8, 1]))


def set_field(name: str, value: Any, index: int | None = None) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        if index is None:
            header[name] = value
        else:
            header[name][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_field("dim", -4, 2), r"claims the shape \(3, -4, 5\)"),
        (set_field("dim", 0, 1), "claims the shape"),
        (set_field("dim", 9, 0), "claims 9 dimensions"),
        (set_field("dim", -1, 0), "claims -1 dimensions"),
        (set_field("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), "voxels, more than"),
        (set_field("dim", [5, 3, 4, 5, 2, 3, 1, 1]), r"shape \(3, 4, 5, 2, 3\)"),
        (set_field("dim", [1, 60, 1, 1, 1, 1, 1, 1]), r"shape \(60,\)"),
        (set_field("datatype", 128), "data type"),  # RGB
        (set_field("datatype", 32), "data type complex64"),
        (set_field("datatype", 999), "unknown data type code 999"),
        (set_field("vox_offset", 16), "header puts the voxels at byte 16"),
        (set_field("vox_offset", np.nan), "header puts the voxels at byte nan"),
        (set_field("vox_offset", np.inf), "header puts the voxels at byte inf"),
        (set_field("srow_x", np.nan, 0), "NaN or infinity"),
        (set_field("srow_z", np.inf, 3), "NaN or infinity"),
        (set_field("magic", b"ni1"), "two-file NIfTI"),
        (set_field("magic", b"xyz"), "not a NIfTI file"),
        (set_field("sizeof_hdr", 7), "not a NIfTI file"),
    ],
)
def test_refused(change: Callable[[Any], None], message: str) -> None:
    header = raw_header()
    change(header)
    with pytest.raises(CoopsegError, match=message) as refusal:
        parse(header)
    assert str(refusal.value).startswith("scan.nii: ")
    assert "\n" not in str(refusal.value)


def test_singular_affines_are_refused() -> None:
    header = raw_header()
    header.set_sform([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], code=1)
    header["pixdim"][1:4] = (2**0.5, 2**0.5, 1)
    with pytest.raises(CoopsegError, match="affine is singular"):
        parse(header)
    header["sform_code"], header["pixdim"] = 0, 0
    with pytest.raises(CoopsegError, match="affine is singular"):
        parse(header)


def test_a_qform_that_is_no_rotation_is_refused() -> None:
    header = raw_header()
    header["sform_code"], header["qform_code"] = 0, 1
    header["quatern_b"] = 3
    with pytest.raises(CoopsegError, match="no rotation"):
        parse(header)


def test_too_short_for_a_header() -> None:
    with pytest.raises(CoopsegError, match="not a NIfTI file"):
        parse_header(raw_header().binaryblock[:200], PATH)
