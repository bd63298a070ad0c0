"""The gallery: one file that needs no other, counts that are those of the JSON, nothing fatal."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.visualization.test_levels import quarters
from unsam.errors import DataError
from unsam.structures import MaskSet
from unsam.visualization import bar_chart, write_gallery
from unsam.visualization.gallery import PAPER_GRANULARITY
from unsam.visualization.pseudo_mask_folder import SetCounts, granularity_bins

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page; fails where tags do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write_set(folder: Path, names: list[str], failures: dict[str, str] | None = None) -> Path:
    """Write photos and masks as `unsam pseudo-masks` does; return the folder of masks."""
    photos, output = folder / "photos", folder / "masks"
    images = {}
    for number, name in enumerate(names):
        masks = quarters().filter(np.arange(9 - number % 3))
        photo = np.full((32, 32, 3), 20 * number, np.uint8)
        for path in (photos / name, output / f"{name}.json"):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(photos / name)
        (output / f"{name}.json").write_text(json.dumps(masks.to_sa1b(name, number)))
        images[name] = {"sha256": "0", "masks": len(masks), "json": f"{name}.json"}
    manifest: dict[str, Any] = {
        "version": 1,
        "image_root": str(photos),
        "config": {"PSEUDO_MASKS": {"HIERARCHY": "regions", "DIVIDE": {"NAME": "ncut"}}},
        "images": images,
        "failures": failures or {},
    }
    (output / "manifest.json").write_text(json.dumps(manifest))
    return output


def test_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["a.png", "b/c.png"])
    path = write_gallery(folder)
    assert path == folder / "gallery.html"
    page = Page(path)
    pictures = page.all("img")
    assert len(pictures) == 2 * 6
    assert all((item["src"] or "").startswith("data:image/") for item in pictures)
    assert all(item["alt"] for item in pictures)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [item["href"] or "" for item in page.all("a")]
    assert targets
    assert all(target.startswith("#") and target[1:] in ids for target in targets)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.text)
    assert not page.all("script")
    assert not list(folder.glob(".*"))
    for svg in re.findall(r"<svg.*?</svg>", page.text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_two_calls_write_the_same_bytes(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["a.png", "c.png"])
    first = write_gallery(folder, tmp_path / "1" / "page.html").read_bytes()
    assert write_gallery(folder, tmp_path / "2" / "page.html").read_bytes() == first


def test_names_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert('1')</script> & \"x\".png".replace("/", "")
    folder = write_set(tmp_path / "<b>", [name], {"<i>bad</i>.png": "<u>why</u>"})
    page = Page(write_gallery(folder))
    assert {"script", "i", "u"}.isdisjoint(tag for tag, _ in page.tags)
    assert name in (page.all("img")[0]["alt"] or "")
    assert "&lt;u&gt;why&lt;/u&gt;" in page.text


def test_names_that_are_no_text_are_shown(tmp_path: Path) -> None:
    page = Page(write_gallery(write_set(tmp_path, ["caf\udce9.png"], {"\udcff": "\udcff"})))
    assert "caf?.png" in page.text


def test_counts_are_those_of_the_json(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["a.png", "b.png", "c.png"])
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.png.json"))]
    values = [item["granularity"] for record in records for item in record["annotations"]]
    counts = SetCounts()
    for record in records:
        counts.add(record)
    assert counts.masks == [9, 8, 7]
    assert counts.depths == [3, 3, 3]
    assert counts.roots == 3
    assert counts.sources == {"conquer": 24}
    expected = [sum(low <= round(10 * value) < low + 1 for value in values) for low in range(1, 10)]
    expected[-1] += sum(value == 1.0 for value in values)
    np.testing.assert_array_equal(counts.bins, expected)
    page = Page(write_gallery(folder))
    shares = [100 * count / 24 for count in expected]
    for share in shares:
        assert f"{share:.1f} %" in page.text or share == 0
    for share in PAPER_GRANULARITY:
        assert f">{share:.1f} %<" in page.text or f">{share:.2g} %<" in page.text


@pytest.mark.parametrize("seed", range(3))
def test_bins_are_those_of_numpy(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0.1, 1.0, 5000)
    np.testing.assert_array_equal(
        granularity_bins(values), np.histogram(values, np.linspace(0.1, 1.0, 10))[0]
    )
    edges = np.arange(1, 11) / 10
    assert granularity_bins(edges).tolist() == [1] * 8 + [2]
    assert granularity_bins(edges.astype(np.float32)).tolist() == [1] * 8 + [2]


FIRST, RECORD = ("annotations", 0), ()
BROKEN_RECORDS: dict[str, tuple[tuple[str | int, ...], str, Any]] = {
    "broken mask": ((*FIRST, "segmentation"), "counts", "0"),
    "no mask": (FIRST, "segmentation", None),
    "circle": (FIRST, "parent_id", 1),
    "granularity": (FIRST, "granularity", "fine"),
    "annotations": (RECORD, "annotations", {"1": 2}),
    "annotation": (RECORD, "annotations", [5]),
    "no size": (RECORD, "image", {}),
    "size of another kind": (("image",), "width", "wide"),
}
BROKEN_TEXTS = {
    "half a json": '{"image": {"hei',
    "a list": "[1, 2]",
    "deeply nested": "[" * 100_000,
}
BROKEN_PHOTOS = ("no json", "no photo", "broken photo", "another size")


def spoil(folder: Path, kind: str) -> None:
    """Spoil the photo b.png, or its masks, in one of many ways."""
    path, photo = folder / "b.png.json", folder.parent / "photos" / "b.png"
    if kind in BROKEN_TEXTS:
        path.write_text(BROKEN_TEXTS[kind])
    elif kind in BROKEN_RECORDS:
        record = json.loads(path.read_text())
        where, key, value = BROKEN_RECORDS[kind]
        inner = record
        for step in where:
            inner = inner[step]
        inner[key] = value
        path.write_text(json.dumps(record))
    elif kind == "broken photo":
        photo.write_bytes(b"no photo")
    elif kind == "another size":
        Image.new("RGB", (31, 32)).save(photo)
    else:
        (path if kind == "no json" else photo).unlink()


@pytest.mark.parametrize("kind", [*BROKEN_TEXTS, *BROKEN_RECORDS, *BROKEN_PHOTOS])
def test_one_bad_photo_is_listed_and_the_others_are_shown(tmp_path: Path, kind: str) -> None:
    folder = write_set(tmp_path, ["a.png", "b.png", "c.png"])
    spoil(folder, kind)
    page = Page(write_gallery(folder))
    assert len(page.all("section")) == 2
    assert "could not show: 1" in page.text
    listed = page.text.split("could not show: 1")[1]
    assert "<td>b.png</td>" in listed
    assert "a.png" not in listed


def test_failures_of_the_run_are_listed(tmp_path: Path) -> None:
    page = Page(write_gallery(write_set(tmp_path, ["a.png"], {"bad.png": "corrupt or truncated"})))
    assert "could not use: 1" in page.text
    assert "corrupt or truncated" in page.text


def test_no_photo_to_show_is_an_error_and_leaves_no_page(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["a.png", "b.png"])
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(DataError, match=r"none of the 2 photos.*--image-root"):
        write_gallery(folder)
    assert not list(folder.glob("*.html"))
    assert not list(folder.glob(".*"))


def test_photos_that_moved_are_found(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["a.png", "b/c.png"])
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    page = Page(write_gallery(folder, image_root=tmp_path / "elsewhere"))
    assert len(page.all("section")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable manifest"),
        ("{}", "not a readable manifest"),
        ('{"images": {"a": {"json": 3}}, "image_root": "/"}', "not a manifest"),
        ('{"images": {"a": {"shard": "masks-00000.tar"}}, "image_root": "/"}', "shards"),
        ('{"images": {}, "image_root": "/"}', "no masks"),
    ],
)
def test_a_broken_manifest_is_an_error_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=message):
        write_gallery(tmp_path)


def test_wrong_folders_and_counts_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_gallery(tmp_path / "none")
    with pytest.raises(DataError, match="no masks"):
        write_gallery(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        write_gallery("")
    with pytest.raises(DataError, match="max_photos"):
        write_gallery(tmp_path, max_photos=0)


def test_photos_that_are_shown_are_spread_and_counts_are_of_all(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(10)]
    folder = write_set(tmp_path, names)
    page = Page(write_gallery(folder, max_photos=3))
    shown = [item["alt"] for item in page.all("img") if "photo" in (item["alt"] or "")]
    assert shown == ["00.png, the photo", "03.png, the photo", "06.png, the photo"]
    assert "7 more photos" in page.text
    assert "81 masks" in page.text
    (tmp_path / "photos" / "03.png").unlink()
    page = Page(write_gallery(folder, max_photos=3))
    assert len(page.all("section")) == 3
    assert "could not show: 1" in page.text


def test_a_photo_without_masks_says_so(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["a.png"])
    record = MaskSet.empty((32, 32)).to_sa1b("a.png")
    (folder / "a.png.json").write_text(json.dumps(record))
    assert "No masks were found" in Page(write_gallery(folder)).text


def test_loose_files_of_sa1b_are_shown_too(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "sa1b_layout"
    page = Page(write_gallery(folder, tmp_path / "page.html", max_photos=2))
    assert len(page.all("section")) == 2
    assert "human" in page.text


def test_bars_are_as_long_as_their_values() -> None:
    svg = ElementTree.fromstring(
        bar_chart(
            "a & b", ["x", "y"], {"s": [10.0, 5.0], "t": [0.0, 2.5]}, "%", {"s": [(1, 20), (5, 5)]}
        )
    )
    assert svg.get("aria-label") == "a & b"
    widths = [float(r.get("width", "0")) for r in svg.iter() if r.tag.endswith("rect")]
    s, t = widths[2::2], widths[3::2]
    assert s[0] == pytest.approx(2 * s[1], rel=1e-3)
    assert s[1] == pytest.approx(2 * t[1], rel=1e-3)
    assert ElementTree.fromstring(bar_chart("none", [], {})).tag.endswith("svg")
