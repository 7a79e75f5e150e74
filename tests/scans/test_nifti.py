"""NIfTI in and out, against nibabel's own reading and against damaged files."""

import gzip
import hashlib
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from coopseg.errors import CoopsegError
from coopseg.scans.nifti import read_header, read_image, read_labels, write_image, write_labels
from coopseg.scans.types import Scan

AFFINE = np.diag([-1.5, -1.25, 8.0, 1.0])
SHEARED = np.array([[-1.5, 0.25, 0.5, 10], [0.125, -1.25, 1, -20], [0, 0.25, 8, 30], [0, 0, 0, 1.0]])


def volume(shape: tuple[int, ...] = (6, 5, 4), dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, shape).astype(dtype)


def store(
    path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, kind: Any = nib.Nifti1Image, **header: Any
) -> Path:
    image = kind(data, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def load(path: Path) -> Any:
    """Reads with nibabel, whose `load` promises too little to a type checker."""
    return nib.load(path)


def oblique() -> np.ndarray:
    """An orthogonal affine off every axis, as a short-axis stack has it, in float32 values."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.25, 1.25, 10]
    affine[:3, 3] = (-120.3, 88.8, 41.7)
    return affine.astype(np.float32).astype(float)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_reads_what_nibabel_reads(tmp_path: Path, kind: Any, suffix: str, dtype: Any) -> None:
    path = store(tmp_path / f"x{suffix}", volume((6, 5, 4, 3), dtype), SHEARED, kind)
    scan, expected = read_image(path), load(path)
    assert scan.data.dtype == np.float32
    np.testing.assert_array_equal(scan.data, expected.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(scan.affine, expected.affine)
    assert read_header(path).shape == (6, 5, 4, 3)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    data = np.linspace(-3, 900, 120).reshape(6, 5, 4)
    image = nib.Nifti1Image(data, AFFINE)
    image.set_data_dtype(np.int16)  # nibabel now stores integers with a slope
    nib.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_allclose(read_image(tmp_path / "x.nii.gz").data, data, atol=0.02)


def test_big_endian_and_header_extensions(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment"))
    nib.save(image, tmp_path / "x.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii").data, volume())
    labels = read_labels(tmp_path / "x.nii").data
    assert labels.dtype.isnative
    np.testing.assert_array_equal(labels, volume())


def test_trailing_singletons_are_squeezed(tmp_path: Path) -> None:
    path = store(tmp_path / "x.nii.gz", volume((6, 5, 4, 1, 1)))
    assert read_image(path).data.shape == (6, 5, 4)


def test_several_gzip_members_and_zero_padding(tmp_path: Path) -> None:
    content = store(tmp_path / "x.nii", volume()).read_bytes()
    (tmp_path / "y.nii.gz").write_bytes(
        gzip.compress(content[:400]) + gzip.compress(content[400:]) + bytes(512)
    )
    np.testing.assert_array_equal(read_image(tmp_path / "y.nii.gz").data, volume())


def refused(path: Path, message: str, read: Callable[[Path], object] = read_image) -> None:
    with pytest.raises(CoopsegError, match=message) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    refused(tmp_path / "none.nii.gz", "No such file")
    refused(tmp_path, "directory")
    (tmp_path / "x.nii.gz").write_bytes(b"")
    refused(tmp_path / "x.nii.gz", "empty")


def test_text_named_nifti(tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz"):
        (tmp_path / name).write_text("this is no scan\n" * 100)
        refused(tmp_path / name, "not a NIfTI file")
        refused(tmp_path / name, "not a NIfTI file", read_header)


@pytest.mark.parametrize("keep", [12, 100, 0.5, 0.9, -9, -1])
def test_every_truncation_of_a_gzip_file_is_seen(tmp_path: Path, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (40, 40, 5)).astype(np.int16)
    raw = store(tmp_path / "x.nii.gz", noise).read_bytes()
    (tmp_path / "y.nii.gz").write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    refused(tmp_path / "y.nii.gz", "truncated|not a NIfTI")


def test_a_truncated_plain_file(tmp_path: Path) -> None:
    raw = store(tmp_path / "x.nii", volume()).read_bytes()
    (tmp_path / "y.nii").write_bytes(raw[:-1])
    refused(tmp_path / "y.nii", "truncated")


@pytest.mark.parametrize("position", [0.3, 0.6, -6, -2])  # the last eight bytes are CRC and length
def test_a_flipped_bit_in_a_gzip_file_is_seen(tmp_path: Path, position: float) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (40, 40, 5)).astype(np.int16)
    raw = bytearray(store(tmp_path / "x.nii.gz", noise).read_bytes())
    raw[int(position * len(raw)) if isinstance(position, float) else position] ^= 0x10
    (tmp_path / "y.nii.gz").write_bytes(raw)
    refused(tmp_path / "y.nii.gz", "damaged gzip|truncated")


def test_stored_blocks_leave_only_the_crc_to_see_a_flipped_bit(tmp_path: Path) -> None:
    raw = bytearray(gzip.compress(store(tmp_path / "x.nii", volume()).read_bytes(), compresslevel=0))
    raw[-20] ^= 1  # a voxel, stored uncompressed
    (tmp_path / "y.nii.gz").write_bytes(raw)
    refused(tmp_path / "y.nii.gz", "incorrect data check")


def test_garbage_after_the_gzip_member(tmp_path: Path) -> None:
    raw = store(tmp_path / "x.nii.gz", volume()).read_bytes()
    (tmp_path / "y.nii.gz").write_bytes(raw + b"garbage")
    refused(tmp_path / "y.nii.gz", "damaged gzip")


def test_a_header_that_claims_too_much_allocates_nothing(tmp_path: Path) -> None:
    content = bytearray(store(tmp_path / "x.nii", volume()).read_bytes())
    content[40:56] = np.array([3, 1200, 1200, 1200, 1, 1, 1, 1], np.int16).tobytes()
    (tmp_path / "y.nii").write_bytes(content)
    (tmp_path / "y.nii.gz").write_bytes(gzip.compress(bytes(content)))
    tracemalloc.start()
    for name in ("y.nii", "y.nii.gz"):
        refused(tmp_path / name, "truncated")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    content = store(tmp_path / "x.nii", volume()).read_bytes()
    packer = zlib.compressobj(wbits=31)
    parts = (
        [packer.compress(content)] + [packer.compress(bytes(2**20)) for _ in range(200)] + [packer.flush()]
    )
    (tmp_path / "y.nii.gz").write_bytes(b"".join(parts))
    tracemalloc.start()
    refused(tmp_path / "y.nii.gz", "far more")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    data = volume(dtype=np.float64)
    data[1, 2, 3] = value
    refused(store(tmp_path / "x.nii.gz", data), "1 of 120 voxels are NaN or infinite")


def test_a_slope_without_an_intercept_is_refused(tmp_path: Path) -> None:
    content = bytearray(store(tmp_path / "x.nii", volume()).read_bytes())
    content[112:120] = np.array([2, np.nan], np.float32).tobytes()  # a slope without an intercept
    (tmp_path / "y.nii").write_bytes(content)
    refused(tmp_path / "y.nii", "scaled by 2 and shifted by nan")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_labels_of_every_type_are_integers(tmp_path: Path, dtype: Any) -> None:
    labels = read_labels(store(tmp_path / "x.nii.gz", volume(dtype=dtype))).data
    assert labels.dtype.kind in "iu"
    np.testing.assert_array_equal(labels, volume())


def test_labels_stored_with_a_slope(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(dtype=np.float64), AFFINE)
    image.set_data_dtype(np.uint8)  # nibabel stores 0 to 3 as 0 to 255 and a slope
    nib.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "x.nii.gz").data, volume())


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e12])
def test_an_image_is_no_label_map(tmp_path: Path, value: float) -> None:
    data = volume(dtype=np.float64)
    data[0, 0, 0] = value
    refused(store(tmp_path / "x.nii.gz", data), "labels must be integers", read_labels)


@pytest.mark.parametrize("affine", [AFFINE, SHEARED, oblique()], ids=["box", "sheared", "oblique"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_labels(tmp_path: Path, affine: np.ndarray, suffix: str) -> None:
    like = Scan(np.zeros((6, 5, 4), np.float32), affine)
    path = tmp_path / "below" / f"x{suffix}"
    write_labels(path, volume(dtype=np.int64), like=like)
    again, raw = read_labels(path), path.read_bytes()
    np.testing.assert_array_equal(again.data, volume())
    np.testing.assert_array_equal(again.affine, affine)
    block = gzip.decompress(raw) if suffix == ".nii.gz" else raw
    header = nib.Nifti1Header(block[:348], check=False)
    assert header.get_data_dtype() == np.uint8
    assert (float(header["scl_slope"]), float(header["scl_inter"])) == (1, 0)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_intent()[0] == "label"
    assert int(header["sform_code"]) == 1
    assert int(header["qform_code"]) == (0 if affine is SHEARED else 1)
    np.testing.assert_array_equal(header.get_sform(), affine)
    np.testing.assert_allclose(header.get_zooms(), like.spacing, rtol=1e-6)
    if affine is not SHEARED:
        np.testing.assert_allclose(header.get_qform(), affine, atol=1e-4)


def test_a_written_affine_survives_a_file_with_a_qform_alone(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), oblique())
    image.set_qform(oblique(), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "x.nii.gz")
    scan = read_image(tmp_path / "x.nii.gz")
    write_labels(tmp_path / "y.nii.gz", volume(), like=scan)
    np.testing.assert_array_equal(read_labels(tmp_path / "y.nii.gz").affine, scan.affine)
    np.testing.assert_allclose(scan.affine, load(tmp_path / "x.nii.gz").affine, rtol=1e-6, atol=1e-6)


def test_equal_labels_make_equal_files(tmp_path: Path) -> None:
    like = Scan(np.zeros((6, 5, 4), np.float32), AFFINE)
    digests = set()
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, volume(), like=like)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == bytes(4)  # no time in the gzip header


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (volume((6, 5, 3)), r"labels of shape \(6, 5, 3\) for a scan of shape \(6, 5, 4\)"),
        (volume() - 1, "integers from 0 to 255"),
        (volume() + 300, "integers from 0 to 255"),
        (volume(dtype=np.float32), "integers from 0 to 255, found float32"),
    ],
)
def test_labels_that_cannot_be_written(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    like = Scan(np.zeros((6, 5, 4), np.float32), AFFINE)
    with pytest.raises(CoopsegError, match=message):
        write_labels(tmp_path / "x.nii.gz", labels, like=like)
    assert list(tmp_path.iterdir()) == []


def test_only_nifti_names_are_written(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"only \.nii and \.nii\.gz"):
        write_image(tmp_path / "x.mha", volume(), affine=AFFINE)


def test_written_images(tmp_path: Path) -> None:
    data = np.random.default_rng(1).normal(size=(6, 5, 4, 2))
    write_image(tmp_path / "x.nii.gz", data, affine=SHEARED)
    scan = read_image(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(scan.data, data.astype(np.float32))
    np.testing.assert_array_equal(scan.affine, SHEARED)
    write_image(tmp_path / "y.nii.gz", volume(), affine=AFFINE, dtype=np.int16)
    assert load(tmp_path / "y.nii.gz").get_data_dtype() == np.int16


def test_acdc_header_survives_a_round_trip(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), np.diag([-1.25, -1.25, 10, 1]))
    image.set_qform(image.affine, code=1)
    image.set_sform(np.diag([-1, -1, 1, 1]), code=1)  # as ACDC is distributed
    image.header["pixdim"][1:4] = (1.25, 1.25, 10)
    nib.save(image, tmp_path / "x.nii.gz")
    scan = read_image(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(scan.spacing, (1.25, 1.25, 10))
    write_labels(tmp_path / "y.nii.gz", volume(), like=scan)
    np.testing.assert_array_equal(read_labels(tmp_path / "y.nii.gz").affine, scan.affine)


def turned_only(header: nib.Nifti1Header) -> None:
    header.set_sform(None, code=0)
    header.set_qform(oblique(), code=3)


def as_acdc(header: nib.Nifti1Header) -> None:
    header.set_sform(np.diag([-1, -1, 1, 1]), code=1)
    header.set_qform(np.diag([-1.25, -1.25, 10, 1]), code=2)


def no_codes(header: nib.Nifti1Header) -> None:
    header.set_sform(None, code=0)
    header.set_qform(None, code=0)
    header["pixdim"][1:4] = (1.5, -1.5, 8)


def in_metres(header: nib.Nifti1Header) -> None:
    header.set_sform(np.diag([0.0015, 0.0015, 0.008, 1]), code=4)
    header.set_qform(np.diag([0.0015, 0.0015, 0.008, 1]), code=4)
    header.set_xyzt_units("meter", "msec")


def sheared(header: nib.Nifti1Header) -> None:
    header.set_sform(SHEARED, code=2)
    header.set_qform(SHEARED, code=0)


KEPT = (
    "dim", "pixdim", "xyzt_units", "toffset", "slice_duration", "slice_code", "dim_info", "qform_code",
    "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x",
    "srow_y", "srow_z",
)  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 3), (6, 5), (6, 5, 4, 1)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("change", [turned_only, as_acdc, no_codes, in_metres, sheared])
def test_written_labels_keep_the_header(
    tmp_path: Path, change: Callable[[Any], None], kind: Any, shape: tuple[int, ...]
) -> None:
    """By nibabel every field of place and time is bit for bit the source's; ITK sees the same grid."""
    header = kind.header_class(endianness=">" if change is as_acdc else "<")
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm", "sec")
    change(header)
    if len(shape) == 4:
        header["pixdim"][4] = 0.04
    header["toffset"], header["slice_duration"] = 0.5, 0.02
    header["cal_max"], header["descrip"], header["aux_file"] = 900, b"Jane Doe", b"none"
    header["vox_offset"] = header.single_vox_offset
    voxels = np.random.default_rng(0).integers(0, 900, shape)
    content = header.binaryblock + bytes(4) + voxels.astype(header.get_data_dtype()).tobytes(order="F")
    source, path = tmp_path / "x.nii.gz", tmp_path / "y.nii.gz"
    source.write_bytes(gzip.compress(content))
    scan = read_image(source)
    labels = (scan.data > 450).astype(np.uint8)
    write_labels(path, labels, like=scan, names=["background", "LV"])

    again = load(path)
    assert isinstance(again, kind)
    block = gzip.decompress(path.read_bytes())[: header.sizeof_hdr]
    written = kind.header_class(block, endianness="<", check=False)  # nibabel's load mends a sign
    for key in KEPT:
        assert written[key].tobytes() == header.as_byteswapped("<")[key].tobytes(), key
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), labels.reshape(shape))
    assert (again.header.get_intent()[0], again.header.get_data_dtype()) == ("label", np.uint8)
    assert bytes(again.header["descrip"].item()).startswith(b"coopseg ")
    assert (float(again.header["cal_max"]), bytes(again.header["aux_file"].item())) == (0, b"")
    (extension,) = again.header.extensions
    assert extension.get_code() == 0
    table = ElementTree.fromstring(extension.get_content().rstrip(b"\0"))
    assert [label.text for label in table.iter("Label")] == ["LV"]
    np.testing.assert_array_equal(read_labels(path).affine, scan.affine)

    if change is sheared or kind is nib.Nifti2Image:  # ITK reads neither
        return
    expected, found = (SimpleITK.ReadImage(str(file)) for file in (source, path))
    for view in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(found, view)() == getattr(expected, view)(), view
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(found).T, labels.squeeze())


@pytest.mark.real
def test_real_scans_read_as_nibabel_reads_them(real_data: Path) -> None:
    paths = sorted((real_data / "acdc").glob("*/*_frame01.nii.gz"))[::20]
    paths += sorted((real_data / "mnms").glob("*/*/*/*_sa.nii.gz"))[::8]
    for path in paths:
        scan, expected = read_image(path), load(path)
        np.testing.assert_array_equal(scan.data, expected.get_fdata(dtype=np.float32))
        np.testing.assert_array_equal(scan.affine, expected.affine)
