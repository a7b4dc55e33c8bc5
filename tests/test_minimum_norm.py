"""Attacks on linear models, whose nearest misclassified image is known in closed form, the box included."""

import foolbox
import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import (
    FGSM,
    IFGSM,
    PGD,
    RFGSM,
    SPSA,
    Adaptive,
    Attack,
    AutoAttackPart,
    CarliniWagner,
    DeepFool,
    ImageRng,
    L2Ball,
    LinfBall,
    MultiTargeted,
    Noise,
    Norm,
    OutsideIn,
    Square,
    ball,
)
from bpfc.judge import Judge

Digits = tuple[Tensor, Tensor]
COUNT, SHAPE = 8, (1, 6, 6)


@pytest.fixture(scope="module")
def linear() -> tuple[nn.Module, Tensor, Tensor]:
    """Four classes of which the first two differ and the others never win; images with black and white pixels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    with torch.no_grad():
        model[1].weight[2:] = 0
        model[1].bias[2:] = -100.0
    images = torch.rand(COUNT, *SHAPE)
    images[images < 0.2] = 0
    images[images > 0.8] = 1
    return model.eval(), images, model(images).argmax(1)


def closest(model: nn.Module, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    """The distance to the other class within the box: clip(x + t·w) or clip(x + t·sign w) at the smallest t (KKT)."""
    slope = (model[1].weight[1 - labels] - model[1].weight[labels]).view(-1, *SHAPE).detach()
    way = slope if norm == "l2" else slope.sign()
    low, high = torch.zeros(len(images)), torch.full((len(images),), 1000.0)
    for _ in range(60):
        middle = (low + high) / 2
        logits = model((images + middle.view(-1, 1, 1, 1) * way).clamp(0, 1)).detach()
        rows = torch.arange(len(images))
        beyond = logits[rows, 1 - labels] > logits[rows, labels]
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    delta = (images + high.view(-1, 1, 1, 1) * way).clamp(0, 1) - images
    return ball(norm, 1.0).distances(delta)


def broken_at(factor: float, attack_of_eps: object, norm: Norm, linear: tuple[nn.Module, Tensor, Tensor]) -> list[bool]:
    """Whether each image is broken at `factor` times the distance of its nearest misclassified version."""
    model, images, labels = linear
    found = []
    for i, distance in enumerate(closest(model, images, labels, norm).tolist()):
        eps = factor * distance
        judge = Judge(model, images[i : i + 1], labels[i : i + 1], ball(norm, eps))
        judge.run(attack_of_eps(eps), ImageRng(0, [i]))  # type: ignore[operator]
        found.append(bool(judge.broken.item()))
    return found


BOUNDED = {
    "fgsm": (lambda e: FGSM(e), "linf", 1.001),
    "rfgsm": (lambda e: RFGSM(0.02 * e, 0.98 * e), "linf", 1.05),
    "ifgsm": (lambda e: IFGSM(e, 10), "linf", 1.001),
    "pgd": (lambda e: PGD(e, e / 4, 40), "linf", 1.001),
    "pgd, margin": (lambda e: PGD(e, e / 4, 40, "margin"), "linf", 1.001),
    "pgd, dlr": (lambda e: PGD(e, e / 4, 40, "dlr"), "linf", 1.001),
    "pgd, l2": (lambda e: PGD(e, e / 4, 60, norm="l2"), "l2", 1.02),
    "multi-targeted": (lambda e: MultiTargeted(e, e / 4, 20), "linf", 1.001),
    "multi-targeted, l2": (lambda e: MultiTargeted(e, e / 4, 60, norm="l2"), "l2", 1.02),
    "adaptive": (lambda e: Adaptive(e, e / 4, 20, k=2), "linf", 1.001),
    "outside-in": (lambda e: OutsideIn(e, 60), "linf", 1.02),
    "outside-in, l2": (lambda e: OutsideIn(e, 60, norm="l2"), "l2", 1.03),
    "spsa": (lambda e: SPSA(e, 20, pairs=64, lr=e / 4), "linf", 1.05),
    "square": (lambda e: Square(e, 600), "linf", 1.1),
    "apgd-ce": (lambda e: AutoAttackPart(e, "apgd-ce"), "linf", 1.01),
    "apgd-t": (lambda e: AutoAttackPart(e, "apgd-t"), "linf", 1.01),
    "fab-t": (lambda e: AutoAttackPart(e, "fab-t"), "linf", 1.01),
}
"""Attack at a radius, its norm, and at what multiple of the closed-form distance it must break every image."""


DEAR = {"spsa", "square", "apgd-ce", "apgd-t", "fab-t"}
"""Of these, half the images are enough."""


@pytest.mark.filterwarnings("ignore:AutoAttack.*zero gradient")  # towards the classes that never win
@pytest.mark.parametrize("name", BOUNDED)
def test_breaks_as_soon_as_the_ball_holds_an_adversary(name: str, linear: tuple[nn.Module, Tensor, Tensor]) -> None:
    attack, norm, ratio = BOUNDED[name]
    if name in DEAR:
        model, images, labels = linear
        linear = model, images[: COUNT // 2], labels[: COUNT // 2]
    assert all(broken_at(ratio, attack, norm, linear))
    assert not any(broken_at(0.99, attack, norm, linear))


def test_noise_breaks_what_has_few_corners() -> None:
    """Of 16 corners of the ball around 4 pixels, 300 draws find the one that breaks, and uniform noise comes near."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    images = 0.4 + 0.2 * torch.rand(20, 1, 2, 2)
    labels = model(images).argmax(1)
    slope = (model[1].weight[1 - labels] - model[1].weight[labels]).detach()
    gap = -(model(images).gather(1, 1 - labels[:, None]) - model(images).gather(1, labels[:, None]))[:, 0].detach()
    distance = (gap / slope.abs().sum(1)).max().item()
    for corners, factor in ((True, 1.01), (False, 1.5)):
        eps = factor * distance
        judge = Judge(model, images, labels, LinfBall(eps))
        judge.run(Noise(eps, 300, corners=corners), ImageRng(0, range(20)))
        assert judge.broken.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_passes_by_a_class_to_which_no_gradient_leads(norm: Norm) -> None:
    """The likelier other class answers as the label's does, whatever the image: its nearest move is none at all."""

    def model(images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(dim=1)
        return torch.stack([0 * mean + 0.6, 0 * mean + 0.5, mean], dim=1)

    images = torch.full((2, 1, 3, 3), 0.4)
    found = DeepFool(norm)(model, images, torch.zeros(2, dtype=torch.long), ImageRng(0, range(2)))  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.full_like(images, 0.6), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("attack", "ratio"),
    [(DeepFool("l2"), 1.001), (DeepFool("linf"), 1.001), (CarliniWagner(200), 1.02)],
    ids=["deepfool-l2", "deepfool-linf", "cw"],
)
def test_finds_the_nearest_image_of_a_linear_model(
    attack: Attack, ratio: float, linear: tuple[nn.Module, Tensor, Tensor]
) -> None:
    model, images, labels = linear
    judge = Judge(model, images, labels, ball(attack.norm, 0.01), attack.norm)
    judge.run(attack, ImageRng(0, range(COUNT)))
    assert judge.found.all()
    best = closest(model, images, labels, attack.norm)
    found = judge.l2 if attack.norm == "l2" else judge.linf
    assert (found >= best * (1 - 1e-4)).all()
    assert (found <= best * ratio).all()
    assert judge.broken.tolist() == (found <= 0.01).tolist()
    alone = attack(model, images, labels, ImageRng(0, range(COUNT)))
    torch.testing.assert_close(ball(attack.norm, 1.0).distances(alone - images), found, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "norm"),
    [
        ("deepfool-l2", foolbox.attacks.L2DeepFoolAttack(), "l2"),
        ("deepfool", foolbox.attacks.LinfDeepFoolAttack(), "linf"),
        ("cw-50", foolbox.attacks.L2CarliniWagnerAttack(steps=50), "l2"),
    ],
)
def test_no_further_than_foolbox(
    ours: str, theirs: foolbox.Attack, norm: Norm, trained: nn.Module, test_digits: Digits
) -> None:
    images, labels = test_digits[0][:16], test_digits[1][:16]
    right = trained(images).argmax(1) == labels
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    _, found, success = theirs(model, images[right], labels[right], epsilons=None)
    trained.zero_grad(set_to_none=True)  # theirs leaves gradients behind
    distances = ball(norm, 1.0).distances(found - images[right])
    distances[~success] = torch.inf
    summary = bpfc.evaluate(trained, images, labels, attacks=ours, eps=0.1).summary["attacks"][ours]
    assert summary["success"] >= success.float().mean().item()
    assert summary[f"median_{norm}"] <= distances.quantile(0.5).item()


def test_l2_pgd_agrees_with_foolbox_or_is_stronger(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:150], test_digits[1][:150]
    torch.manual_seed(0)
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    theirs = foolbox.attacks.L2PGD(abs_stepsize=0.1, steps=40)
    broken = theirs(model, images, labels, epsilons=1.5)[2]
    trained.zero_grad(set_to_none=True)  # theirs leaves gradients behind
    ours = bpfc.evaluate(trained, images, labels, attacks="pgd-40", eps=1.5, norm="l2", step_size=0.1)
    assert 0.1 < ours.robust <= 1 - broken.float().mean().item() + 0.01  # an image, by another random start
    inside = L2Ball(1.5)
    assert all(row["attacks"]["pgd-40"]["l2"] <= inside.eps + 1e-6 for row in ours.rows if row["broken_by"] == "pgd-40")
