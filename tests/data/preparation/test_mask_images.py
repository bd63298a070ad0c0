from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.preparation.conftest import SIZE, write_photo
from unsam.data import get_dataset
from unsam.data.datasets import BENCHMARKS
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.mask_images import (
    foreground,
    object_with_band,
    part_labels,
    prepare_mask_images,
)
from unsam.errors import DataError


def write_mask(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def box(value: int = 255, *, rows: slice = slice(2, 6), columns: slice = slice(3, 9)) -> np.ndarray:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[rows, columns] = value
    return pixels


def test_davis_as_downloaded(data_root: Path, tmp_path: Path) -> None:
    """The real frames and masks; the oracle is the set's own JSON."""
    target, root = tmp_path / "davis_val.json", data_root / "davis"
    prepare_mask_images(root / "JPEGImages", root / "Annotations", target, foreground)
    made, expected = get_dataset(str(target)), get_dataset("davis_val")
    assert [Path(item.file_name).relative_to(tmp_path / "images") for item in made] == [
        Path(item.file_name).relative_to(root.resolve()) for item in expected
    ]
    for one, other in zip(made, expected, strict=True):
        assert one.masks() == other.masks().replace(source=one.masks().source)
    with pytest.raises(DataError, match="found 14 photos, expected 345, 331 are missing"):
        counts = BENCHMARKS["unsam_davis_val"].counts
        prepare_mask_images(
            root / "JPEGImages", root / "Annotations", target, foreground, counts=counts
        )


def test_grabcut_with_the_band_that_is_ignored(data_root: Path, tmp_path: Path) -> None:
    """Real photos; their masks are painted as the benchmark has them, in grey BMP."""
    expected = get_dataset("grabcut_val")
    for record in expected:
        pixels = np.zeros(record.size, np.uint8)
        pixels[record.masks().mask(0)] = 255
        if len(record.crowd()):
            pixels[record.crowd().mask(0)] = 128
        write_mask(tmp_path / "boundary_GT" / f"{Path(record.file_name).stem}.bmp", pixels)
    target = tmp_path / "out" / "annotations" / "grabcut_val.json"
    prepare_mask_images(
        data_root / "grabcut" / "images", tmp_path / "boundary_GT", target, object_with_band
    )
    made = {Path(item.file_name).stem: item for item in get_dataset(str(target))}
    assert (tmp_path / "out" / "images" / "images").is_symlink()
    assert len(made) == len(expected)
    for record in expected:
        other = made[Path(record.file_name).stem]
        np.testing.assert_array_equal(other.masks().masks(), record.masks().masks())
        np.testing.assert_array_equal(other.crowd().masks(), record.crowd().masks())
    assert sum(len(record.crowd()) for record in made.values()) == 1


def test_two_objects_of_one_photo_in_two_files(tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "a.jpg")
    write_photo(tmp_path / "images" / "b-7.jpg")
    masks = tmp_path / "masks"
    for name, rows in (("a#1", slice(0, 2)), ("a#2", slice(4, 9)), ("b-7", slice(1, 2))):
        write_mask(masks / f"{name}.png", box(rows=rows))
    target = tmp_path / "berkeley_val.json"
    counts = PublishedCounts((2, 3), masks=3)
    line = prepare_mask_images(tmp_path / "images", masks, target, object_with_band, counts=counts)
    assert line == f"2 photos, 3 masks in {target}"
    assert [len(item.masks()) for item in get_dataset(str(target))] == [2, 1]
    before = target.read_bytes()
    with pytest.raises(DataError, match="found 3 masks, expected 5, 2 are missing") as caught:
        counts = PublishedCounts((2,), masks=5)
        prepare_mask_images(tmp_path / "images", masks, target, object_with_band, counts=counts)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == before


def test_the_first_part_is_a_part_and_the_background_is_none(tmp_path: Path) -> None:
    labels = np.full(SIZE, 40, np.uint8)
    labels[1:3, 2:5] = 0
    labels[6:9, 2:9] = 39
    write_photo(tmp_path / "images" / "n01440764_1.jpg")
    path = write_mask(tmp_path / "masks" / "n01440764_1.png", labels)
    target = tmp_path / "partimagenet_seg_val.json"
    prepare_mask_images(tmp_path / "images", tmp_path / "masks", target, part_labels)
    (record,) = get_dataset(str(target))
    assert record.masks().areas.tolist() == [6, 21]
    rows = record.load_annotations()
    assert [(row["source_category"], row["level"]) for row in rows] == [("0", 1), ("39", 1)]
    write_mask(path, np.full(SIZE, 41, np.uint8))
    with pytest.raises(DataError, match=r"expected one channel of labels 0 to 40 .* up to 41"):
        prepare_mask_images(tmp_path / "images", tmp_path / "masks", target, part_labels)


def test_palette_indices_and_colours_are_foreground_alike(tmp_path: Path) -> None:
    inside = box(1)
    palette = Image.fromarray(inside, "P")
    # Both entries are black to the eye: the index counts.
    palette.putpalette([0, 0, 0] * 2)
    palette.save(tmp_path / "p.png")
    colours = write_mask(tmp_path / "c.png", np.stack([0 * inside, 0 * inside, inside], -1))
    assert foreground(tmp_path / "p.png")[1] == foreground(colours)[1]


def test_bad_files_give_one_line(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "images" / "a.jpg")
    mask = write_mask(tmp_path / "masks" / "a.png", box())
    target = tmp_path / "out.json"

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            prepare_mask_images(tmp_path / "images", tmp_path / "masks", target, object_with_band)
        assert "\n" not in str(caught.value)
        assert not target.exists()

    write_mask(mask, box()[:5])
    refused(r"a\.jpg: masks of size \(5, 16\), photo of \(12, 16\)")
    write_mask(mask, box(100))
    refused(r"masks/a\.png: no object in it")
    mask.write_bytes(mask.read_bytes()[:50])
    refused(r"masks/a\.png: a damaged mask image .*fetch it again")
    write_mask(mask, box())
    write_mask(tmp_path / "masks" / "a#2.png", box()[:5])
    refused(r"a\.png: of size \(12, 16\), .*a#2\.png of \(5, 16\)")
    (tmp_path / "masks" / "a#2.png").rename(tmp_path / "masks" / "b.png")
    refused(r"1 of 2 photos in .*images of the masks in .*first is .*b\.png")
    write_photo(photo.with_name("a.png"))
    refused(r"a\.png: a\.jpg is a photo of the same name|a\.jpg: a\.png is a photo")
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    photo.with_name("a.png").unlink()
    refused(r"masks: no image in it")
