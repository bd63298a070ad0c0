"""Deformable attention and the pixel decoder, beside those of transformers, same weights.

Sizes are those of a photo of 1024 x 1536 pixels: in the encoder each cell of three maps asks, in
a decoder 600 queries do. The whole pixel decoder is that of Mask2Former on half of these sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

SHAPES = ((32, 48), (64, 96), (128, 192))
NUM_QUERIES = 600
DIM = 256
CHANNELS = (256, 512, 1024, 2048)
PHOTO = (512, 768)
TOLERANCE = 1e-4
# What transformers changed in the published names of the pixel decoder.
LIBRARY_WORDS = (
    (r"^input_proj\.", "input_projections."),
    (r"^transformer\.level_embed$", "level_embed"),
    (r"^transformer\.encoder\.", "encoder."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm2\.", ".final_layer_norm."),
    (r"\.linear(\d)\.", r".fc\1."),
    (r"^(adapter_1|layer_1)\.norm\.", r"\1.1."),
    (r"^(adapter_1|layer_1)\.weight$", r"\1.0.weight"),
    (r"^mask_features\.", "mask_projection."),
)

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def benchmark_deformable_attention() -> dict[str, float]:
    """Return seconds (median) of ours and of transformers' and their ratio, for each use.

    Ratios below 1: ours is faster. Results are checked to be equal.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    cells = sum(height * width for height, width in SHAPES)
    uses = {"encoder": attention_pair(cells), "decoder": attention_pair(NUM_QUERIES)}
    with torch.no_grad():
        figures = compare(uses | {"pixel_decoder": pixel_decoder_pair()})
    pair = attention_pair(NUM_QUERIES)
    steps = {"decoder_training": (lambda: with_gradient(pair[0]), lambda: with_gradient(pair[1]))}
    return figures | compare(steps)


def compare(uses: dict[str, Pair]) -> dict[str, float]:
    """Return the figures of pairs (ours, theirs) of functions that give equal tensors."""
    from benchmark import median_seconds

    figures = {}
    for name, (ours, theirs) in uses.items():
        expected = theirs()
        error = float((ours() - expected).abs().max() / expected.abs().max())
        assert error < TOLERANCE, f"{name}: results differ by {error:.1e} of the largest value"
        repeats = 20 if name.startswith("decoder") else 3
        figures[f"{name}_seconds"] = median_seconds(ours, repeats)
        figures[f"{name}_transformers_seconds"] = median_seconds(theirs, repeats)
        figures[f"{name}_ratio"] = (
            figures[f"{name}_seconds"] / figures[f"{name}_transformers_seconds"]
        )
    return figures


def attention_pair(num_queries: int) -> Pair:
    """Return one attention of both kinds, on random queries at random places."""
    import torch
    from transformers.models.mask2former import modeling_mask2former as library

    from unsam.modeling.pixel_decoder import DeformableAttention

    ours = DeformableAttention(dim=DIM, num_heads=8, num_levels=len(SHAPES), num_points=4)
    # Weights of the size that training gives them: places differ from query to query.
    torch.nn.init.normal_(ours.sampling_offsets.weight, std=DIM**-0.5)
    torch.nn.init.normal_(ours.attention_weights.weight, std=DIM**-0.5)
    theirs = library.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(
        DIM, 8, len(SHAPES), 4
    )
    theirs.load_state_dict(ours.state_dict())
    query = torch.randn(1, num_queries, DIM)
    reference = torch.rand(1, num_queries, 1, 2).expand(-1, -1, len(SHAPES), -1)
    value = torch.randn(1, sum(height * width for height, width in SHAPES), DIM)
    return (
        lambda: ours(query, reference, value, SHAPES),
        lambda: theirs(
            query,
            encoder_hidden_states=value,
            reference_points=reference,
            spatial_shapes_list=list(SHAPES),
        )[0],
    )


def pixel_decoder_pair() -> Pair:
    """Return both pixel decoders on the maps of one photo; each gives its mask features."""
    import torch
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former import modeling_mask2former as library

    from unsam.modeling.pixel_decoder import DeformablePixelDecoder

    ours = DeformablePixelDecoder(in_channels=CHANNELS).eval()
    config = Mask2FormerConfig(encoder_feedforward_dim=1024, encoder_layers=6, dropout=0.0)
    theirs = library.Mask2FormerPixelDecoder(config, list(CHANNELS)).eval()
    theirs.load_state_dict({library_name(k): v for k, v in ours.state_dict().items()})
    maps = {
        f"res{index + 2}": torch.randn(1, channels, PHOTO[0] >> index + 2, PHOTO[1] >> index + 2)
        for index, channels in enumerate(CHANNELS)
    }
    return lambda: ours(maps).mask_features, lambda: theirs(list(maps.values())).mask_features


def library_name(ours: str) -> str:
    """Return transformers' name of a tensor of our pixel decoder."""
    from unsam.checkpoint.layouts.pixel_decoder_names import published_pixel_decoder_name

    name = published_pixel_decoder_name(ours)
    for published, theirs in LIBRARY_WORDS:
        name = re.sub(published, theirs, name)
    return name


def with_gradient(function: Callable[[], Any]) -> Any:
    """Return the result of `function` after a backward pass through it."""
    result = function()
    result.square().sum().backward()
    return result.detach()
