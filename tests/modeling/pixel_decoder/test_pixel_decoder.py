from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.modeling.pixel_decoder.transformers_twin import randomise, transformers_pixel_decoder
from unsam.checkpoint.layouts.pixel_decoder_names import published_pixel_decoder_name
from unsam.config import get_cfg
from unsam.modeling.pixel_decoder import DeformablePixelDecoder, PixelFeatures

CHANNELS = (8, 12, 16, 20)


def tiny(num_levels: int = 3, fine_first: bool = False) -> DeformablePixelDecoder:
    decoder = DeformablePixelDecoder(
        in_channels=CHANNELS,
        dim=64,
        mask_dim=24,
        num_levels=num_levels,
        num_layers=2,
        num_heads=4,
        num_points=2 if num_levels == 4 else 4,
        ffn_dim=32,
        fine_first=fine_first,
    )
    randomise(decoder)
    return decoder.eval()


def backbone_maps(batch: int = 2, size: tuple[int, int] = (64, 96)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        f"res{index + 2}": torch.randn(
            batch, channels, size[0] >> index + 2, size[1] >> index + 2, generator=generator
        )
        for index, channels in enumerate(CHANNELS)
    }


def maps_of(features: PixelFeatures) -> tuple[Tensor, ...]:
    return (*features.levels, features.mask_features)


@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_it_equals_transformers(size: tuple[int, int]) -> None:
    decoder, given = tiny(), backbone_maps(size=size)
    with torch.no_grad():
        theirs = transformers_pixel_decoder(decoder)(list(given.values()))
        ours = decoder(given)
    expected = (*theirs.multi_scale_features, theirs.mask_features)
    for got, wanted in zip(maps_of(ours), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("num_levels", [3, 4])
def test_levels_come_coarse_first_in_either_order_of_tokens(num_levels: int) -> None:
    for fine_first in (False, True):
        features = tiny(num_levels, fine_first)(backbone_maps())
        sizes = [tuple(level.shape) for level in features.levels]
        expected = [(2, 64, 1, 2), (2, 64, 2, 3), (2, 64, 4, 6), (2, 64, 8, 12)]
        assert sizes == expected[-num_levels:]
        assert features.mask_features.shape == (2, 24, 16, 24)


@pytest.mark.parametrize("num_levels", [3, 4])
def test_the_order_of_tokens_is_a_permutation_of_the_weights(num_levels: int) -> None:
    coarse, fine = tiny(num_levels, False), tiny(num_levels, True)
    weights = coarse.state_dict()
    turned = {}
    for name, value in weights.items():
        first, _, rest = name.partition(".")
        if first == "input_projections":
            index, _, rest = rest.partition(".")
            turned[f"{first}.{num_levels - 1 - int(index)}.{rest}"] = value
        elif first == "level_embedding":
            turned[name] = value.flip(0)
        elif "sampling_offsets" in name or "attention_weights" in name:
            turned[name] = value.unflatten(0, (4, num_levels, -1)).flip(1).flatten(0, 2)
        else:
            turned[name] = value
    given = backbone_maps()
    with torch.no_grad():
        before = fine(given)
        fine.load_state_dict(turned)
        for got, wanted, other in zip(
            maps_of(fine(given)), maps_of(coarse(given)), maps_of(before), strict=True
        ):
            torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5)
            assert not torch.allclose(other, wanted, atol=1e-2)


def test_photos_of_a_batch_do_not_see_each_other() -> None:
    decoder, given = tiny(), backbone_maps()
    both = decoder(given)
    alone = decoder({name: value[1:] for name, value in given.items()})
    for got, wanted in zip(maps_of(both), maps_of(alone), strict=True):
        torch.testing.assert_close(got[1:], wanted, rtol=1e-4, atol=1e-5)


def test_double_precision_agrees_with_single() -> None:
    decoder, given = tiny(4, True), backbone_maps()
    with torch.no_grad():
        single = decoder(given)
        double = decoder.double()({name: value.double() for name, value in given.items()})
    for got, wanted in zip(maps_of(single), maps_of(double), strict=True):
        assert wanted.dtype == torch.float64
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "weights"])
def test_bfloat16_stays_near_single_precision(whole: bool) -> None:
    decoder, given = tiny(), backbone_maps()
    with torch.no_grad():
        exact = decoder(given)
        if whole:
            rough = decoder.bfloat16()({name: value.bfloat16() for name, value in given.items()})
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rough = decoder(given)
    for got, wanted in zip(maps_of(rough), maps_of(exact), strict=True):
        error = (got.float() - wanted).square().mean().sqrt()
        assert error < 0.05 * wanted.square().mean().sqrt()


def test_every_parameter_learns() -> None:
    decoder = tiny(4, True).train()
    features = decoder(backbone_maps())
    sum(map_.square().mean() for map_ in maps_of(features)).backward()
    still = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize(("num_levels", "fine_first"), [(3, False), (4, True)])
def test_it_compiles_as_one_graph(num_levels: int, fine_first: bool) -> None:
    decoder, given = tiny(num_levels, fine_first), backbone_maps(batch=1)
    with torch.no_grad():
        compiled = torch.compile(decoder, fullgraph=True, backend="eager")(given)
        for got, wanted in zip(maps_of(compiled), maps_of(decoder(given)), strict=True):
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_levels": 2}, "num_levels is 2"),
        ({"dim": 48}, "dim is 48"),
        ({"num_heads": 3}, "3 heads"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeformablePixelDecoder(in_channels=CHANNELS, **{"dim": 64, "num_layers": 1, **change})


@pytest.mark.parametrize(
    ("pack", "prefix"),
    [
        ("unsam_whole", "sem_seg_head.pixel_decoder."),
        ("unsam_promptable", "model.sem_seg_head.pixel_decoder."),
    ],
)
def test_names_are_those_of_the_published_files(golden_root: Path, pack: str, prefix: str) -> None:
    keys = json.loads((golden_root / pack / "keys.json").read_text())
    published = {
        key.removeprefix(prefix): tuple(entry["shape"])
        for key, entry in keys.items()
        if key.startswith(prefix)
    }
    decoder = published_decoder(pack)
    ours = {
        published_pixel_decoder_name(name): tuple(value.shape)
        for name, value in decoder.state_dict().items()
    }
    assert ours == published


def published_decoder(pack: str) -> DeformablePixelDecoder:
    cfg = get_cfg()
    promptable = pack == "unsam_promptable"
    if promptable:
        cfg.MODEL.PIXEL_DECODER.NUM_LEVELS = 4
        cfg.MODEL.PIXEL_DECODER.FFN_DIM = 2048
    return DeformablePixelDecoder(
        in_channels=(96, 192, 384, 768) if promptable else (256, 512, 1024, 2048),
        fine_first=promptable,
        **DeformablePixelDecoder.from_config(cfg),
    ).eval()


def test_a_name_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'encoder\.weight' is no tensor of the pixel decoder"):
        published_pixel_decoder_name("encoder.weight")
