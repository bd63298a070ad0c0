"""Photos with masks drawn by people, as they are and disturbed."""

from __future__ import annotations

import json
from collections import defaultdict

import cv2
import numpy as np
import pytest

from unsam.structures import MaskSet, read_photo

NUM_PHOTOS = 12
MIN_AREA = 400
BLOCK = 8


def blocky(masks: MaskSet) -> MaskSet:
    """The masks at one value per 8x8 block, as patches of a ViT give them."""
    height, width = masks.size
    cells = (-(-width // BLOCK), -(-height // BLOCK))
    out = []
    for index in range(len(masks)):
        mask = masks.mask(index).astype(np.float32)
        small = cv2.resize(mask, cells, interpolation=cv2.INTER_AREA) > 0.5
        out.append(small.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])
    return MaskSet.from_masks(np.stack(out))


def dilated(masks: MaskSet, radius: int = 3) -> MaskSet:
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return MaskSet.from_masks(
        np.stack([cv2.dilate(masks.mask(i).astype(np.uint8), kernel) for i in range(len(masks))])
    )


@pytest.fixture(scope="session")
def human_masks(data_root):
    """Photos of BSDS500 val, each with its ten largest distinct masks (whole photos left out)."""
    record = json.loads((data_root / "bsds500" / "bsds500_val.json").read_text())
    by_image = defaultdict(list)
    for annotation in record["annotations"]:
        if annotation["distinct"] and annotation["area"] >= MIN_AREA:
            by_image[annotation["image_id"]].append(annotation)
    pairs = []
    for image in record["images"][:NUM_PHOTOS]:
        name = image["file_name"].split("/")[-1]
        photo = read_photo(data_root / "bsds500" / "images" / "val" / name)
        masks = MaskSet.from_coco(by_image[image["id"]], photo.shape[:2])
        masks = masks.filter(masks.areas < 0.8 * photo[..., 0].size)
        pairs.append((photo, masks.sort("area").filter(np.arange(min(10, len(masks))))))
    return pairs


@pytest.fixture(scope="session")
def shapes():
    """A photo of plain shapes on plain ground, with a little noise, and their exact masks."""
    height, width = 160, 200
    masks = np.zeros((4, height, width), np.uint8)
    cv2.ellipse(masks[0], (60, 60), (40, 25), 20, 0, 360, 1, -1)
    cv2.fillPoly(masks[1], [np.array([[120, 20], [190, 50], [140, 100]])], 1)
    masks[2, 120:, :90] = 1
    cv2.circle(masks[3], (160, 130), 18, 1, -1)
    photo = np.full((height, width, 3), (60, 110, 70), np.float64)
    for mask, color in zip(
        masks, [(200, 60, 50), (60, 70, 200), (220, 210, 90), (20, 20, 30)], strict=True
    ):
        photo[mask > 0] = color
    photo += np.random.default_rng(0).normal(0, 2, photo.shape)
    return photo.clip(0, 255).astype(np.uint8), MaskSet.from_masks(masks)
