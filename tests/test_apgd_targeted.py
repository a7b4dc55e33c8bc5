"""APGD towards classes: which they are, where each begins, what is asked of the model; and the focus on the nearest."""

import weakref

import pytest
import torch
from test_apgd import Digits, recorded
from torch import Tensor, nn

from bpfc.attacks import Attack, ImageRng, L2Ball, LinfBall, NarrowingAPGD, Norm, TargetedAPGD, apgd_targeted, ball
from bpfc.attacks.apgd import auto_ascent
from bpfc.attacks.apgd_targeted import nearest_classes, side_by_side
from bpfc.attacks.balls import finite
from bpfc.attacks.objectives import likeliest_others, margins, targeted_dlrs
from bpfc.evaluation import Block, Context, ThreatModel, parse, run_block
from bpfc.judge import Judge


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_target_starts_elsewhere_whatever_the_batch(norm: Norm, trained: nn.Module, test_digits: Digits) -> None:
    def starts(places: list[int]) -> Tensor:
        """(3, N, …), target by target; the first is where APGD starts at no target."""
        seen: list[Tensor] = []
        images, labels = (part[places] for part in test_digits)
        attack, rng = TargetedAPGD(0.2, 1, 3, norm, room=100), ImageRng(0, places)
        attack(recorded(trained, seen), images, labels, rng)
        found = seen[1].unflatten(0, (3, len(places)))
        inside = ball(norm, 0.2)
        torch.testing.assert_close(found[0], inside.project(images, inside.surface(images, rng)))
        return found

    together = starts([0, 1, 2])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (together[one] - together[other]).flatten(1).norm(dim=1).gt(0.05).all()
    assert torch.equal(together[:, 1:2], starts([1]))
    assert torch.equal(together, starts([0, 1, 2]))


def test_targets_are_nearest_by_gap_over_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 4, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[4.0, 0.0], [3.0, 0.1], [2.0, 9.0], [1.0, 0.0]]))
    image, label = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([0])
    # Gaps 1, 2, 3; dual norms 1.1, 11, 3: the second likeliest is nearest, by far.
    chosen, logits = nearest_classes(model, image, label, 2, LinfBall(0.1))
    assert chosen.tolist() == [[2, 1]]
    assert logits.tolist() == [[4, 3, 2, 1]]
    assert nearest_classes(model, image, label, 3, LinfBall(0.1))[0].tolist() == [[1, 2, 3]]


def test_of_classes_that_are_equally_near_the_lower_number_comes_first() -> None:
    """Of more than 16 equal numbers torch's plain sort makes another order, on each device its own."""
    logits = torch.zeros(2, 40)
    logits[:, 30] = 1
    found = likeliest_others(logits, torch.tensor([0, 30]))
    assert found.tolist() == [[30, *range(1, 30), *range(31, 40)], [*range(30), *range(31, 40)]]
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 40)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(40)[:, :1].expand(40, 4))
        model[1].bias.zero_()
    for norm in ("linf", "l2"):
        chosen, _ = nearest_classes(model, torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), 20, ball(norm, 0.1))
        assert chosen.tolist() == [[*range(1, 21)]]


@pytest.mark.parametrize("targets", [2, 9])
def test_targets_are_found_once_for_an_image_and_counted(targets: int, trained: nn.Module, test_digits: Digits) -> None:
    """Three restarts of five images in one batch, of which one stands there twice."""
    places = [0, 1, 2, 3, 0]
    images, labels = (part[places * 3] for part in test_digits)
    attack, rng = TargetedAPGD(1e-6, 4, targets), ImageRng(0, list(range(5)) * 3, [0] * 5 + [1] * 5 + [2] * 5)
    judge = Judge(trained, images, labels, LinfBall(attack.eps), restarts=3)
    passes: list[int] = []
    handle = trained.register_forward_hook(lambda _, args, __: passes.append(len(args[0])))
    judge.run(attack, rng)
    handle.remove()
    each = targets * (4 + 1)  # the last iterates are looked at as well
    assert passes[0] == 4
    assert judge.queries is not None
    assert judge.queries.tolist() == [each + 1] * 15  # what each would take alone
    assert sum(passes) == judge.queries.sum() - 11 + 15  # the judge's own
    alone = [attack(trained, images[i : i + 1], labels[i : i + 1], rng[torch.tensor([i])]) for i in range(15)]
    torch.testing.assert_close(torch.cat(alone), attack(trained, images, labels, rng), rtol=0, atol=1e-7)


