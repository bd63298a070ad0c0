from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.modeling.semantic_sam.conftest import DIM, tiny_decoder
from unsam.modeling.semantic_sam.prompted_decoder import (
    PromptedDecoder,
    TokenAttention,
    box_position,
    inverse_sigmoid,
)

SHAPES = ((2, 3), (4, 6), (8, 12), (16, 24))


def make_levels(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(1, DIM, *shape, dtype=dtype) for shape in SHAPES]


def make_prompts(count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    boxes = torch.rand(count, 4, dtype=torch.float64) * 0.3 + 0.2
    return boxes, torch.arange(count) % 2


def run(decoder: PromptedDecoder, boxes: Tensor, kinds: Tensor, levels: list[Tensor]) -> list:
    values = [value[0] for value in decoder.values(levels)]
    return decoder(boxes, kinds, values, SHAPES)


def test_self_attention_is_that_of_torch_within_each_prompt() -> None:
    torch.manual_seed(0)
    ours = TokenAttention(dim=32, num_heads=4).double()
    theirs = nn.MultiheadAttention(32, 4, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.in_proj.weight,
            "in_proj_bias": ours.in_proj.bias,
            "out_proj.weight": ours.out_proj.weight,
            "out_proj.bias": ours.out_proj.bias,
        }
    )
    tokens, position = torch.randn(2, 5, 6, 32, dtype=torch.float64)
    placed = tokens + position
    expected, _ = theirs(placed, placed, tokens)
    torch.testing.assert_close(ours(tokens, position), expected)


def test_values_are_what_each_layer_makes_of_the_cells_coarse_first() -> None:
    decoder = tiny_decoder().double()
    levels = make_levels()
    second = decoder.values(levels)[1]
    projected = decoder.layers[1].cross_attention.value_proj
    torch.testing.assert_close(second[0, 0], projected(levels[0][0, :, 0, 0]))
    torch.testing.assert_close(second[0, -1], projected(levels[-1][0, :, -1, -1]))
    assert second.shape == (1, sum(h * w for h, w in SHAPES), DIM)


def test_prompts_do_not_see_each_other() -> None:
    decoder = tiny_decoder().double().eval()
    levels = make_levels()
    boxes, kinds = make_prompts(5)
    together = run(decoder, boxes, kinds, levels)[-1]
    for index in range(5):
        some = slice(index, index + 1)
        alone = run(decoder, boxes[some], kinds[some], levels)[-1]
        torch.testing.assert_close(alone.hidden, together.hidden[some])
        torch.testing.assert_close(alone.boxes, together.boxes[some])


def test_training_returns_every_layer_and_evaluation_the_last() -> None:
    decoder = tiny_decoder(num_layers=3).double()
    levels = make_levels()
    boxes, kinds = make_prompts(2)
    every = run(decoder.train(), boxes, kinds, levels)
    last = run(decoder.eval(), boxes, kinds, levels)
    assert (len(every), len(last)) == (3, 1)
    torch.testing.assert_close(every[-1].hidden, last[0].hidden)
    torch.testing.assert_close(every[-1].boxes, last[0].boxes)


def test_boxes_start_from_the_prompt_and_kinds_matter() -> None:
    decoder = tiny_decoder().double().eval()
    for parameter in decoder.box_head.layers[-1].parameters():
        nn.init.zeros_(parameter)
    boxes, _ = make_prompts(2)
    levels = make_levels()
    first = run(decoder, boxes, torch.tensor([0, 0]), levels)[-1]
    second = run(decoder, boxes, torch.tensor([1, 1]), levels)[-1]
    torch.testing.assert_close(first.boxes, boxes[:, None].expand(-1, 6, -1))
    assert not torch.allclose(first.hidden, second.hidden)


