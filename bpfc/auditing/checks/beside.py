"""C18: controls beside the model. What fails on a network that is known to fall says nothing about another."""

import torch
from torch import Tensor, nn

from bpfc.attacks import PGD, ImageRng
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.layers import around, working_gradients
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.twin import undefended
from bpfc.judge import run_attack

WIDE, LEAST, MOST = 4, 0.25, 200


class Steps(nn.Module):
    """Eight values a pixel: the gradient is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return (images * 7).round() / 7


def measure(m: Measurements) -> Measured:
    images, labels = m.some(slice(MOST))
    if len(labels.unique()) < 2:
        return Measured(None, "the images are of one class: an undefended network would learn to say that alone")
    twin = undefended(m.images[:MOST], m.logits.shape[1], m.epochs)
    with torch.no_grad():
        right = twin(images).argmax(dim=1) == labels
    images, labels = images[right], labels[right]
    if not len(images):
        return Measured(None, "an undefended network did not learn the images")
    wide = min(1.0, max(WIDE * m.eps, LEAST))
    here, far = (_standing(m, twin, images, labels, eps) for eps in (m.eps, wide))
    masked = nn.Sequential(Steps(), twin).eval()
    hidden = working_gradients(masked, images, labels) == 0
    seen = hidden and around(masked, images[:64], labels[:64], m.eps, most=1) is not None
    told = f"of an undefended network's images {here:.1%} stand at ε {m.eps:.4g}, {far:.1%} at {wide:.4g}; "
    told += f"rounding in front of it is {'found' if seen else 'not found'}"
    return Measured(far > 0 or not seen, told, far)


def _standing(m: Measurements, model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> float:
    rng = ImageRng(m.seed, range(len(images)))
    broken = run_attack(model, images, labels, PGD(eps, eps / 8, 2 * m.short, "margin"), rng).broken
    return 1 - float(broken.float().mean())


CHECK = Check(
    id="C18",
    title="controls beside the model",
    threshold="an undefended network stands at 4 ε (at least 0.25), or rounding in front of it is not found",
    source="Carlini et al. 2019, section 4.13 (undefended models); the radius is ours",
    needs="the images and labels",
    cost="a brief training, and PGD on a small network",
    meaning="On these images the attacks fail where they must not: what they leave of the model says nothing.",
    next="look at images, labels and ε",
    measure=measure,
)
