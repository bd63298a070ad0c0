from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.modeling.conftest import draw_blobs, tiny_cfg
from unsam.checkpoint.checkpointer import save_weights
from unsam.errors import CheckpointError
from unsam.inference import Segmenter
from unsam.modeling import PromptableModel, SegmentationModel
from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.structures import MaskSet, RegionTree, read_photo


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    built = Segmenter.from_config(tiny_cfg())
    draw_blobs(built.model)
    return built


@pytest.fixture
def photo() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (60, 100, 3), dtype=np.uint8)


def test_prediction_has_one_answer_per_granularity(segmenter, photo):
    segmenter.set_image(photo)
    answer = segmenter.predict(points=[[20, 30], [90, 5]], labels=[1, 0], granularity=[0.1, 0.5, 1])
    assert answer.masks.shape == (3, 60, 100)
    assert answer.masks.dtype == bool
    assert answer.quality.shape == (3,)
    assert ((answer.quality >= 0) & (answer.quality <= 1)).all()
    np.testing.assert_allclose(answer.granularity, [0.1, 0.5, 1])
    assert answer.logits.shape[0] == 3
    single = segmenter.predict(
        points=[[20, 30], [90, 5]], labels=[1, 0], granularity=np.float32(0.5)
    )
    np.testing.assert_allclose(single.logits[0], answer.logits[1], atol=1e-4)


def test_every_kind_of_prompt_works_alone_and_together(segmenter, photo):
    segmenter.set_image(photo)
    logits = segmenter.predict(points=[[20, 30]], granularity=[0.2, 1]).logits
    for prompt in (
        {"points": [[20, 30]]},
        {"box": (10, 10, 50, 40)},
        {"mask": logits[0]},
        {"mask": logits, "granularity": [0.2, 1]},
        {"points": [[20, 30]], "labels": [0], "box": (0, 0, 100, 60), "mask": logits[:1]},
    ):
        assert segmenter.predict(**prompt).masks.shape[1:] == (60, 100)


def test_batch_equals_single_prompts_and_ignores_padding(segmenter, photo):
    segmenter.set_image(photo)
    points = np.array([[[20, 30], [50, 7]], [[99, 59], [-1, -1]]], np.float32)
    labels = np.array([[1, 0], [1, -1]])
    masks, quality, logits = segmenter.predict_batch(
        points=points, labels=labels, granularity=np.array([0.3, 0.8], np.float32)
    )
    first = segmenter.predict(points=points[0], labels=labels[0], granularity=0.3)
    second = segmenter.predict(points=points[1, :1], labels=[1], granularity=0.8)
    for index, single in enumerate((first, second)):
        np.testing.assert_allclose(logits[index].numpy(), single.logits[0], atol=1e-4)
        np.testing.assert_allclose(quality[index].item(), single.quality[0], atol=1e-5)
    again, _, _ = segmenter.predict_batch(points, labels, logits, 0.5)
    assert again.shape == masks.shape == (2, 60, 100)


def test_the_encoder_runs_once_per_photo(segmenter, photo, monkeypatch):
    calls = []
    encode = segmenter.model.image_encoder.forward

    def counted(*arguments):
        calls.append(1)
        return encode(*arguments)

    monkeypatch.setattr(segmenter.model.image_encoder, "forward", counted)
    segmenter.generate(photo, granularity=[0.1, 0.2, 0.4, 0.8, 1.0])
    assert len(calls) == 1
    segmenter.set_image(photo)
    for value in (0.1, 0.5, 1.0):
        segmenter.predict(points=[[5, 5]], granularity=[value, 1.0])
        segmenter.generate(granularity=value)
    segmenter.hierarchy()
    assert len(calls) == 2


def test_generate_and_hierarchy(segmenter, photo):
    masks = segmenter.generate(photo, granularity=0.4)
    assert isinstance(masks, MaskSet)
    assert masks.size == (60, 100)
    assert len(masks) > 0
    assert (masks.granularity == np.float32(0.4)).all()
    assert (masks.source == "model").all()
    listed = segmenter.model.automatic.granularities
    assert segmenter.generate(photo) == segmenter.generate(photo, listed)
    tree = segmenter.hierarchy(photo)
    assert isinstance(tree, RegionTree)
    assert tree.cut(0.5).shape == (60, 100)


