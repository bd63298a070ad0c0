from __future__ import annotations

import pytest
import torch

from tests.modeling.conftest import draw_blobs
from tests.modeling.objectives.two_views import (
    UNCHANGED,
    answer_discs,
    context_of,
    learns,
    samples,
    teacher_of,
    weights,
)
from tests.modeling.sam.tiny import tiny_sam
from tests.modeling.semantic_sam.conftest import tiny_model as tiny_semantic_sam
from unsam.modeling.objectives import WeightSchedule
from unsam.modeling.objectives.consistency import (
    Consistency,
    soft_dice_distance,
    symmetric_kl,
)
from unsam.modeling.objectives.second_view import SecondViewAugmentation

NAMES = {"loss_consistency", "consistency_iou"}


def _objective(views=None, **changes) -> Consistency:
    return Consistency(
        schedule=WeightSchedule(1.0), views=views or SecondViewAugmentation(), **changes
    )


def _pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 3, 20, generator=generator, dtype=torch.float64) * 3
    return x, y, torch.rand(3, 20, generator=generator) < 0.7


@pytest.fixture
def student(model):
    draw_blobs(model)
    return model.train()


def test_the_dice_distance_is_its_formula():
    x, y, inside = _pair()
    for row in range(3):
        p, q = x[row, inside[row]].sigmoid(), y[row, inside[row]].sigmoid()
        squares = (p**2).sum() + (q**2).sum()
        expected = (squares - 2 * (p * q).sum()) / (squares + 1)
        assert soft_dice_distance(x, y, inside)[row] == pytest.approx(float(expected))


def test_the_divergence_is_its_formula():
    x, y, inside = _pair()
    for row in range(3):
        p, q = (torch.distributions.Bernoulli(logits=logits[row, inside[row]]) for logits in (x, y))
        kl = torch.distributions.kl_divergence
        expected = 0.5 * (kl(p, q) + kl(q, p)).mean()
        assert symmetric_kl(x, y, inside)[row] == pytest.approx(float(expected))


@pytest.mark.parametrize("distance", [soft_dice_distance, symmetric_kl])
def test_a_distance_is_zero_and_least_where_the_answers_are_equal(distance):
    x, y, inside = _pair()
    assert distance(x, x, inside).abs().max() == 0
    assert bool((distance(x, y, inside) > 0).all())
    own = x.clone().requires_grad_()
    distance(own, x, inside).sum().backward()
    assert own.grad.abs().max() < 1e-12


@pytest.mark.parametrize("distance", [soft_dice_distance, symmetric_kl])
def test_a_distance_has_the_right_gradient(distance):
    x, y, inside = _pair()
    assert torch.autograd.gradcheck(lambda own: distance(own, y, inside), x.requires_grad_())


@pytest.mark.parametrize("distance", [soft_dice_distance, symmetric_kl])
def test_what_is_outside_does_not_count(distance):
    x, y, inside = _pair()
    moved = torch.where(inside, x, x + 5)
    assert torch.equal(distance(x, y, inside), distance(moved, y, inside))
    assert distance(x, y, torch.zeros_like(inside)).abs().max() == 0


@pytest.mark.parametrize("loss", ["dice", "kl"])
def test_the_same_model_on_the_same_view_agrees_with_itself(student, loss):
    student.eval()
    context = context_of(student, teacher_of(student), samples(3, 2))
    terms = _objective(UNCHANGED, loss=loss)(student, context)
    assert set(terms) == NAMES
    assert terms["loss_consistency"] < 1e-6
    assert terms["consistency_iou"] > 0.999


@pytest.mark.parametrize("make", [tiny_sam, tiny_semantic_sam])
def test_other_models_agree_with_themselves_too(make):
    model = make().eval()
    context = context_of(model, teacher_of(model), samples(3))
    assert _objective(UNCHANGED)(model, context)["loss_consistency"] < 1e-5


def test_clicks_and_answers_go_with_the_photo(student):
    """Discs that are enlarged as the view is are the same thing in both views."""
    views = SecondViewAugmentation((0.8, 0.8), 30.0, 0.0, 0.5, 0.0, 0.0)
    for seed in range(4):
        teacher = teacher_of(student)
        context = context_of(student, teacher, samples(3, 3, seed=seed))
        answer_discs(student, 12.0)
        answer_discs(teacher, 12.0 / 0.8)
        terms = _objective(views, centre_probability=0.0)(student, context)
        assert terms["consistency_iou"] > 0.8
        assert terms["loss_consistency"] < 0.02
        del student.decode


def test_only_the_student_learns(student):
    teacher = teacher_of(student)
    before = weights(teacher)
    context = context_of(student, teacher, samples(3, 1))
    terms = _objective()(student, context)
    terms["loss_consistency"].backward()
    assert terms["loss_consistency"] > 0
    assert not terms["consistency_iou"].requires_grad
    assert learns(list(student.image_encoder.parameters()))
    assert learns(list(student.mask_decoder.parameters()))
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for was, now in zip(before, weights(teacher), strict=True):
        assert torch.equal(was, now)


@pytest.mark.parametrize("counts", [(0,), (0, 0)])
def test_photos_without_a_mask_say_nothing(student, counts):
    context = context_of(student, teacher_of(student), samples(*counts))
    assert {name: float(term) for name, term in _objective()(student, context).items()} == {
        "loss_consistency": 0.0,
        "consistency_iou": 0.0,
    }


def test_the_loss_is_a_mean_over_photos_whatever_else_is_in_the_batch(student):
    student.eval()
    teacher = teacher_of(student)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(0.9)
    batch = samples(3, 0, 2)
    together = _objective()(student, context_of(student, teacher, batch))
    alone = [_objective()(student, context_of(student, teacher, [one])) for one in batch]
    for name in NAMES:
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(together[name], mean, rtol=1e-4, atol=1e-6)


def test_training_makes_the_views_agree(student):
    torch.manual_seed(0)
    teacher = teacher_of(student)
    objective = _objective(SecondViewAugmentation((0.9, 1.0), 5.0, 0.0, 0.5, 0.2, 0.5))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * parameter.std(unbiased=False) * torch.randn_like(parameter))
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        context = context_of(student, teacher, samples(3, seed=step % 2))
        loss = objective(student, context)["loss_consistency"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
