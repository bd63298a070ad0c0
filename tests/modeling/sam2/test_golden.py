"""Parity with the published SAM 2.1 and UnSAMv2 on a stored photo, by random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.modeling.sam2.golden import GoldenPack
from tests.parity import Parity
from unsam.modeling.lora import merge_lora
from unsam.modeling.prompts import Prompts

GRANULARITIES = (0.1, 0.5, 1.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@torch.inference_mode()
def check_sam2(golden: GoldenPack) -> None:
    model, features = golden.model, golden.features
    clicks = ["point0", "point1", "point2"]
    single = model.answer(features, golden.prompts(clicks))
    several = model.answer(features, golden.prompts(clicks), several=True)
    for index, name in enumerate(clicks):
        score = single.object_score[[index]]
        golden.check(name, single.logits[index], single.quality[index], score)
        golden.check(f"{name}_multi", several.logits[index], several.quality[index], score)
    again = replace(golden.prompts(["point0"]), mask_logits=single.logits[0])
    second = model.answer(features, again)
    golden.check("point0_second_pass", second.logits[0], second.quality[0], second.object_score)
    pair = model.answer(features, golden.prompts(["box", "two_points"]))
    for index, name in enumerate(["box", "two_points"]):
        score = pair.object_score[[index]]
        golden.check(name, pair.logits[index], pair.quality[index], score)


@torch.inference_mode()
def check_unsamv2(golden: GoldenPack) -> None:
    model, features = golden.model, golden.features
    asked = [(f"point{click}", g) for click in range(3) for g in GRANULARITIES]
    names, granularity = zip(*asked, strict=True)
    together = model.answer(features, golden.prompts(list(names), list(granularity)))
    for index, (name, g) in enumerate(asked):
        one = model.answer(features, golden.prompts([name], [g]))
        golden.check(f"{name}_g{g}", one.logits[0], one.quality[0], one.object_score)
        golden.check(
            f"{name}_g{g}",
            together.logits[index],
            together.quality[index],
            together.object_score[[index]],
        )
    first = golden.prompts(["point0"], [0.5])
    several = model.answer(features, first, several=True)
    expected = torch.from_numpy(golden.outputs["point0_g0.5_multi_iou"])
    assert torch.allclose(several.quality[0], expected, rtol=0, atol=1e-3)
    second = model.answer(features, replace(first, mask_logits=several.logits[0]))
    name = "point0_g0.5_second_pass"
    golden.check(name, second.logits[0], second.quality[0], second.object_score)
    pair = model.answer(features, golden.prompts(["box", "two_points"], [0.5, 0.5]))
    for index, name in enumerate(["box", "two_points"]):
        golden.check(name, pair.logits[index], pair.quality[index], pair.object_score[[index]])
    check_bfloat16(golden, together.logits[:, 0], golden.prompts(list(names), list(granularity)))
    merge_lora(model)
    merged = model.answer(features, golden.prompts(list(names), list(granularity)))
    assert (merged.logits - together.logits).abs().max() <= 1e-4 * together.logits.abs().max()
    assert (merged.quality - together.quality).abs().max() <= 1e-4


def check_bfloat16(golden: GoldenPack, exact: Tensor, prompts: Prompts) -> None:
    """Encoder and decoder under autocast, against float32."""
    with torch.autocast("cpu", torch.bfloat16):
        features = golden.model.encode([golden.model.prepare(golden.photo)])
        rounded, _ = golden.model.decode(features, prompts)
    assert (rounded - exact).abs().max() <= 0.05 * exact.abs().max()
    common = ((rounded > 0) & (exact > 0)).flatten(1).sum(1)
    union = ((rounded > 0) | (exact > 0)).flatten(1).sum(1)
    assert (common >= 0.95 * union).all()


CHECKS = {"sam2": check_sam2, "unsamv2": check_unsamv2}


@pytest.mark.parametrize("pack", ["sam2", "unsamv2"])
def test_golden(pack: str, golden_root: Path, parity: Parity) -> None:
    golden = GoldenPack(golden_root / pack, parity)
    golden.check_features()
    CHECKS[pack](golden)
