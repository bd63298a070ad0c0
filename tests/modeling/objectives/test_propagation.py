from __future__ import annotations

import dataclasses

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
from unsam.modeling.objectives.propagation import Propagation, pseudo_mask_loss
from unsam.modeling.objectives.second_view import SecondViewAugmentation
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, POSITIVE
from unsam.modeling.sample_random import SampleRandom

NAMES = {"loss_propagation", "propagation_masks"}


def _objective(views=None, **changes) -> Propagation:
    arguments = {
        "points_per_side": 3,
        "quality_threshold": -100.0,
        "stability_threshold": 0.0,
        "masks_per_image": 4,
    }
    return Propagation(
        schedule=WeightSchedule(1.0),
        views=views or SecondViewAugmentation(),
        **(arguments | changes),
    )


def _asked_of_student(objective, student, context) -> list:
    """Run the objective and return the prompts that the student was given."""
    seen = []
    decode = student.decode

    def noted(features, prompts):
        seen.append(prompts)
        return decode(features, prompts)

    student.decode = noted
    try:
        objective(student, context)
    finally:
        del student.decode
    return seen


@pytest.fixture
def student(model):
    draw_blobs(model)
    return model.train()


def test_the_loss_is_cross_entropy_and_dice():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 30, generator=generator)
    targets = torch.rand(2, 30, generator=generator) < 0.4
    inside = torch.rand(2, 30, generator=generator) < 0.7
    for row in range(2):
        x, t = logits[row, inside[row]], targets[row, inside[row]].float()
        p = x.sigmoid()
        entropy = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        expected = float(entropy + dice)
        assert pseudo_mask_loss(logits, targets, inside)[row] == pytest.approx(expected, rel=1e-5)


def test_the_loss_has_the_right_gradient():
    logits = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    targets, inside = torch.arange(24).view(2, 12) % 3 == 0, torch.arange(24).view(2, 12) % 5 > 0
    assert torch.autograd.gradcheck(lambda x: pseudo_mask_loss(x, targets, inside), logits)


def test_only_the_student_learns(student):
    teacher = teacher_of(student)
    before = weights(teacher)
    terms = _objective()(student, context_of(student, teacher, samples(3, 1)))
    assert set(terms) == NAMES
    assert terms["propagation_masks"] > 0
    assert not terms["propagation_masks"].requires_grad
    terms["loss_propagation"].backward()
    assert learns(list(student.image_encoder.parameters()))
    assert learns(list(student.mask_decoder.parameters()))
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for was, now in zip(before, weights(teacher), strict=True):
        assert torch.equal(was, now)


@pytest.mark.parametrize("make", [tiny_sam, tiny_semantic_sam])
def test_other_models_learn_from_their_answers_too(make):
    model = make()
    context = context_of(model, teacher_of(model.eval()), samples(0))
    terms = _objective()(model, context)
    terms["loss_propagation"].backward()
    assert terms["propagation_masks"] > 0
    assert learns(list(model.parameters()))


def test_it_needs_no_masks_of_the_photo(student):
    teacher = teacher_of(student)
    with_masks, without = samples(3), samples(0)
    terms = [
        _objective()(student.eval(), context_of(student, teacher, b)) for b in (with_masks, without)
    ]
    assert terms[0]["loss_propagation"] == terms[1]["loss_propagation"] > 0


@pytest.mark.parametrize("change", [{"quality_threshold": 2.0}, {"stability_offset": 1000.0}])
def test_without_confident_answers_the_loss_is_zero_and_in_the_graph(student, change):
    objective = _objective(**({"stability_threshold": 0.5} | change))
    terms = objective(student, context_of(student, teacher_of(student), samples(3, 0)))
    assert terms["loss_propagation"] == 0
    assert terms["propagation_masks"] == 0
    terms["loss_propagation"].backward()
    assert not learns(list(student.parameters()))


