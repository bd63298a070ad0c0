"""Photos of every kind become upright 8-bit RGB; broken ones become one line."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsam.annotations.photos import check_photo
from unsam.annotations.records import read_bytes
from unsam.errors import DataError
from unsam.structures import read_photo


@pytest.fixture
def gradient() -> np.ndarray:
    """uint8 [24, 36, 3], smooth, so that lossy formats stay close."""
    rows, columns = np.mgrid[0:24, 0:36]
    return np.stack([rows * 10, columns * 7, 255 - rows * 5], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_rgb_files_come_back(tmp_path: Path, gradient: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a photo é.{suffix}"
    Image.fromarray(gradient).save(path, quality=95)
    photo = read_photo(path)
    assert photo.dtype == np.uint8
    assert photo.shape == gradient.shape
    assert np.abs(photo.astype(int) - gradient).mean() < 4


def test_other_modes_become_rgb(tmp_path: Path, gradient: np.ndarray) -> None:
    image = Image.fromarray(gradient)
    grey = np.asarray(image.convert("L"))
    deep = grey.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "16.png")
    Image.fromarray(deep).save(tmp_path / "16.tif")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "32.tif")
    image.convert("L").save(tmp_path / "grey.png")
    for name in ("16.png", "16.tif", "32.tif", "grey.png"):
        np.testing.assert_array_equal(read_photo(tmp_path / name), grey[:, :, None].repeat(3, 2))
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(read_photo(tmp_path / "cmyk.jpg").astype(int) - gradient).mean() < 6
    image.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read_photo(tmp_path / "bits.png"))) == {0, 255}
    image.quantize(16).save(tmp_path / "palette.png")
    assert read_photo(tmp_path / "palette.png").shape == gradient.shape
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tif")
    assert read_photo(tmp_path / "float.tif").max() == 255


def test_transparent_pixels_lie_on_white(tmp_path: Path, gradient: np.ndarray) -> None:
    alpha = np.full((24, 36, 1), 255, np.uint8)
    alpha[:10] = 0
    Image.fromarray(np.concatenate([gradient, alpha], 2)).save(tmp_path / "rgba.png")
    photo = read_photo(tmp_path / "rgba.png")
    assert (photo[:10] == 255).all()
    np.testing.assert_array_equal(photo[10:], gradient[10:])


def test_exif_rotation_is_applied(tmp_path: Path, gradient: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "turned.png"), np.rot90(gradient, -1))


def test_one_pixel_and_read_only_sources(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    assert read_photo(tmp_path / "one.png").tolist() == [[[1, 2, 3]]]


def test_broken_files_are_one_clear_line(tmp_path: Path, gradient: np.ndarray) -> None:
    for suffix in ("jpg", "png", "webp", "tif"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(gradient.repeat(8, 0).repeat(8, 1)).save(whole)
        data = whole.read_bytes()
        (tmp_path / f"half.{suffix}").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    bad = ["half.jpg", "half.png", "half.webp", "half.tif", "text.jpg", "empty.png", "missing.png"]
    for name in [*bad, "folder.png"]:
        with pytest.raises(DataError) as error:
            read_photo(tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    Image.new("1", (3000, 2000)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match="3000x2000 pixels are over the limit"):
        read_photo(tmp_path / "huge.png", max_pixels=5_000_000)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="pipe"):
        read_photo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="pipe"):
        read_bytes(tmp_path / "pipe.jpg")


def test_no_damage_escapes_as_another_error(tmp_path: Path, gradient: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF"):
        stream = io.BytesIO()
        Image.fromarray(gradient).save(stream, kind)
        whole = np.frombuffer(stream.getvalue(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            places = rng.integers(
                0, min(damaged.size, rng.choice([40, 200, 2000])), rng.integers(9)
            )
            damaged[places] = rng.integers(0, 256, places.size)
            for read in (
                lambda blob: read_photo("x", 10**6, blob=blob),
                lambda blob: check_photo(blob, (24, 36)),
            ):
                with contextlib.suppress(DataError):
                    read(damaged.tobytes())
