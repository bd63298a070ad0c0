from __future__ import annotations

import torch

from tests.modeling.objectives.photos import context_of, photo
from unsam.modeling.objectives import WeightSchedule
from unsam.modeling.objectives.patch_objective import PatchObjective, mask_coverage


class Seen(PatchObjective):
    """Keeps what it is given."""

    name = "seen"

    def __init__(self) -> None:
        super().__init__(schedule=WeightSchedule(1.0))
        self.given: list[tuple] = []

    def photo_loss(self, *given) -> torch.Tensor:
        self.given.append(given)
        return given[0].sum()


def test_coverage_is_the_share_of_whole_patches() -> None:
    masks = torch.rand(3, 13, 10, generator=torch.Generator().manual_seed(0)) > 0.5
    expected = [
        [[m[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].sum() / 16 for x in range(2)] for y in range(3)]
        for m in masks
    ]
    torch.testing.assert_close(mask_coverage(masks, 4), torch.tensor(expected))


def test_patches_lie_in_the_photo_and_fit_its_masks_and_pixels(model) -> None:
    seen, small = Seen(), photo(0, size=(70, 90))
    context = context_of(model, [photo(1), small])
    seen(model, context)
    embedding, coverage, granularity, image, generator = seen.given[1]
    torch.testing.assert_close(embedding, context.features.embedding[1, :, :4, :5])
    torch.testing.assert_close(coverage, mask_coverage(small["masks"], 16))
    assert torch.equal(granularity, small["granularity"])
    assert torch.equal(image, small["image"][:, :64, :80])
    own = context.random.fork("seen").generator(1)
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=own))


def test_a_photo_smaller_than_a_patch_has_nothing_to_say(model) -> None:
    seen = Seen()
    assert seen(model, context_of(model, [photo(0, size=(12, 40))]))["loss_seen"] == 0
    assert seen.given == []


def test_asking_for_the_channels_leaves_the_random_numbers_as_they_were(model) -> None:
    before = torch.get_rng_state()
    assert model.patch_dim == 32
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
