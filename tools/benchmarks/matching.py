"""Matching the outputs of Mask2Former's decoder with the masks of a photo, at the published sizes.

All outputs together, as training does it, beside one output after the other with points of its own.
"""

from __future__ import annotations

import statistics
from typing import Any

NUM_OUTPUTS = 10
NUM_QUERIES = 2000
NUM_MASKS = 200
DIM = 256
# Of the input; mask features are at a quarter of it.
SIDE = 1024
ROUNDS = 3


def benchmark_matching() -> dict[str, Any]:
    """Return seconds (median) of both ways and their ratio; below 1, together is faster."""
    import torch

    from benchmark import median_seconds
    from unsam.modeling.mask2former import QueryCriterion, QueryPredictions

    torch.set_num_threads(1)
    torch.manual_seed(0)
    criterion = QueryCriterion()
    features = torch.randn(1, DIM, SIDE // 4, SIDE // 4)
    masks = [torch.rand(NUM_MASKS, SIDE, SIDE) > 0.5]
    outputs = [
        QueryPredictions(
            torch.randn(1, NUM_QUERIES, 2), torch.randn(1, NUM_QUERIES, DIM) / DIM**0.5
        )
        for _ in range(NUM_OUTPUTS)
    ]

    def together() -> None:
        criterion._match(outputs, features, masks)

    def one_by_one() -> None:
        for output in outputs:
            criterion._match([output], features, masks)

    # In turns, so that whatever else the machine does meets both.
    rounds = [[median_seconds(way, 1) for way in (together, one_by_one)] for _ in range(ROUNDS)]
    seconds, separate = (statistics.median(way) for way in zip(*rounds, strict=True))
    return {
        "points": criterion.num_points,
        "together_seconds": seconds,
        "one_by_one_seconds": separate,
        "ratio": seconds / separate,
    }
