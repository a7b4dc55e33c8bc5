"""What the checks look at: attacks run once, whoever asks for them, and their rows kept in the audit's folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bpfc.attacks import FGSM, PGD, Attack, Behind, ImageRng, MultiTargeted, aimed
from bpfc.attacks.objectives import margins
from bpfc.auditing.budget import Budget
from bpfc.auditing.found import Found
from bpfc.auditing.fronts import fronted
from bpfc.auditing.probe import Probe, read_probe
from bpfc.auditing.stand_ins import Late, Through, Ungraded
from bpfc.auditing.twin import twin
from bpfc.checks import answers_vary, are_probabilities, check_form
from bpfc.data import Images, blocks, to_float
from bpfc.evaluation import Plan, PlannedAttack, ThreatModel
from bpfc.evaluation.engine import run_blocks
from bpfc.judge import clean_logits, first_logits
from bpfc.models import state_sha256
from bpfc.options import Arithmetic
from bpfc.resumed import FIRST
from bpfc.team import Team
from bpfc.wrappers import EOT, is_random


@dataclass
class Measurements:
    """A model under audit. Every attack has a name, runs when it is first asked for, and is judged on `model`.

    Attributes:
        model: that is judged. One that answers at random without saying so is judged by its mean answer.
        given: the model as it was handed in.
        plain: what the plain attacks differentiate: the same, with a gradient of zero if it lets none through.
        images: images and labels, on the device.
        eps: ε in ℓ∞, in units of [0, 1].
        budget: how much to spend.
        k: bit planes that the model was trained to do without; None if that is unknown.
        seed: of the random starts.
        batch_size: images at a time.
        folder: where what was measured is kept, so that a killed audit goes on; None keeps nothing.
        told: hears of each attack that is done, and how long it took.
        found: what the attacks found.
        train_mode: whether the model was handed in in train mode.
        log: of its training up to the epoch kept, a row an epoch; empty where there is none.
        precision: of the attacks' gradients; verdicts are in float32 always.
        crew: the processes that measure the same, and share each attack's images out.
    """

    model: nn.Module
    images: Images
    eps: float
    budget: Budget
    k: int | None = None
    seed: int = 0
    batch_size: int = 256
    folder: Path | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    told: Callable[[str], None] = lambda _: None
    train_mode: bool = False
    log: Sequence[Mapping[str, Any]] = ()
    precision: Arithmetic = "fp32"
    crew: Team = field(default_factory=lambda: Team(0, 1))
    given: nn.Module = field(init=False)
    plain: nn.Module = field(init=False)
    varies: bool = field(init=False)
    probabilities: bool = field(init=False)
    probes: dict[str, Probe] = field(init=False, default_factory=dict)
    found: Found = field(init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a model or images that cannot be audited, or a folder of another audit."""
        self.probabilities = are_probabilities(check_form(self.model, self.images))
        self.given = self.plain = self.model
        self.varies = not is_random(self.model) and answers_vary(self.model, self.images)
        if self.varies:
            self.model = EOT(self.model, self.budget.samples[-1]).eval()
        try:
            with torch.enable_grad():
                at = self.some(slice(1))[0].clone().requires_grad_()
                torch.autograd.grad(self.plain(at).sum(), at)
        except (ValueError, RuntimeError, NotImplementedError):
            self.plain = Ungraded(self.plain).eval()
        somebody_asks = self.folder is not None or self.crew.size > 1
        self.found = Found(self.folder, self._decides() if somebody_asks else {}, self.crew)

    def _decides(self) -> dict[str, Any]:
        """What decides the outcome of an attack by its name, ready for JSON."""
        return {
            "eps": self.eps,
            "seed": self.seed,
            "precision": self.precision,
            "budget": asdict(self.budget),
            "model_sha256": state_sha256(self.given),
            FIRST: None if self.varies else first_logits(self.given, self.some(slice(1))[0]),
            "images_sha256": self.images.sha256(),
        } | dict(self.header)

    # The images

    def some(self, at: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images, float32 (N, C, H, W) in [0, 1], and their labels. Never all at once: they are stored as handed in."""
        some = self.images[at]
        return to_float(some.pixels), some.labels

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def logits(self) -> Tensor:
        """Of the clean images, (N, classes)."""
        every = blocks(self.images, range(len(self)), self.batch_size)
        return torch.cat([clean_logits(self.model, block.images, block.indices) for block in every])

    @cached_property
    def right(self) -> Tensor:
        """(N,) bool: classified rightly as they are."""
        return self.logits.argmax(dim=1) == self.labels

    def share(self, mask: Tensor) -> float:
        return int(mask.sum()) / len(self)

    # The attacks

    def probe(
        self,
        name: str,
        attack: Attack,
        *,
        on: Tensor | None = None,
        restarts: int = 1,
        through: nn.Module | None = None,
    ) -> Probe:
        """What the attack does to the images where `on` is true (those classified rightly, unless given).

        `through`: what it differentiates; the model as it was handed in, unless given.
        """
        if name not in self.probes:
            chosen = self.right if on is None else on
            places = chosen.nonzero()[:, 0].tolist()
            settings = f"{attack!r} x{restarts} on {len(places)}"
            source = self.plain if through is None else through
            attack = aimed(attack, self.logits.shape[1])
            ran = attack if source is self.model or isinstance(attack, Through) else Through(attack, source)
            line, new = self.found.by(
                name, settings, attack.eps, places, self.batch_size, partial(self._run, name, ran, restarts)
            )
            if new:
                self.told(f"{name}: {len(line['found'])} of {len(places)} images broken, {line['seconds']:.0f} s")
            self.probes[name] = read_probe(line, len(self), self.labels.device)
            if float(attack.eps or 0) <= self.eps:
                self._within[name] = self.probes[name].broken
        return self.probes[name]

    def _run(self, name: str, attack: Attack, restarts: int, parts: Iterator[list[int]]) -> Iterator[list[int | None]]:
        """Index, restart and step of each image in `parts` that the attack breaks, and a 1 where by no answer."""
        threat = ThreatModel("linf", float(attack.eps or 0))
        planned = (PlannedAttack(name, attack, restarts),)
        plan = Plan(planned, threat, seed=self.seed, precision=self.precision, batch_size=self.batch_size)
        for rows in run_blocks(self.model, self.images, parts, plan):
            for row in rows:
                verdict = row["attacks"].get(name)
                if verdict is not None and verdict["broken"]:
                    yield [row["index"], verdict["restart"], verdict["step"], *[1] * ("no_answer" in verdict)]

    @cached_property
    def _within(self) -> dict[str, Tensor]:
        """By attack, what was broken within ε."""
        return {}

    def standing(self, *probes: Probe) -> Tensor:
        """(N,) bool: classified rightly, and broken by none of these."""
        left = self.right
        for probe in probes:
            left = left & ~probe.broken
        return left

    @property
    def left(self) -> Tensor:
        """(N,) bool: what nothing that has run within ε has broken. The audit's worst case."""
        return reduce(lambda left, broken: left & ~broken, self._within.values(), self.right)

    def broken_by(self, index: int) -> str:
        """The first attack within ε that broke an image."""
        return next(name for name, broken in self._within.items() if broken[index])

    @property
    def cascade(self) -> dict[str, float]:
        """By attack within ε, in the order in which they ran, the share that stands after it and those before it."""
        left, shares = self.right, {}
        for name, broken in self._within.items():
            left = left & ~broken
            shares[name] = self.share(left)
        return shares

    # Those that several checks ask for

    def pgd(self, name: str, steps: int, loss: Any = "ce", step_size: float = 0.125, **more: Any) -> Probe:
        """PGD with steps of `step_size` · ε."""
        return self.probe(name, PGD(self.eps, step_size * self.eps, steps, loss), **more)

    @property
    def short(self) -> int:
        return max(10, self.budget.steps // 5)

    @property
    def fgsm(self) -> Probe:
        return self.probe("fgsm", FGSM(self.eps))

    @property
    def pgd_short(self) -> Probe:
        return self.pgd(f"pgd-{self.short}", self.short, step_size=0.25)

    @property
    def pgd_long(self) -> Probe:
        steps = 2 * self.budget.steps
        return self.pgd(f"pgd-{steps}", steps, step_size=0.1, on=self.standing(self.pgd_short))

    @property
    def plain_standing(self) -> Tensor:
        """Under what most reports quote: FGSM and PGD on the cross-entropy."""
        return self.standing(self.fgsm, self.pgd_short, self.pgd_long)

    @property
    def losses(self) -> dict[str, Probe]:
        """PGD on other losses than the cross-entropy, each alone but the last, which runs on what is left."""
        steps = 2 * self.short
        found = {
            "margin": self.pgd(f"pgd-margin-{steps}", steps, "margin"),
            "DLR": self.pgd(f"pgd-dlr-{steps}", steps, "dlr"),
        }
        left = self.plain_standing & self.standing(*found.values())
        targeted = MultiTargeted(self.eps, self.eps / 8, self.short // 2)
        found["targeted"] = self.probe(f"mt-pgd-{self.short // 2}", targeted, on=left)
        return found

    @property
    def white_box(self) -> Tensor:
        """(N,) bool: what stands under all attacks by the gradients of the model as it was handed in."""
        left = self.plain_standing & self.standing(*self.losses.values())
        if self.front is not None:
            left = left & ~self.behind(self.short, "").broken
        return left

    @cached_property
    def front(self) -> tuple[str, nn.Sequential] | None:
        """What a curve in front is called, and what is attacked behind it; None without one. See `fronted`."""
        return None if self.varies else fronted(self.plain, self.some(slice(8))[0])

    def behind(self, steps: int, name: str, **more: Any) -> Probe:
        """So many steps for each objective, on the box that the curve in front makes of the ball."""
        assert self.front is not None
        attack = Behind(self.eps, steps)
        return self.probe(f"{name}behind-{steps}", attack, through=self.front[1], **more)

    @cached_property
    def margins_along_pgd(self) -> Tensor:
        """(steps + 1, N ≤ 100) of images that stand, the highest margin (of another class over the label's) so far.

        Along PGD on the margin; as they are, before the first step.
        """
        at = self.white_box.nonzero()[:100, 0]
        steps = 2 * self.short
        images, labels = self.some(at)
        seen = torch.full((steps + 1, len(at)), -torch.inf, device=at.device)
        seen[0] = margins(self.logits[at], labels)

        def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            seen[step + 1, positions] = margins(logits, labels[positions])
            return torch.zeros_like(positions, dtype=torch.bool)

        attack = PGD(self.eps, self.eps / 8, steps, "margin")
        if len(at):
            attack(self.plain, images, labels, ImageRng(self.seed, at.tolist()), watch)
        return seen.cummax(dim=0).values

    @cached_property
    def twin(self) -> nn.Module:
        """Trained on the model's own answers, when it is first asked."""

        def train() -> nn.Module:
            self.told("training a twin on the model's answers")
            return twin(self.plain, self.images, self.eps, self.epochs)

        return Late(train)

    @property
    def epochs(self) -> int:
        """Of the twin's training."""
        return min(100, max(4, self.budget.imitations * 1000 // len(self)))
