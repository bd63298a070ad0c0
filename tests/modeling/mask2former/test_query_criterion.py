from __future__ import annotations

import itertools

import pytest
import torch

from unsam.modeling.losses import pairwise_mask_cost
from unsam.modeling.mask2former import QueryCriterion, QueryPredictions

LOSSES = ("loss_class", "loss_mask", "loss_dice")


def _photos(masks: tuple[int, ...] = (3, 2), Q: int = 6, seed: int = 0):
    """Return one output, mask features of one-hot channels, and targets, for each photo.

    With a channel per cell a query's embedding is its mask.
    """
    generator = torch.Generator().manual_seed(seed)
    B, cells = len(masks), 6 * 8
    features = torch.eye(cells, dtype=torch.float64).reshape(1, cells, 6, 8).repeat(B, 1, 1, 1)
    output = QueryPredictions(
        torch.randn(B, Q, 2, generator=generator, dtype=torch.float64),
        3 * torch.randn(B, Q, cells, generator=generator, dtype=torch.float64),
    )
    targets = [torch.rand(M, 24, 32, generator=generator) > 0.5 for M in masks]
    return output, features, targets


def _perfect(output: QueryPredictions, targets: list[torch.Tensor], queries: list[int]):
    """Let some queries of each photo say exactly the target masks, which are made of cells."""
    classes = torch.tensor([-30.0, 30.0], dtype=torch.float64).repeat(
        *output.class_logits.shape[:2], 1
    )
    embeddings = torch.full_like(output.mask_embeddings, -30.0)
    for photo, masks in enumerate(targets):
        for query, mask in zip(queries, masks, strict=False):
            classes[photo, query] = torch.tensor([30.0, -30.0], dtype=torch.float64)
            embeddings[photo, query] = 60 * mask[::4, ::4].flatten().double() - 30
    return QueryPredictions(classes, embeddings)


def _cell_masks(masks: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.rand(M, 6, 8, generator=generator) > 0.5)
        .repeat_interleave(4, 1)
        .repeat_interleave(4, 2)
        for M in masks
    ]


def _losses(criterion: QueryCriterion, *arguments, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return criterion(*arguments)


def test_queries_are_matched_at_the_least_total_cost():
    output, features, targets = _photos((3,))
    criterion = QueryCriterion(num_points=500)
    torch.manual_seed(7)
    [[(queries, masks)]] = criterion._match([output], features, targets)
    torch.manual_seed(7)
    points = torch.rand(500, 2, dtype=torch.float64)
    # Bilinear reading by hand, from the definition.
    grid = (2 * points - 1)[None, None]
    read = torch.nn.functional.grid_sample
    logits = output.mask_embeddings[0].reshape(1, 6, 6, 8)
    logits = read(logits, grid, align_corners=False)[0, :, 0]
    wanted = read(targets[0][None].double(), grid, align_corners=False)[0, :, 0]
    cost = pairwise_mask_cost(logits, wanted, 5.0, 5.0)
    cost = cost - 2 * output.class_logits[0].softmax(-1)[:, :1]
    best = min(
        itertools.permutations(range(6), 3),
        key=lambda order: sum(cost[query, mask].item() for mask, query in enumerate(order)),
    )
    assert dict(zip(masks.tolist(), queries.tolist(), strict=True)) == dict(enumerate(best))


def test_all_outputs_and_photos_are_matched_as_each_alone():
    (first, features, targets), (second, _, _) = _photos(), _photos(seed=1)
    points = torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(3)).double()
    criterion = QueryCriterion(num_points=200)
    criterion.random_points = lambda like: points
    together = criterion._match([first, second], features, targets)
    for output, of_photos in zip((first, second), together, strict=True):
        for photo in range(2):
            alone = QueryPredictions(output.class_logits[[photo]], output.mask_embeddings[[photo]])
            [[pair]] = criterion._match([alone], features[[photo]], [targets[photo]])
            assert all(torch.equal(a, b) for a, b in zip(of_photos[photo], pair, strict=True))


def test_matching_leaves_the_device_once(monkeypatch):
    output, features, targets = _photos()
    transfers = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: transfers.append(x.shape) or cpu(x))
    _losses(QueryCriterion(num_points=50), [output] * 3, features, targets, 5.0)
    assert transfers == [(3 * 6 * (3 + 2),)]


def test_losses_do_not_depend_on_how_photos_are_dealt_out():
    output, features, targets = _photos()
    # Constant answers to masks without an edge: the points that are drawn do not matter.
    output = QueryPredictions(output.class_logits, torch.full_like(output.mask_embeddings, 0.5))
    targets = [torch.ones_like(masks) for masks in targets]
    criterion = QueryCriterion(num_points=64)
    criterion.loss_points = lambda logits: torch.full((len(logits), 64, 2), 0.5).double()
    whole = _losses(criterion, [output], features, targets, 5.0)
    parts = [
        _losses(
            criterion,
            [QueryPredictions(output.class_logits[[i]], output.mask_embeddings[[i]])],
            features[[i]],
            [targets[i]],
            2.5,
        )
        for i in range(2)
    ]
    for name in LOSSES:
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, whole[name])


def test_the_order_of_the_masks_does_not_matter():
    output, features, targets = _photos()
    criterion = QueryCriterion(num_points=300)
    plain = _losses(criterion, [output, output], features, targets, 5.0)
    turned = _losses(criterion, [output, output], features, [m.flip(0) for m in targets], 5.0)
    for name, value in plain.items():
        torch.testing.assert_close(turned[name], value)