@pytest.mark.parametrize("targets", [2, 9])
def test_all_that_is_asked_about_an_image_is_shown_to_the_end(
    targets: int, trained: nn.Module, test_digits: Digits
) -> None:
    """Images that fall in the midst of their targets were asked about at the rest of them too."""
    images, labels = (part[:12] for part in test_digits)
    asked: list[int] = []
    shown: list[int] = []

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        shown.append(len(at))
        return logits.argmax(1) != labels[at]

    handle = trained.register_forward_hook(lambda _, args, __: asked.append(len(args[0])))
    TargetedAPGD(0.1, 10, targets)(trained, images, labels, ImageRng(0, range(12)), watch)
    handle.remove()
    assert sum(shown) == sum(asked)


@pytest.mark.parametrize("attack", [TargetedAPGD(0.1, 10), NarrowingAPGD(0.1, 10)], ids=repr)
def test_an_image_that_needs_no_more_work_gets_none(attack: Attack, trained: nn.Module, test_digits: Digits) -> None:
    """Whatever is said of it at its other targets in the same step."""
    images, labels = (part[:12] for part in test_digits)
    ended = torch.full((12,), 100)
    latest = torch.zeros(12, dtype=torch.long)

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        wrong = logits.argmax(1) != labels[at]
        latest[at] = step
        ended[at[wrong]] = ended[at[wrong]].clamp(max=step)
        return wrong

    attack(trained, images, labels, ImageRng(0, range(12)), watch)
    assert ended.lt(10).logical_and(ended > 0).any()
    assert latest.le(ended).all()


@pytest.mark.parametrize(("count", "batch_size", "largest"), [(5, 5, 5), (2, 12, 12), (2, 256, 18), (1, 4, 4)])
def test_targets_fill_the_batch_and_no_forward_is_larger(
    count: int, batch_size: int, largest: int, trained: nn.Module, test_digits: Digits
) -> None:
    """Nine targets an image, of which none breaks it: without room for them, each in a forward of its own."""
    images, labels = (part[:count] for part in test_digits)
    plan = parse("apgd-t-3", Context(ThreatModel("linf", 1e-6), 1), batch_size=batch_size)
    sizes: list[int] = []
    handle = trained.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    run_block(trained, Block(list(range(count)), images, labels), plan)
    assert max(sizes) == largest
    sizes.clear()
    TargetedAPGD(1e-6, 3)(trained, images, labels, ImageRng(0, range(count)))
    handle.remove()
    assert max(sizes) == count  # called by itself, it does not know what fits


def test_targets_are_chosen_in_forwards_no_larger_than_the_room(trained: nn.Module, test_digits: Digits) -> None:
    images, labels, rng = test_digits[0][:10], test_digits[1][:10], ImageRng(0, range(10))
    sizes: list[int] = []
    handle = trained.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    found = TargetedAPGD(0.01, 2, 3, room=4)(trained, images, labels, rng)
    handle.remove()
    assert max(sizes) == 4
    torch.testing.assert_close(found, TargetedAPGD(0.01, 2, 3)(trained, images, labels, rng), rtol=0, atol=1e-6)