def test_results_are_deterministic_and_leave_the_set_photo_alone(segmenter, photo):
    segmenter.set_image(photo)
    before = segmenter.predict(points=[[3, 3]])
    assert segmenter.generate(photo[::-1].copy()) == segmenter.generate(photo[::-1].copy())
    after = segmenter.predict(points=[[3, 3]])
    np.testing.assert_array_equal(before.logits, after.logits)
    assert segmenter.generate() == segmenter.generate(photo)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 1), (700, 900)])
def test_photos_of_any_size(segmenter, size):
    photo = np.full((*size, 3), 127, np.uint8)
    segmenter.set_image(photo)
    answer = segmenter.predict(points=[[size[1] - 1, size[0] - 1]], granularity=[0.1, 1.0])
    assert answer.masks.shape == (2, *size)
    assert segmenter.generate().size == size


def test_real_photo(segmenter, data_root):
    path = sorted((data_root / "bsds500" / "images" / "val").glob("*.jpg"))[0]
    photo = read_photo(path)
    assert segmenter.generate(photo).size == photo.shape[:2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"granularity": 0.05}, r"granularity is in \[0.1, 1\].*got 0.05"),
        ({"granularity": [0.5, 1.5]}, r"granularity is in \[0.1, 1\].*got 1.5"),
        ({"granularity": float("nan")}, "got nan"),
        ({"granularity": []}, r"got \[\]"),
        ({"granularity": [[0.1, 0.2], [0.3, 0.4]]}, r"a number or a list of numbers.*got \[\["),
        ({"granularity": {}}, r"a number or a list of numbers.*got \{\}"),
        ({"granularity": "fine"}, "a number or a list of numbers.*got 'fine'"),
        ({"points": [[1, 2], [3]]}, r"points are \[K, 2\].*got \[\[1, 2\], \[3\]\]"),
        ({"points": []}, "nothing to segment; pass points, a box or a mask"),
        ({"points": np.zeros((0, 2)), "labels": []}, "nothing to segment"),
        ({"points": [[100, 5]]}, r"point \(100, 5\) is outside the image of 100x60"),
        ({"points": [[5, -1]]}, "outside the image"),
        ({"points": [[float("nan"), 3]]}, "outside the image"),
        ({"points": [5, 5]}, r"points are \[K, 2\]"),
        ({"points": [[[5, 5]]]}, "predict_batch takes many"),
        ({"labels": [1, 0]}, "labels need one entry per point"),
        ({"labels": [2]}, r"labels are 1.*got \[2\]"),
        ({"labels": ["on"]}, r"labels are 1.*got \['on'\]"),
        ({"labels": [-1]}, "labels are 1"),
        ({"points": None}, "nothing to segment; pass points, a box or a mask"),
        ({"points": None, "labels": [1]}, "pass points too"),
        ({"box": (10, 10, 10, 40)}, "has no area"),
        ({"box": (10, 10, 101, 40)}, "reaches outside the image of 100x60"),
        ({"box": (10, 10, 40)}, "box is"),
        ({"box": np.zeros((2, 4))}, "box is"),
        ({"box": "all"}, "box is .*got 'all'"),
        ({"mask": np.zeros((7, 7))}, r"logits of an earlier answer.*got \(7, 7\)"),
        ({"mask": np.zeros((2, 12, 16))}, "logits of an earlier answer"),
        ({"mask": "before"}, "logits of an earlier answer.*got 'before'"),
    ],
)
def test_wrong_prompts_say_what_to_do(segmenter, photo, arguments, message):
    segmenter.set_image(photo)
    with pytest.raises(ValueError, match=message) as raised:
        segmenter.predict(**({"points": [[5, 5]]} | arguments))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"image is \[H, W, 3\].*got \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"image is \[H, W, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 4, 3), np.float32), "uint8 from 0 to 255, got float32"),
        ("photo.jpg", "read_photo reads one"),
    ],
)
def test_wrong_photos_say_what_to_do(segmenter, image, message):
    with pytest.raises(ValueError, match=message):
        segmenter.set_image(image)
    with pytest.raises(ValueError, match=message):
        segmenter.generate(image)


