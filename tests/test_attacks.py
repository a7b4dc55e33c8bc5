from collections.abc import Callable
from types import SimpleNamespace

import foolbox
import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import (
    APGD,
    FGSM,
    IFGSM,
    PGD,
    RFGSM,
    SPSA,
    Adaptive,
    Attack,
    AutoAttackPart,
    BatchRng,
    CarliniWagner,
    DeepFool,
    ImageRng,
    MultiTargeted,
    NarrowingAPGD,
    Noise,
    OutsideIn,
    Square,
    TargetedAPGD,
)
from bpfc.attacks.ascent import input_gradient

EVERY_ATTACK = [FGSM(0.1), RFGSM(0.05, 0.05), IFGSM(0.1, 8), PGD(0.1, 0.02, 12)]
EVERY_KIND = [
    *EVERY_ATTACK,
    APGD(0.1, 3),
    TargetedAPGD(0.1, 3),
    NarrowingAPGD(0.1, 3),
    OutsideIn(0.1, 3),
    MultiTargeted(0.1, 0.02, 3),
    Adaptive(0.1, 0.02, 3, k=6),
    DeepFool(),
    CarliniWagner(2, 2),
    SPSA(0.1, 2, pairs=2),
    Square(0.1, 3),
    Noise(0.1, 3),
    AutoAttackPart(0.1, "square"),
]


class Linear(nn.Module):
    """Two classes, logits W x + b: the image in ball and box that maximises the loss is known in closed form."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))

    def optimum(self, images: Tensor, labels: Tensor, eps: float) -> Tensor:
        towards = (self.layer.weight[1 - labels] - self.layer.weight[labels]).sign().view_as(images)
        return (images + eps * towards).clamp(0, 1).detach()


@pytest.mark.parametrize("attack", [a for a in EVERY_ATTACK if not isinstance(a, RFGSM)], ids=repr)
def test_reaches_the_closed_form_optimum_of_a_linear_model(attack: Attack) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(20, 3, 4, 4), torch.randint(0, 2, (20,))
    model = Linear(48).eval()
    out = attack(model, images, labels, ImageRng(0, range(20)))
    torch.testing.assert_close(out, model.optimum(images, labels, attack.eps), rtol=0, atol=1e-6)


@pytest.mark.parametrize("attack", [*EVERY_ATTACK, OutsideIn(0.1, 12)], ids=repr)
@pytest.mark.parametrize("watching", [False, True])
def test_stays_in_ball_and_box_and_leaves_the_model_alone(
    attack: Attack, watching: bool, trained: nn.Module, test_digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = test_digits[0][:16], test_digits[1][:16]
    before = images.clone()
    modes = [module.training for module in trained.modules()]
    watch: Callable[..., Tensor] = lambda at, x, logits, step: logits.argmax(1) != labels[at]  # noqa: E731
    out = attack(trained, images, labels, ImageRng(0, range(16)), watch if watching else None)
    assert (out - images).abs().max() <= attack.eps + 1e-6
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(images, before)
    assert [module.training for module in trained.modules()] == modes
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


def test_gradient_is_that_of_the_summed_loss(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:5], test_digits[1][:5]
    gradient, logits = input_gradient(trained, images, labels)
    for i in range(5):
        alone, _ = input_gradient(trained, images[i : i + 1], labels[i : i + 1])
        torch.testing.assert_close(gradient[i : i + 1], alone, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(logits, trained(images).detach())


class Unmoved(nn.Module):
    """Three classes, by whether the image is bright: autograd finds no way from the answer to the image."""

    def __init__(self, *, records: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([2.0, 1.0, 0.0]), requires_grad=records)

    def forward(self, images: Tensor) -> Tensor:
        return self.bias + (images.flatten(1).mean(dim=1, keepdim=True) > 0.5).float()


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize(
    "attack",
    [
        *EVERY_ATTACK,
        APGD(0.1, 3),
        APGD(0.1, 3, "dlr"),
        TargetedAPGD(0.1, 3),
        TargetedAPGD(0.1, 3, 1),
        NarrowingAPGD(0.1, 3),
        OutsideIn(0.1, 3),
        MultiTargeted(0.1, 0.02, 3),
        Adaptive(0.1, 0.02, 3, k=6),
        DeepFool(),
    ],
    ids=repr,
)
def test_an_answer_that_depends_on_no_image_is_named(attack: Attack, records: bool) -> None:
    """Whether or not the weights record gradients."""
    images, labels = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="the model lets no gradient through"):
        attack(Unmoved(records=records), images, labels, ImageRng(0, range(3)))


@pytest.mark.parametrize("attack", EVERY_KIND, ids=repr)
def test_images_in_other_units_and_numbers_for_other_images_are_refused(attack: Attack) -> None:
    """Some clipped the first without a word, and some never asked the second."""
    images, labels, rng = torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long), ImageRng(0, range(4))
    with pytest.raises(TypeError, match="dtype torch.uint8: must be float"):
        attack(Linear(16).eval(), (255 * images).byte(), labels, rng)
    for wrong in (images * 255, images * 4 - 2):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\]; .* put any normalisation into the model"):
            attack(Linear(16).eval(), wrong, labels, rng)
    with pytest.raises(ValueError, match="2 indices for 4 images"):
        attack(Linear(16).eval(), images, labels, ImageRng(0, range(2)))

    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="float16 under bfloat16 autocast"):
        attack(Linear(16).eval(), images.half(), labels, rng)


class InAnObject(Linear):
    """Answers as Hugging Face's classifiers do."""

    def forward(self, images: Tensor) -> SimpleNamespace:  # type: ignore[override]
        return SimpleNamespace(logits=super().forward(images))