def test_gradients_reach_every_parameter_that_is_used() -> None:
    decoder = tiny_decoder().train()
    levels = make_levels(torch.float32)
    boxes, kinds = make_prompts(3)
    total = torch.zeros(())
    for state in run(decoder, boxes.float(), kinds, levels):
        logits, quality = decoder.answers(state.hidden, torch.randn(DIM, 4, 4))
        total = total + logits.square().sum() + quality.sum() + state.boxes.square().sum()
    total.backward()
    unused = [name for name, parameter in decoder.named_parameters() if parameter.grad is None]
    assert unused == []


def test_answers_are_dot_products_with_the_mask_features() -> None:
    decoder = tiny_decoder().double().eval()
    hidden = torch.randn(2, 6, DIM, dtype=torch.float64)
    features = torch.randn(DIM, 3, 5, dtype=torch.float64)
    logits, quality = decoder.answers(hidden, features)
    expected = torch.einsum("pmc,chw->pmhw", decoder.mask_head(hidden), features)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(quality, decoder.quality_head(hidden)[..., 0])
    flat, _ = decoder.answers(hidden[1], features)
    torch.testing.assert_close(flat, expected[1])


def test_single_norm_is_another_model() -> None:
    decoder = tiny_decoder().double().eval()
    nn.init.normal_(decoder.norm.weight, mean=1.0, std=0.3)
    boxes, kinds = make_prompts(1)
    twice = run(decoder, boxes, kinds, make_levels())[-1].hidden
    decoder.double_norm = False
    once = run(decoder, boxes, kinds, make_levels())[-1].hidden
    torch.testing.assert_close(decoder.norm(once), twice)
    assert not torch.allclose(once, twice)


def test_no_prompts_give_no_answers() -> None:
    decoder = tiny_decoder().double().eval()
    boxes, kinds = make_prompts(0)
    state = run(decoder, boxes, kinds, make_levels())[-1]
    logits, quality = decoder.answers(state.hidden, torch.randn(DIM, 3, 5, dtype=torch.float64))
    assert logits.shape == (0, 6, 3, 5)
    assert quality.shape == (0, 6)


def test_decoder_compiles_without_a_graph_break() -> None:
    decoder = tiny_decoder().double().eval()
    levels = make_levels()
    boxes, kinds = make_prompts(2)
    values = [value[0] for value in decoder.values(levels)]
    compiled = torch.compile(decoder, backend="eager", fullgraph=True)
    with torch.no_grad():
        found = compiled(boxes, kinds, values, SHAPES)[-1]
        torch.testing.assert_close(found.hidden, decoder(boxes, kinds, values, SHAPES)[-1].hidden)


def test_bfloat16_stays_close_to_float32() -> None:
    decoder = tiny_decoder().eval()
    levels = make_levels(torch.float32)
    boxes, kinds = make_prompts(4)
    features = torch.randn(DIM, 8, 8)
    with torch.no_grad():
        exact = decoder.answers(run(decoder, boxes.float(), kinds, levels)[-1].hidden, features)[0]
        with torch.autocast("cpu", torch.bfloat16):
            state = run(decoder, boxes.float(), kinds, levels)[-1]
            rough = decoder.answers(state.hidden, features)[0]
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("value", [0.0, 1e-7, 0.3, 1.0])
def test_inverse_sigmoid_is_finite_and_inverts(value: float) -> None:
    x = torch.tensor(value, dtype=torch.float64)
    logit = inverse_sigmoid(x)
    assert torch.isfinite(logit)
    torch.testing.assert_close(logit.sigmoid(), x, atol=2e-5, rtol=0)


def test_box_position_tells_boxes_apart_and_y_comes_first() -> None:
    first = box_position(torch.tensor([0.1, 0.6, 0.2, 0.3]), 8)
    second = box_position(torch.tensor([0.2, 0.6, 0.2, 0.3]), 8)
    assert first.shape == (32,)
    torch.testing.assert_close(first[:8], second[:8])
    assert not torch.allclose(first[8:16], second[8:16])
    torch.testing.assert_close(first[0], torch.tensor(0.6 * 2 * torch.pi).sin())
    assert F.cosine_similarity(first, second, dim=0) < 1