def test_wrong_batches_and_no_photo(segmenter, photo):
    for call in (
        lambda: segmenter.predict(points=[[1, 1]]),
        lambda: segmenter.predict_batch([[[1, 1]]], [[1]]),
        segmenter.generate,
        segmenter.hierarchy,
    ):
        with pytest.raises(ValueError, match=r"call set_image\(image\) first"):
            call()
    with pytest.raises(ValueError, match=r"granularity is in \[0.1, 1\]"):
        segmenter.generate(photo, granularity=2)
    segmenter.set_image(photo)
    with pytest.raises(ValueError, match=r"points are \[P, K, 2\]"):
        segmenter.predict_batch([[1, 1]], [1])
    with pytest.raises(ValueError, match="one for each of 1 prompts, got 2"):
        segmenter.predict_batch([[[1, 1]]], [[1]], None, [0.1, 0.2])
    for points, labels in (([[[1, 1]], [[1, 1]]], [[1], [-1]]), (np.zeros((1, 0, 2)), None)):
        with pytest.raises(ValueError, match="nothing to segment in some prompt"):
            segmenter.predict_batch(points, labels)
    logits = segmenter.predict(points=[[1, 1]]).logits
    with pytest.raises(ValueError, match="got NaN or infinity; leave it out"):
        segmenter.predict(mask=np.full_like(logits, np.nan))


@pytest.mark.parametrize("granularity", [None, 0.5, []])
def test_no_prompts_have_no_answers(segmenter, photo, granularity):
    segmenter.set_image(photo)
    masks, quality, logits = segmenter.predict_batch(
        np.zeros((0, 1, 2)), np.zeros((0, 1)), granularity=granularity
    )
    assert masks.shape == (0, 60, 100)
    assert len(quality) == len(logits) == 0


def test_an_empty_list_of_points_beside_a_box_is_none(segmenter, photo):
    segmenter.set_image(photo)
    box = (10, 10, 50, 40)
    np.testing.assert_array_equal(
        segmenter.predict(points=[], box=box).logits, segmenter.predict(box=box).logits
    )


def test_checkpoint_round_trip_and_its_errors(segmenter, photo, tmp_path):
    cfg = tiny_cfg()
    path = tmp_path / "model.safetensors"
    save_weights(segmenter.model, path, cfg.dump())
    loaded = Segmenter.from_pretrained(path)
    assert loaded.generate(photo) == segmenter.generate(photo)
    cfg.MODEL.WEIGHTS = str(path)
    assert Segmenter.from_config(cfg).generate(photo) == segmenter.generate(photo)
    cfg.MODEL.EMBED_DIM = 16
    with pytest.raises(CheckpointError):
        Segmenter.from_config(cfg)
    with pytest.raises(CheckpointError):
        Segmenter.from_pretrained(tmp_path / "missing.pth")


def test_a_saved_folder_is_loaded_again(segmenter, photo, tmp_path):
    with pytest.raises(ValueError, match="pass Segmenter"):
        Segmenter(segmenter.model, "cpu").save_pretrained(tmp_path / "model")
    folder = segmenter.save_pretrained(tmp_path / "model", {"AR@1000": 0.128})
    assert "0.128" in (folder / "README.md").read_text()
    loaded = Segmenter.from_pretrained(folder, overrides=["INFERENCE.MAX_MASKS", "3"])
    assert len(loaded.generate(photo)) <= 3
    loaded.set_image(photo)
    segmenter.set_image(photo)
    np.testing.assert_array_equal(
        loaded.predict(points=[[5, 5]]).logits, segmenter.predict(points=[[5, 5]]).logits
    )
    with pytest.raises(CheckpointError):
        segmenter.save_pretrained(folder)


def test_half_precision_is_near_and_a_wrong_one_refused(segmenter, photo):
    half = Segmenter(segmenter.model, "cpu", precision="bfloat16")
    logits = []
    for each in (segmenter, half):
        each.set_image(photo)
        logits.append(each.predict(points=[[20, 30]]).logits)
    scale = np.abs(logits[0]).max()
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.05 * scale
    with pytest.raises(ValueError, match="precision: unknown 'half'"):
        Segmenter(segmenter.model, "cpu", precision="half")


class WholePhotos(SegmentationModel):
    """A model that takes no prompts: one mask, the whole photo."""

    def __init__(self):
        super().__init__(pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))

    def resized_size(self, photo_size):
        return photo_size

    def padded_size(self, sizes):
        return sizes[0]

    def prepare(self, photo):
        return torch.from_numpy(photo).permute(2, 0, 1)

    def encode(self, images):
        return images

    def segment(self, features, frame, granularities=None):
        return MaskSet.from_masks(np.ones((1, *frame.photo_size), bool))