@pytest.mark.parametrize("box_probability", [0.0, 1.0])
def test_a_prompt_on_the_second_view_means_the_answer_on_the_first(student, box_probability):
    """The granularity tells which point of the grid an answer is of."""
    teacher = teacher_of(student)
    context = context_of(student, teacher, samples(0, 0))
    answer_discs(teacher, 12.0)
    objective = _objective(centre_probability=0.0, box_probability=box_probability)
    (prompts,) = _asked_of_student(objective, student, context)
    random = context.random.fork("propagation")
    view = objective.draw_view(context, random, torch.device("cpu"))
    granularity = (0.1 + 0.9 * random.uniform([9, 9])).view(2, 9)
    back = view.transform.inverse.points(prompts.points, prompts.image_of_prompt)
    boxed = (prompts.labels == torch.tensor([BOX_FIRST, BOX_LAST])).all(1)
    clicked = prompts.labels[:, 0] == POSITIVE
    assert bool((boxed if box_probability else clicked).all())
    assert len(prompts) > 4
    for row, (photo, asked) in enumerate(zip(prompts.image_of_prompt, prompts.granularity)):
        number = int((granularity[photo] == asked).nonzero())
        centre = (torch.tensor([number % 3, number // 3]) + 0.5) / 3 * torch.tensor([64, 48])
        meant = back[row].mean(0) if box_probability else back[row, 0]
        assert (meant - centre).norm() < 12.0 + student.mask_stride


def test_the_most_masks_of_a_photo_is_kept(student):
    context = context_of(student, teacher_of(student), samples(0, 0))
    few, many = (_objective(UNCHANGED, masks_per_image=most) for most in (2, 100))
    few, many = (one(student, context)["propagation_masks"] for one in (few, many))
    assert few == 2
    assert many > 2


def test_answers_that_repeat_another_are_left_out():
    objective = _objective(nms_threshold=0.8)
    logits = torch.full((4, 8, 8), -5.0)
    logits[:3, :4] = 5.0
    logits[2, :, :4] = 5.0
    quality = torch.tensor([0.5, 0.6, 0.9, 1.0])
    # The third is larger, the second repeats the first with more quality, the last is empty.
    assert objective._survivors(logits, quality).tolist() == [2, 1]


def test_unsure_and_unstable_answers_are_left_out():
    objective = _objective(quality_threshold=0.5, stability_threshold=0.8, nms_threshold=1.0)
    logits = torch.full((3, 8, 8), -5.0)
    logits[:, :4] = 5.0
    logits[1, 4:6] = 0.5
    quality = torch.tensor([0.4, 0.9, 0.6])
    assert objective._survivors(logits, quality).tolist() == [2]


def test_the_loss_is_a_mean_over_photos_whatever_else_is_in_the_batch(student):
    student.eval()
    teacher = teacher_of(student)
    batch = samples(3, 0, 2)
    together = _objective()(student, context_of(student, teacher, batch))
    alone = [_objective()(student, context_of(student, teacher, [one])) for one in batch]
    for name in NAMES:
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(together[name], mean, rtol=1e-3, atol=1e-5)


def test_the_student_is_asked_at_the_granularity_of_the_answer(student):
    context = context_of(student, teacher_of(student), samples(0))
    (prompts,) = _asked_of_student(_objective(UNCHANGED), student, context)
    asked = SampleRandom.from_batch(context.batch).fork("propagation")
    asked.uniform([1], 10)  # the view comes first
    grid = 0.1 + 0.9 * asked.uniform([9])
    assert set(prompts.granularity.tolist()) <= set(grid.tolist())


def test_training_takes_the_student_to_the_teacher(student):
    torch.manual_seed(0)
    teacher = teacher_of(student)
    objective = _objective(
        dataclasses.replace(SecondViewAugmentation(), crop_scale=(0.9, 1.0), rotation=5.0)
    )
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.3 * parameter.std(unbiased=False) * torch.randn_like(parameter))
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        context = context_of(student, teacher, samples(0, seed=step % 2))
        loss = objective(student, context)["loss_propagation"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