@pytest.mark.parametrize("attack", EVERY_KIND, ids=repr)
def test_an_answer_with_more_than_logits_is_refused_with_the_way_out(attack: Attack) -> None:
    images, labels, rng = torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long), ImageRng(0, range(4))
    with pytest.raises(TypeError, match=r"gives a SimpleNamespace, must give logits; .* bpfc.Logits\(model\)"):
        attack(InAnObject(16).eval(), images, labels, rng, lambda at, *_: torch.zeros(len(at), dtype=torch.bool))


@pytest.mark.parametrize(
    "attack", [*EVERY_ATTACK, APGD(0.1, 3), OutsideIn(0.1, 3), DeepFool(), CarliniWagner(2, 2)], ids=repr
)
@torch.inference_mode()
def test_where_nothing_has_a_gradient_the_model_is_not_blamed(attack: Attack) -> None:
    images, labels = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"called inside torch\.inference_mode\(\)"):
        attack(Linear(16).eval(), images, labels, ImageRng(0, range(3)))


def plain_pgd(model: nn.Module, images: Tensor, labels: Tensor, start: Tensor, attack: PGD) -> Tensor:
    """The textbook loop: nobody dropped, last iterate."""
    x = start.clone()
    for _ in range(attack.steps):
        x = x.detach().requires_grad_()
        nn.functional.cross_entropy(model(x), labels, reduction="sum").backward()
        x = x + attack.step_size * x.grad.sign()
        x = torch.min(torch.max(x, images - attack.eps), images + attack.eps).clamp(0, 1)
    model.zero_grad()
    return x.detach()


def test_pgd_equals_the_plain_loop(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:20], test_digits[1][:20]
    attack, rng = PGD(0.1, 0.02, 10), ImageRng(3, range(20))
    start = images + 0.1 * rng.uniform(images)
    torch.testing.assert_close(
        attack(trained, images, labels, rng), plain_pgd(trained, images, labels, start, attack), rtol=0, atol=1e-6
    )
    trained.zero_grad(set_to_none=True)


def test_ifgsm_in_one_step_is_fgsm(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:20], test_digits[1][:20]
    rng = ImageRng(0, range(20))
    assert torch.equal(IFGSM(0.1, 1)(trained, images, labels, rng), FGSM(0.1)(trained, images, labels, rng))