def test_a_model_without_prompts_segments_whole_photos(photo):
    segmenter = Segmenter(WholePhotos(), "cpu")
    assert len(segmenter.generate(photo)) == 1
    segmenter.set_image(photo)
    assert not segmenter.takes_prompts
    for ask in (
        lambda: segmenter.predict(points=[[1, 1]]),
        lambda: segmenter.predict_batch([[[1, 1]]], [[1]]),
    ):
        with pytest.raises(ValueError, match="WholePhotos segments whole photos and takes no"):
            ask()


class ThreeSquares(WholePhotos, PromptableModel):
    """A model without granularity: three squares around the click, the middle one best."""

    mask_stride = 1
    is_granular = False
    takes_masks = False
    max_points = 2
    segment = PromptableModel.segment

    def __init__(self, cfg):
        PromptableModel.__init__(
            self,
            automatic=AutomaticMasks(**AutomaticMasks.from_config(cfg)),
            pixel_mean=(0, 0, 0),
            pixel_std=(1, 1, 1),
        )

    def decode_all(self, features, prompts):
        h, w = features[0].shape[-2:]
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        px, py = prompts.points[:, 0].unbind(1)
        far = torch.maximum((x - px[:, None, None]).abs(), (y - py[:, None, None]).abs())
        sides = torch.tensor([3.0, 9.0, 6.0])
        logits = sides[:, None, None] - far[:, None]
        return logits, torch.tensor([[0.5, 0.9, 0.7]]).expand(len(logits), -1)


@pytest.fixture
def squares() -> Segmenter:
    return Segmenter(ThreeSquares(tiny_cfg()), "cpu")


def test_a_model_without_granularity_gives_all_its_answers_or_the_nearest(squares, photo):
    squares.set_image(photo)
    answers = squares.predict(points=[[50, 30]])
    assert answers.masks.sum((1, 2)).tolist() == [5**2, 17**2, 11**2]
    np.testing.assert_allclose(answers.granularity.argsort(), [0, 2, 1])
    assert answers.granularity.min() == np.float32(0.1)
    assert answers.granularity.max() == 1
    best = squares.predict(points=[[50, 30]], multimask=False)
    np.testing.assert_array_equal(best.masks[0], answers.masks[1])
    # Padding counts for nothing, neither its place nor its number.
    padded = np.full((1, 4, 2), np.nan)
    padded[0, 0] = (50, 30)
    alone, _, _ = squares.predict_batch(padded, [[1, -1, -1, -1]])
    np.testing.assert_array_equal(alone.numpy(), best.masks)
    with pytest.raises(ValueError, match="takes at most 2"):
        squares.predict_batch([[[1, 1]] * 3], [[1] * 3])
    asked = squares.predict(points=[[50, 30]], granularity=[0.1, 0.5, 1.0])
    np.testing.assert_array_equal(asked.masks, answers.masks[[0, 2, 1]])
    masks, _, _ = squares.predict_batch([[[50, 30]]] * 2, [[1]] * 2, granularity=[0.1, 1.0])
    np.testing.assert_array_equal(masks.numpy(), answers.masks[[0, 1]])


def test_whole_photos_without_granularity_keep_every_answer(squares, photo):
    squares.model.automatic = dataclasses.replace(
        squares.model.automatic, granularities=(), nms_threshold=1.0
    )
    masks = squares.generate(photo)
    assert len(masks) == 3 * 16
    assert set(np.unique(masks.score)) == set(np.float32([0.5, 0.7, 0.9]))
    assert masks.granularity.min() == np.float32(0.1)


def test_prompts_beyond_what_a_model_takes_are_one_line(squares, photo):
    squares.set_image(photo)
    with pytest.raises(ValueError, match="at most 2 point"):
        squares.predict(points=[[1, 1], [2, 2], [3, 3]])
    with pytest.raises(ValueError, match="no masks"):
        squares.predict(points=[[1, 1]], mask=np.zeros((60, 100)))


def test_a_model_of_granularity_alone_answers_at_one_when_not_asked(segmenter, photo):
    segmenter.set_image(photo)
    plain = segmenter.predict(points=[[20, 30]])
    np.testing.assert_array_equal(plain.granularity, [1.0])
    whole = segmenter.predict(points=[[20, 30]], granularity=1.0)
    np.testing.assert_array_equal(plain.logits, whole.logits)
    with pytest.raises(ValueError, match="one answer per granularity"):
        segmenter.model.decode_all(None, None)
