from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.modeling.pixel_decoder.transformers_twin import randomise, transformers_attention
from unsam.modeling.pixel_decoder import DeformableAttention
from unsam.modeling.pixel_decoder.deformable_attention import sample_maps

SHAPES = ((3, 5), (6, 4))
CELLS = 39


def attention(num_points: int = 3, heads: int = 4) -> DeformableAttention:
    module = DeformableAttention(dim=16, num_heads=heads, num_levels=2, num_points=num_points)
    randomise(module)
    return module.eval()


def inputs(size: int, queries: int = 7, batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    reference = torch.rand(batch, queries, 2, size, generator=generator)
    return {
        "query": torch.randn(batch, queries, 16, generator=generator),
        # Some centres lie outside, and boxes are from tiny to twice the map.
        "reference": reference * 1.4 - 0.2 if size == 2 else reference * 2,
        "value": torch.randn(batch, CELLS, 16, generator=generator),
    }


def bilinear(grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """One read of ``[h, w, d]`` by definition: every cell weighs by its distance, none outside."""
    rows = torch.arange(grid.shape[0], dtype=grid.dtype)
    columns = torch.arange(grid.shape[1], dtype=grid.dtype)
    by_row = (1 - (rows - y).abs()).clamp(min=0)
    by_column = (1 - (columns - x).abs()).clamp(min=0)
    return torch.einsum("h,w,hwd->d", by_row, by_column, grid)


def read_maps(
    values: Tensor, places: Tensor, weights: Tensor, shapes: tuple[tuple[int, int], ...] = SHAPES
) -> Tensor:
    return sample_maps(values, *places.unbind(-1), weights, shapes)


def plain_sample(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    batch, queries, heads = places.shape[:3]
    starts = (0, SHAPES[0][0] * SHAPES[0][1], CELLS)
    result = []
    for b in range(batch):
        for q in range(queries):
            for k in range(heads):
                total = torch.zeros(values.shape[-1], dtype=values.dtype)
                for level, shape in enumerate(SHAPES):
                    grid = values[b, starts[level] : starts[level + 1], k].unflatten(0, shape)
                    for place, weight in zip(places[b, q, k, level], weights[b, q, k, level]):
                        total = total + weight * bilinear(grid, place[0], place[1])
                result.append(total)
    return torch.stack(result).view(batch, queries, heads, -1)


def plain_attention(
    module: DeformableAttention, query: Tensor, reference: Tensor, value: Tensor
) -> Tensor:
    batch, queries, _ = query.shape
    shape = (batch, queries, module.num_heads, 2, module.num_points)
    offsets = module.sampling_offsets(query).view(*shape, 2)
    weights = module.attention_weights(query).view(*shape[:3], -1).softmax(-1).view(shape)
    sizes = query.new_tensor([(width, height) for height, width in SHAPES])[:, None]
    reference = reference[:, :, None, :, None]
    if reference.shape[-1] == 4:
        where = reference[..., :2] + offsets / module.num_points * reference[..., 2:] * 0.5
    else:
        where = reference + offsets / sizes
    values = module.value_proj(value).unflatten(-1, (module.num_heads, -1))
    read = plain_sample(values, where * sizes - 0.5, weights)
    return module.output_proj(read.flatten(2))


@pytest.mark.parametrize("size", [2, 4], ids=["points", "boxes"])
def test_it_equals_the_definition(size: int) -> None:
    module = attention().double()
    given = {name: value.double() for name, value in inputs(size).items()}
    with torch.no_grad():
        expected = plain_attention(module, **given)
        torch.testing.assert_close(module(**given, shapes=SHAPES), expected, rtol=1e-12, atol=1e-12)
        single = module.float()(**inputs(size), shapes=SHAPES)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [2, 4], ids=["points", "boxes"])
def test_it_equals_transformers(size: int) -> None:
    module = attention()
    given = inputs(size)
    twin = transformers_attention(module)
    with torch.no_grad():
        expected, _ = twin(
            given["query"],
            encoder_hidden_states=given["value"],
            reference_points=given["reference"],
            spatial_shapes_list=list(SHAPES),
        )
        torch.testing.assert_close(module(**given, shapes=SHAPES), expected, rtol=0, atol=1e-5)


def sampled(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, CELLS, 2, 3, dtype=torch.float64, generator=generator)
    # Up to two cells outside of either map.
    places = torch.rand(2, 2, 2, 2, 2, 2, dtype=torch.float64, generator=generator) * 9 - 2
    weights = torch.rand(2, 2, 2, 2, 2, dtype=torch.float64, generator=generator)
    return values, places, weights


def test_gradients_are_those_of_the_definition() -> None:
    given = [tensor.requires_grad_() for tensor in sampled()]
    direction = torch.randn(2, 2, 2, 3, dtype=torch.float64)
    ours = torch.autograd.grad((read_maps(*given) * direction).sum(), given)
    plain = torch.autograd.grad((plain_sample(*given) * direction).sum(), given)
    for gradient, expected in zip(ours, plain):
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    given = [tensor.requires_grad_() for tensor in sampled(1)]
    assert torch.autograd.gradcheck(lambda *tensors: read_maps(*tensors), given)


def test_many_queries_are_read_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    module, given = attention(), inputs(4)
    whole = module(**given, shapes=SHAPES)
    monkeypatch.setattr("unsam.modeling.pixel_decoder.deformable_attention._CHUNK", 3)
    torch.testing.assert_close(module(**given, shapes=SHAPES), whole)


def test_values_projected_once_serve_many_questions() -> None:
    module, given = attention(), inputs(4)
    values = module.value_proj(given["value"])
    parts = zip(given["query"].split(3, dim=1), given["reference"].split(3, dim=1))
    read = [module.read_values(query, where, values, SHAPES) for query, where in parts]
    torch.testing.assert_close(torch.cat(read, dim=1), module(**given, shapes=SHAPES))


def test_a_map_of_one_value_is_read_as_that_value_inside() -> None:
    values, places, weights = sampled()
    places = places.clamp(0, 2)
    read = read_maps(torch.full_like(values, 4.0), places, weights)
    expected = 4 * weights.sum(dim=(-2, -1))[..., None].expand_as(read)
    torch.testing.assert_close(read, expected)


def test_nothing_is_read_a_cell_outside_and_half_of_it_half_a_cell_outside() -> None:
    values = torch.ones(1, 6, 1, 1)
    spots = [(-1.0, 0.0), (3.0, 1.0), (1.0, -1.0), (1.0, 2.0), (1e9, 0.0), (-0.5, 0.0), (2.5, 1.5)]
    places = torch.tensor(spots).view(1, -1, 1, 1, 1, 2)
    read = read_maps(values, places, torch.ones(1, len(spots), 1, 1, 1), ((2, 3),))
    assert read.flatten().tolist() == [0, 0, 0, 0, 0, 0.5, 0.25]


def test_a_place_that_is_no_number_reads_no_number() -> None:
    places = torch.tensor([math.nan, 0.0, math.inf, 0.0, 0.0, 0.0]).view(1, 3, 1, 1, 1, 2)
    read = read_maps(torch.ones(1, 6, 1, 1), places, torch.ones(1, 3, 1, 1, 1), ((2, 3),))
    assert read.isnan().flatten().tolist() == [True, True, False]


def test_images_of_a_batch_do_not_read_each_other() -> None:
    module, given = attention(), inputs(4)
    both = module(**given, shapes=SHAPES)
    for image in range(2):
        alone = module(**{k: v[image : image + 1] for k, v in given.items()}, shapes=SHAPES)
        torch.testing.assert_close(both[image : image + 1], alone)


def test_one_reference_serves_all_maps_and_images() -> None:
    module, given = attention(), inputs(4)
    shared = given["reference"][:1, :, :1]
    expanded = shared.expand(2, -1, 2, -1)
    torch.testing.assert_close(
        module(given["query"], shared, given["value"], SHAPES),
        module(given["query"], expanded, given["value"], SHAPES),
        rtol=0,
        atol=0,
    )


def test_heads_start_on_rays_of_their_own() -> None:
    module = DeformableAttention(dim=16, num_heads=4, num_levels=2, num_points=3)
    offsets = module.sampling_offsets(torch.randn(5, 16)).view(5, 4, 2, 3, 2)
    steps = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    expected = steps[:, None, None] * torch.arange(1, 4)[:, None]
    torch.testing.assert_close(offsets, expected.expand_as(offsets), atol=1e-6, rtol=0)


def test_it_compiles_and_exports_as_one_graph() -> None:
    module, given = attention(), inputs(4)
    expected = module(**given, shapes=SHAPES)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**given, shapes=SHAPES), expected)
    exported = torch.export.export(module, (), {**given, "shapes": SHAPES}).module()
    torch.testing.assert_close(exported(**given, shapes=SHAPES), expected)


def test_autocast_keeps_places_precise() -> None:
    module = DeformableAttention(dim=4, num_heads=1, num_levels=1, num_points=1)
    for layer in (module.value_proj, module.output_proj):
        torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(module.sampling_offsets.bias)
    # bfloat16 knows no number between 300 and 302.
    value = torch.zeros(1, 512, 4)
    value[:, 300] = 1
    reference = torch.tensor([(300.4 + 0.5) / 512, 0.5]).view(1, 1, 1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = module(torch.zeros(1, 1, 4), reference, value, [(1, 512)])
    torch.testing.assert_close(read.float(), torch.full((1, 1, 4), 0.6), rtol=0, atol=5e-3)


@pytest.mark.parametrize("shapes", [((3, 5),), ((3, 5), (6, 5))], ids=["number", "sizes"])
def test_maps_that_do_not_fit_the_cells_are_refused(shapes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match=r"39 cells came for .* expected 2 maps"):
        attention()(**inputs(2), shapes=shapes)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 16 is not a multiple of 3 heads"):
        attention(heads=3)