def test_targets_are_chosen_with_one_gradient_in_memory(
    trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be 32 candidates, whose gradients are as large as the images each."""
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watched(values: Tensor) -> Tensor:
        alive.append(sum(each() is not None for each in made))
        kept = finite(values)
        made.append(weakref.ref(kept))
        return kept

    monkeypatch.setattr(apgd_targeted, "finite", watched)
    nearest_classes(trained, test_digits[0][:2], test_digits[1][:2], 3, LinfBall(0.1))
    assert alive == [0] * 9


@pytest.mark.parametrize("inside", [LinfBall(0.06), L2Ball(1.0)], ids=repr)
def test_the_focus_is_on_the_class_that_came_nearest(
    inside: LinfBall | L2Ball, trained: nn.Module, test_digits: Digits
) -> None:
    """Against a plain twin, an image at a time: all classes for two steps and the nearest four of them for two more,
    then the best of all, three times."""
    few, many, picked, hopeless = 4, 20, set(), 0
    for place in range(24):
        images, labels = (part[place : place + 1] for part in test_digits)
        rng = ImageRng(3, [place])
        with torch.no_grad():
            clean = trained(images)
        seen, firsts = [clean], []
        for turn, target in enumerate(likeliest_others(clean, labels)[0]):
            aim, start = torch.stack([labels, target[None]], dim=1), inside.surface(images, rng, turn)
            shown: list[Tensor] = []
            model = recorded(trained, shown)
            end = auto_ascent(model, images, aim, start, ball=inside, steps=few, losses=targeted_dlrs)
            with torch.no_grad():
                firsts.append((end, trained(torch.cat([*shown, end]))))
        half = few // 2 + 1
        firsts.sort(key=lambda first: -margins(first[1][:half], labels.expand(half)).max().item())
        seen += [logits[:half] for _, logits in firsts] + [logits[half:] for _, logits in firsts[:4]]
        expected = max(firsts[:4], key=lambda first: margins(first[1][-1:], labels).item())[0]
        logits = torch.cat(seen)
        gaps = logits - logits[:, labels]
        gaps[:, labels] = -torch.inf
        if gaps.max() < gaps[0].max() / 4:
            hopeless += 1
        else:
            nearest = gaps.amax(dim=0).argmax()[None]
            aim, ends = torch.stack([labels, nearest], dim=1), []
            for draw in (9, 10, 11):
                start = inside.surface(images, rng, draw)
                ends.append(auto_ascent(trained, images, aim, start, ball=inside, steps=many, losses=targeted_dlrs))
            with torch.no_grad():
                expected = max(ends, key=lambda end: margins(trained(end), labels).item())
            picked.add(int(nearest))
        found = NarrowingAPGD(inside.eps, many, norm=inside.norm)(trained, images, labels, rng)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(picked) > 1
    assert 0 < hopeless < 24


class Faltering(nn.Module):
    """Six linear classes; for the last target of three images, asked for the first time, there is no answer."""

    def __init__(self, falters: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.falters, self.sizes = nn.Linear(16, 6), falters, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.layer(images.flatten(1))
        if self.falters and not self.sizes:
            logits = torch.cat([logits[:-3], logits[-3:] * torch.nan])
        self.sizes.append(len(images))
        return logits


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("falters", [False, True])
def test_the_finalist_is_the_target_that_came_nearest_and_goes_on_alone(watched: bool, falters: bool) -> None:
    """Also where nobody watches; a target at which there was no answer once is judged by the other iterates."""
    torch.manual_seed(1)
    images, rng, model, sound = torch.rand(3, 1, 4, 4), ImageRng(0, range(3)), Faltering(falters), Faltering(False)
    classes = likeliest_others(sound(images), labels := sound(images).argmax(dim=1)).roll(1, dims=1)
    inside = LinfBall(0.01)
    found = side_by_side(
        model,
        images,
        labels,
        classes,
        rng,
        ball=inside,
        steps=8,
        room=100,
        finalists=1,
        watch=(lambda at, *_: torch.zeros_like(at, dtype=torch.bool)) if watched else None,
    )
    assert model.sizes == [15] * 5 + [3] * 4
    for place in range(3):
        ends, label = [], labels[place : place + 1]
        for turn, target in enumerate(classes[place]):
            start = inside.surface(images, rng, turn)[place : place + 1]
            seen: list[Tensor] = []
            aim = torch.stack([label, target[None]], dim=1)
            image = images[place : place + 1]
            end = auto_ascent(recorded(sound, seen), image, aim, start, ball=inside, steps=8, losses=targeted_dlrs)
            reached = margins(sound(torch.cat(seen[:5])), label.expand(5)).max().item()
            ends.append((reached, end))
        _, best = max(ends, key=lambda each: each[0])
        torch.testing.assert_close(found[place : place + 1], best, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attack", [TargetedAPGD(0.1, 20), NarrowingAPGD(0.1, 20)], ids=repr)
def test_an_image_that_falls_at_once_is_shown_once(attack: Attack, trained: nn.Module, test_digits: Digits) -> None:
    images, labels = (part[:4] for part in test_digits)
    shown: list[int] = []

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        shown.append(step)
        return torch.ones_like(at, dtype=torch.bool)

    found = attack(trained, images, labels, ImageRng(0, range(4)), watch)
    assert shown == [0]
    assert torch.equal(found, images)


def test_no_forward_of_the_focus_is_larger_than_the_room(trained: nn.Module, test_digits: Digits) -> None:
    images, labels, rng = test_digits[0][:10], test_digits[1][:10], ImageRng(0, range(10))
    sizes: list[int] = []
    handle = trained.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    found = NarrowingAPGD(0.1, 10, 1, room=4)(trained, images, labels, rng)
    handle.remove()
    assert len(sizes) > 10 / 4 * (1 + 2 + 10)  # more than the look at all classes takes: some are focused on
    assert max(sizes) == 4
    torch.testing.assert_close(found, NarrowingAPGD(0.1, 10, 1)(trained, images, labels, rng), rtol=0, atol=1e-5)


def test_the_focus_counts_the_steps_on(trained: nn.Module, test_digits: Digits) -> None:
    steps: set[int] = set()

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        steps.add(step)
        return torch.zeros_like(at, dtype=torch.bool)

    NarrowingAPGD(0.1, 10)(trained, test_digits[0][:10], test_digits[1][:10], ImageRng(0, range(10)), watch)
    assert steps == set(range(2 + 10 + 1))


def test_the_room_is_no_setting_that_a_row_depends_on() -> None:
    assert repr(TargetedAPGD(0.1, 3, room=4)) == repr(TargetedAPGD(0.1, 3))
    assert TargetedAPGD(0.1, 3, room=4) == TargetedAPGD(0.1, 3)
