"""SAM 2 as a model of this project, with and without granularity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Sam2VideoModel

from tests.modeling.conftest import make_sample
from tests.modeling.sam2.tiny import SIZE, TINY, clicks, photos, tiny_cfg, tiny_model
from unsam.errors import ConfigError
from unsam.modeling.granular_parts import freeze_all_but_granularity
from unsam.modeling.lora import LoraLinear, merge_lora
from unsam.modeling.prompts import NEGATIVE, PADDING, POSITIVE
from unsam.modeling.sam2 import SIZES, Sam2, video_config

POINTS = torch.tensor([[[10.5, 20.5]], [[40.75, 4.0]], [[63.5, 60.5]]])


@pytest.fixture(scope="module")
def model() -> Sam2:
    return tiny_model(granular=True)


@pytest.fixture(scope="module")
def features(model):
    with torch.inference_mode():
        return model.encode(photos(2))


@pytest.fixture(autouse=True)
def no_gradient(request):
    with torch.set_grad_enabled("training" in request.node.name):
        yield


class TestGranularity:
    def test_each_prompt_of_a_batch_has_its_own(self, model, features):
        asked = [0.1, 0.5, 1.0]
        together = model.answer(features, clicks(POINTS, asked))
        assert together.logits.shape == (3, 1, SIZE // 4, SIZE // 4)
        for index, granularity in enumerate(asked):
            one = model.answer(features, clicks(POINTS[[index]], [granularity]))
            assert torch.allclose(together.logits[index], one.logits[0], atol=1e-4)
            assert torch.allclose(together.quality[index], one.quality[0], atol=1e-5)

    def test_it_changes_the_answer(self, model, features):
        same = POINTS[[0, 0]]
        logits, _ = model.decode(features, clicks(same, [0.1, 1.0]))
        assert (logits[0] - logits[1]).abs().max() > 0.01

    def test_quality_of_published_weights_has_two_sources(self, model, features):
        prompts = clicks(POINTS, [0.3, 0.6, 0.9])
        single, best = (model.answer(features, prompts, several=s) for s in (False, True))
        assert torch.equal(single.logits, best.logits)
        assert not torch.equal(single.quality, best.quality)

    def test_quality_head_of_its_own(self, features):
        cfg = tiny_cfg(granular=True)
        cfg.MODEL.GRANULARITY.QUALITY_HEAD = True
        own = tiny_model(cfg=cfg)
        prompts = clicks(POINTS, [0.3, 0.6, 0.9])
        single, best = (own.answer(features, prompts, several=s) for s in (False, True))
        assert torch.equal(single.quality, best.quality)
        assert ((single.quality > 0) & (single.quality < 1)).all()

    def test_earlier_masks_count(self, model, features):
        prompts = clicks(POINTS, [0.5, 0.5, 0.5])
        first, _ = model.decode(features, prompts)
        second, _ = model.decode(features, replace(prompts, mask_logits=first))
        assert (first - second).abs().max() > 0.01

    def test_low_rank_updates_are_on_the_28_attention_layers(self, model):
        names = [n for n, m in model.named_modules() if isinstance(m, LoraLinear)]
        assert len(names) == 28
        assert all(name.startswith("network.mask_decoder.transformer.") for name in names)

    def test_merged_updates_answer_the_same(self, features):
        merged = tiny_model(granular=True)
        prompts = clicks(POINTS, [0.2, 0.5, 1.0])
        before, _ = merged.decode(features, prompts)
        merge_lora(merged)
        after, _ = merged.decode(features, prompts)
        assert torch.allclose(before, after, atol=1e-4)

    def test_none_leaves_the_updates_out(self, model, features):
        model.decode(features, clicks(POINTS, [0.2, 0.5, 1.0]))
        plain = tiny_model()
        own = plain.state_dict()
        plain.load_state_dict({name: model.state_dict()[name] for name in own})
        found, expected = (m.answer(features, clicks(POINTS)) for m in (model, plain))
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.quality, expected.quality)


class TestPrompts:
    @pytest.mark.parametrize("granularity", [None, [0.2, 0.5, 1.0]])
    def test_padding_has_no_effect(self, model, features, granularity):
        prompts = clicks(POINTS, granularity)
        padded = replace(
            prompts,
            points=torch.cat((torch.full((3, 1, 2), 7.0), POINTS), dim=1),
            labels=torch.cat((torch.full((3, 1), PADDING), prompts.labels), dim=1),
        )
        for several in (False, True):
            found = model.answer(features, padded, several=several)
            expected = model.answer(features, prompts, several=several)
            assert torch.allclose(found.logits, expected.logits, atol=1e-4)
            assert torch.allclose(found.quality, expected.quality, atol=1e-5)
            assert torch.allclose(found.object_score, expected.object_score, atol=1e-4)

    def test_prompts_of_unequal_length(self, model, features):
        points = torch.cat((POINTS, POINTS.flip(0)), dim=1)
        labels = torch.tensor([[POSITIVE, NEGATIVE], [POSITIVE, PADDING], [POSITIVE, NEGATIVE]])
        together, _ = model.decode(features, replace(clicks(points), labels=labels))
        alone, _ = model.decode(features, clicks(POINTS[[1]]))
        assert torch.allclose(together[1], alone[0], atol=1e-4)

    @pytest.mark.parametrize("granular", [False, True])
    def test_many_prompts_are_answered_in_order(self, model, features, granular):
        count = 9
        points = torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(2)) * SIZE
        many = replace(
            clicks(points, torch.linspace(0.1, 1, count).tolist() if granular else None),
            image_of_prompt=torch.arange(count) % 2,
            mask_logits=torch.randn(count, SIZE // 4, SIZE // 4),
        )
        together = model.answer(features, many)
        for index in range(count):
            owner, mask = many.image_of_prompt[[index]], many.mask_logits[[index]]
            asked = [float(many.granularity[index])] if granular else None
            one = clicks(points[[index]], asked)
            alone = model.answer(features, replace(one, image_of_prompt=owner, mask_logits=mask))
            assert torch.allclose(together.logits[index], alone.logits[0], atol=1e-3)
            assert torch.allclose(together.quality[index], alone.quality[0], atol=1e-4)

    @pytest.mark.parametrize("granularity", [None, [0.2, 0.5, 1.0]])
    def test_each_prompt_is_about_its_photo(self, model, features, granularity):
        owners = torch.tensor([1, 0, 1])
        prompts = clicks(POINTS, granularity)
        together, _ = model.decode(features, replace(prompts, image_of_prompt=owners))
        second = model.encode(photos(2)[1:])
        alone, _ = model.decode(second, prompts)
        assert torch.allclose(together[[0, 2]], alone[[0, 2]], atol=1e-4)
        assert not torch.allclose(together[1], alone[1], atol=1e-2)

    @pytest.mark.parametrize("granularity", [None, []])
    def test_no_prompts_no_answers(self, model, features, granularity):
        none = clicks(torch.zeros(0, 1, 2), granularity)
        logits, quality = model.decode(features, none)
        assert logits.shape == (0, SIZE // 4, SIZE // 4)
        assert quality.shape == (0,)
        if granularity is None:
            assert model.decode_all(features, none)[0].shape == (0, 3, SIZE // 4, SIZE // 4)

    def test_plain_model_picks_the_answer_of_the_nearest_level(self, features):
        plain = tiny_model()
        logits, _ = plain.decode(features, clicks(POINTS, [0.1, 0.5, 1.0]))
        every, _ = plain.decode_all(features, clicks(POINTS))
        assert (logits[:, None] == every).flatten(2).all(2).any(1).all()
        assert not plain.is_granular

    def test_plain_model_names_the_granularity_it_does_not_know(self, features):
        with pytest.raises(ValueError, match="knows no granularity"):
            tiny_model().answer(features, clicks(POINTS, [0.1, 0.5, 1.0]))

    def test_points_scale_with_each_axis(self, model):
        frame = model.frame((32, 128))
        placed = model.place(np.array([[64.0, 8.0]]), np.array([False]), frame)
        assert placed.dtype == np.float32
        assert placed.tolist() == [[32.5, 16.5]]


class TestPhotos:
    def test_the_aspect_is_not_kept(self, model):
        photo = np.zeros((20, 50, 3), np.uint8)
        photo[:, 25:] = 255
        prepared = model.prepare(photo)
        assert prepared.shape == (3, SIZE, SIZE)
        assert prepared[:, :, :28].max() < 1
        assert prepared[:, :, -28:].min() > 254

    def test_masks_grow_to_the_photo(self, model):
        frame = model.frame((20, 50))
        logits = torch.where(torch.arange(SIZE // 4) < SIZE // 8, 1.0, -1.0).expand(
            1, SIZE // 4, -1
        )
        grown = model.grow(logits, frame)
        assert grown.shape == (1, 20, 50)
        assert torch.equal(grown[0, 0] > 0, torch.arange(50) < 25)
        at_once = torch.nn.functional.interpolate(logits[None], (20, 50), mode="bilinear")[0]
        assert torch.equal(grown, at_once)

    def test_too_large_a_photo_is_refused(self, model):
        with pytest.raises(ValueError, match="resize it with prepare"):
            model.encode([torch.zeros(3, SIZE + 1, SIZE)])

    def test_smaller_photos_are_padded(self, model):
        image = photos(1)[0][:, :40]
        padded = model.pixel_mean.expand(3, SIZE, SIZE).clone()
        padded[:, :40] = image
        found, expected = model.encode([image]), model.encode([padded])
        assert torch.allclose(found.embedding, expected.embedding, atol=1e-5)

    def test_whole_photo(self, model):
        frame = model.frame((40, 50))
        features = model.encode([model.prepare(np.zeros((40, 50, 3), np.uint8))])
        masks = model.segment(features, frame, [0.3, 1.0])
        assert masks.size == (40, 50)


class TestSettings:
    def test_sizes_of_the_published_models(self):
        counts = {"tiny": 38.9e6, "small": 46.1e6, "base_plus": 80.9e6, "large": 224.4e6}
        for name, size in SIZES.items():
            with torch.device("meta"):
                network = Sam2VideoModel(video_config(size, "2.1", 1024))
            total = sum(parameter.numel() for parameter in network.parameters())
            assert total == pytest.approx(counts[name], rel=2e-3), name

    def test_version_2_has_fewer_parts(self):
        with torch.device("meta"):
            old, new = (Sam2VideoModel(video_config(TINY, v, SIZE)) for v in ("2", "2.1"))
        assert len(new.state_dict()) - len(old.state_dict()) == 3

    def test_clicks_and_cells_share_one_position_code(self, model):
        parts = (
            model.network.shared_image_embedding,
            model.network.prompt_encoder.shared_embedding,
        )
        clicks_code, cells_code = (part.positional_embedding for part in parts)
        assert torch.equal(clicks_code, cells_code)

    def test_unknown_ones_are_named(self):
        cfg = tiny_cfg()
        cfg.MODEL.SAM2.SIZE = "huge"
        with pytest.raises(ConfigError, match="huge"):
            Sam2.from_config(cfg)
        with pytest.raises(ValueError, match="'3'"):
            video_config(TINY, "3", SIZE)
        with pytest.raises(ValueError, match="multiple of 32, got 100"):
            video_config(TINY, "2", 100)


class TestNumbers:
    def test_float64(self, model):
        double = tiny_model(granular=True).double()
        images, prompts = photos(1), clicks(POINTS, [0.2, 0.5, 1.0])
        exact, _ = double.decode(double.encode(images), prompts)
        single, _ = model.decode(model.encode(images), prompts)
        assert exact.dtype == torch.float64
        assert (exact - single).abs().max() < 1e-3

    def test_autocast(self, model):
        images, prompts = photos(1), clicks(POINTS, [0.2, 0.5, 1.0])
        exact, _ = model.decode(model.encode(images), prompts)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, quality = model.decode(model.encode(images), prompts)
        assert rounded.dtype == quality.dtype == torch.float32
        assert (exact - rounded).abs().max() < 0.1 * exact.abs().max()

    @pytest.mark.parametrize("granularity", [None, [0.2, 0.5, 1.0]])
    def test_compiles_as_one_graph(self, model, granularity):
        prompts = clicks(POINTS, granularity)
        encode = torch.compile(model.encode, backend="eager", fullgraph=True)
        decode = torch.compile(model.decode, backend="eager", fullgraph=True)
        features = model.encode(photos(1))
        compiled = encode(photos(1))
        assert torch.allclose(compiled.embedding, features.embedding, atol=1e-5)
        expected, _ = model.decode(features, prompts)
        assert torch.allclose(decode(compiled, prompts)[0], expected, atol=1e-4)


def test_training_teaches_only_what_granularity_adds():
    model = tiny_model(granular=True).train()
    freeze_all_but_granularity(model)
    losses = model([make_sample(0, size=(SIZE, SIZE)), make_sample(1)])
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    with_gradient = {
        name for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    assert with_gradient == {
        name
        for name, _ in model.named_parameters()
        if name.startswith("granularity.") or ".lora_" in name
    }
    moved = [model.get_parameter(name).grad.abs().max() > 0 for name in with_gradient]
    assert all(moved)


def test_training_lowers_the_loss():
    model = tiny_model(granular=True).train()
    freeze_all_but_granularity(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    batch, history = [make_sample(0, size=(SIZE, SIZE))], []
    for step in range(8):
        torch.manual_seed(step % 2)
        losses = model(batch)
        total = losses["loss_focal"] + losses["loss_dice"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert sum(history[-2:]) < sum(history[:2])