def test_rfgsm_steps_from_a_corner_of_the_box(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:20], test_digits[1][:20]
    rng = ImageRng(0, range(20))
    start = images + 0.04 * rng.uniform(images).sign()
    gradient, _ = input_gradient(trained, start, labels)
    plain = (start + 0.1 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(RFGSM(0.04, 0.1)(trained, images, labels, rng), plain, rtol=0, atol=1e-6)
    torch.manual_seed(0)
    noise = BatchRng().uniform(images)
    assert noise.min() >= -1
    assert 0.9 < noise.max() <= 1


def test_watch_sees_every_iterate_but_the_last_and_drops_what_it_says(
    trained: nn.Module, test_digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = test_digits[0][:6], test_digits[1][:6]
    seen: list[tuple[int, list[int]]] = []

    def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        seen.append((step, positions.tolist()))
        torch.testing.assert_close(logits, trained(candidates).detach(), rtol=1e-4, atol=1e-4)
        return positions < step  # drops image i after step i + 1

    PGD(0.1, 0.01, 4)(trained, images, labels, ImageRng(0, range(6)), watch)
    assert seen == [(0, [0, 1, 2, 3, 4, 5]), (1, [0, 1, 2, 3, 4, 5]), (2, [1, 2, 3, 4, 5]), (3, [2, 3, 4, 5])]


def test_random_starts_belong_to_the_image_and_the_restart() -> None:
    images = torch.zeros(4, 1, 5, 5)
    together = ImageRng(1, [7, 8, 9, 10]).uniform(images)
    assert torch.equal(together[2:3], ImageRng(1, [9]).uniform(images[:1]))
    others = [ImageRng(1, [9], restart=1), ImageRng(2, [9]), ImageRng(1, [8])]
    assert all(not torch.equal(together[2:3], other.uniform(images[:1])) for other in others)
    many = ImageRng(0, range(2000)).uniform(torch.zeros(2000, 1, 4, 4))
    assert many.min() >= -1
    assert many.max() <= 1
    assert abs(many.mean()) < 0.02
    assert many.var().item() == pytest.approx(1 / 3, abs=0.01)
    with pytest.raises(ValueError, match="3 indices for 4 images"):
        ImageRng(1, [7, 8, 9]).uniform(images)


def test_agrees_with_foolbox_or_is_stronger(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits
    torch.manual_seed(0)  # their random start
    eps, step, steps = 0.1, 0.01, 40
    theirs = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=True)
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    _, _, broken = theirs(model, images, labels, epsilons=eps)
    ours = bpfc.evaluate(trained, images, labels, attacks=f"pgd-{steps}", eps=eps, step_size=step)
    assert 0.2 < ours.robust < 0.9
    assert ours.robust <= 1 - broken.float().mean().item() + 0.005
    single = foolbox.attacks.LinfFastGradientAttack()(model, images, labels, epsilons=eps)[2]
    trained.zero_grad(set_to_none=True)  # theirs leaves gradients behind
    fgsm = bpfc.evaluate(trained, images, labels, attacks="fgsm", eps=eps)
    assert fgsm.robust == pytest.approx(1 - single.float().mean().item(), abs=0.005)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FGSM(8), "eps=8.*8/255"),
        (lambda: FGSM(float("nan")), "eps=nan"),
        (lambda: PGD(0.1, 0, 5), "step_size=0"),
        (lambda: PGD(0.1, 0.1, 0), "steps=0"),
        (lambda: IFGSM(0.1, 0), "steps=0"),
    ],
)
def test_wrong_settings_are_named(make: Callable[[], Attack], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def splitmix64(state: int) -> int:
    """Steele et al. 2014, in whole numbers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def test_random_numbers_are_splitmix64_of_a_counter() -> None:
    rng = ImageRng(5, [3, 900], restart=[0, 2])
    images = torch.zeros(2, 1, 3, 3)
    for draw in (0, 7):
        found = rng.uniform(images, draw).flatten(1)
        for row, key in zip(found.tolist(), rng.keys.tolist(), strict=True):
            hashed = [splitmix64((key + (i + (draw << 32)) * 0x9E3779B97F4A7C15) % 2**64) for i in range(9)]
            assert row == pytest.approx([2 * ((h >> 40) / 2**24) - 1 + 2**-24 for h in hashed], abs=1e-7)
    assert torch.equal(rng[torch.tensor([1])].uniform(images[:1], 7), rng.uniform(images, 7)[1:])
    assert rng.uniform(images.double()).dtype == torch.float64