def test_right_answers_cost_next_to_nothing():
    targets = _cell_masks((3, 2))
    output, features, _ = _photos((3, 2))
    output = _perfect(output, targets, [4, 0, 2])
    losses = _losses(QueryCriterion(), [output], features, targets, 5.0)
    assert losses["loss_class"].item() < 1e-6
    assert losses["iou_matched"].item() == 1
    # Between cells the target turns within a pixel, the logits within four.
    assert losses["loss_dice"].item() < 1.2
    wrong = _losses(
        QueryCriterion(), [_perfect(output, targets[::-1], [1, 3])], features, targets, 5.0
    )
    assert wrong["loss_dice"].item() > losses["loss_dice"].item() + 0.5


def test_outputs_add_up():
    (first, features, targets), (second, _, _) = _photos(), _photos(seed=1)
    # All pixels of a cell are alike, so the points drawn do not matter for a constant answer.
    flat = [
        QueryPredictions(output.class_logits, torch.full_like(output.mask_embeddings, level))
        for output, level in ((first, -2.0), (second, 1.0))
    ]
    whole = [torch.ones_like(masks) for masks in targets]
    criterion = QueryCriterion(num_points=64, oversample=1.0, importance=0.0)
    both = _losses(criterion, flat, features, whole, 5.0)
    single = [_losses(criterion, [output], features, whole, 5.0) for output in flat]
    for name in LOSSES:
        expected = single[0][name] + single[1][name]
        torch.testing.assert_close(both[name], expected, rtol=0.05, atol=0.0)


def test_the_class_loss_is_the_weighted_cross_entropy():
    output, features, targets = _photos((2,))
    criterion = QueryCriterion(num_points=200, class_weight=3.0, no_object_weight=0.2)
    torch.manual_seed(0)
    [[(queries, _)]] = criterion._match([output], features, targets)
    losses = _losses(criterion, [output], features, targets, 2.0)
    log_probability = output.class_logits[0].log_softmax(-1)
    nothing = [query for query in range(6) if query not in queries.tolist()]
    total = -log_probability[queries, 0].sum() - 0.2 * log_probability[nothing, 1].sum()
    torch.testing.assert_close(losses["loss_class"], 3 * total / (2 + 0.2 * 4))


def test_a_pair_that_hardly_overlaps_is_dropped_but_its_class_counts():
    """DropLoss: neither a loss nor a gradient of the mask."""
    targets = [torch.zeros(1, 24, 32, dtype=torch.bool)]
    targets[0][0, :8, :8] = True
    output, features, _ = _photos((1,), Q=1)
    elsewhere = torch.full_like(output.mask_embeddings, -20.0)
    elsewhere[0, 0, -4:] = 20.0
    elsewhere.requires_grad_()
    output = QueryPredictions(output.class_logits.requires_grad_(), elsewhere)
    plain = _losses(QueryCriterion(num_points=500), [output], features, targets, 1.0)
    dropped = _losses(
        QueryCriterion(num_points=500, drop_iou=0.1), [output], features, targets, 1.0
    )
    assert plain["loss_mask"] > 1
    assert dropped["loss_mask"] == dropped["loss_dice"] == 0
    torch.testing.assert_close(dropped["loss_class"], plain["loss_class"])
    sum(dropped[name] for name in LOSSES).backward()
    assert not elsewhere.grad.any()
    assert output.class_logits.grad.any()


def test_pairs_that_overlap_more_keep_their_losses():
    targets = _cell_masks((3,))
    output = _perfect(_photos((3,))[0], targets, [4, 0, 2])
    # The second mask's query says nothing at all.
    output.mask_embeddings[0, 0] = -30.0
    features = _photos((3,))[1]
    plain, dropped = (
        _losses(QueryCriterion(drop_iou=threshold), [output], features, targets, 3.0)
        for threshold in (-1.0, 0.05)
    )
    assert 0 < dropped["loss_mask"] < 0.5 * plain["loss_mask"]
    assert 0 < dropped["loss_dice"] < plain["loss_dice"] - 1
    torch.testing.assert_close(dropped["loss_class"], plain["loss_class"])


@pytest.mark.parametrize("masks", [(0, 2), (0, 0)])
def test_photos_without_masks_teach_their_queries_to_say_nothing(masks):
    output, features, targets = _photos(masks)
    output.class_logits.requires_grad_()
    output.mask_embeddings.requires_grad_()
    losses = _losses(QueryCriterion(num_points=100), [output], features, targets, 1.0)
    sum(losses[name] for name in LOSSES).backward()
    assert (output.class_logits.grad[0, :, 1] < 0).all()
    assert output.mask_embeddings.grad is not None
    if masks == (0, 0):
        assert losses["loss_mask"] == losses["loss_dice"] == losses["iou_matched"] == 0


def test_more_masks_than_queries_leave_masks_out():
    output, features, targets = _photos((9,), Q=4)
    criterion = QueryCriterion(num_points=100)
    [[(queries, masks)]] = criterion._match([output], features, targets)
    assert sorted(queries.tolist()) == [0, 1, 2, 3]
    assert len(set(masks.tolist())) == 4
    assert all(torch.isfinite(v) for v in criterion([output], features, targets, 9.0).values())


def test_half_precision_outputs_are_scored_in_float32():
    output, features, targets = _photos()
    half = QueryPredictions(output.class_logits.bfloat16(), output.mask_embeddings.bfloat16())
    losses = _losses(QueryCriterion(num_points=300), [half], features.bfloat16(), targets, 5.0)
    exact = _losses(QueryCriterion(num_points=300), [output], features.float(), targets, 5.0)
    for name in LOSSES:
        assert losses[name].dtype == torch.float32
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.1)
