"""What every attack is: the contract, and where its random numbers come from."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, Self

import torch
from torch import Tensor, nn

from bpfc.data import check_units
from bpfc.wrappers import logits_of

Norm = Literal["linf", "l2"]

Watch = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Called as watch(positions, candidates, logits, step) with the iterates after `step` steps of the images at
`positions`, and the logits that the attack has for them; gives back which of them need no further work (bool)."""


class Rng(Protocol):
    """Where an attack's random numbers come from, one row for each image of the batch."""

    def uniform(self, images: Tensor, draw: int = 0) -> Tensor:
        """U(−1, 1) of the shape, dtype and device of `images`; each `draw` gives others."""
        ...

    def __getitem__(self, rows: Tensor) -> Self:
        """The numbers of some of the images, for an attack that drops the others."""
        ...


class BatchRng:
    """Random numbers for training: torch's global generator, on the images' device."""

    def uniform(self, images: Tensor, draw: int = 0) -> Tensor:
        return torch.empty_like(images).uniform_(-1, 1)

    def __getitem__(self, rows: Tensor) -> Self:
        return self


class ImageRng:
    """Random numbers that depend on the image, not on the batch it travels in: one stream per (seed, index, restart).

    The same on every device: a counter, hashed (splitmix64, as Steele et al. 2014 publish it).
    """

    def __init__(self, seed: int, indices: Sequence[int], restart: int | Sequence[int] = 0) -> None:
        """Streams of a batch.

        Args:
            seed: of the whole evaluation.
            indices: of the images in their data set, one for each image of the batch.
            restart: 0 for the first random start of an attack on these images; one for all, or one for each.
        """
        restarts = [restart] * len(indices) if isinstance(restart, int) else restart
        pairs = zip(indices, restarts, strict=True)
        self.keys = torch.tensor([_mix(seed, index, number) for index, number in pairs], dtype=torch.int64)

    def check(self, images: Tensor) -> None:
        """Raises ValueError for another number of images."""
        if len(self.keys) != len(images):
            raise ValueError(f"{len(self.keys)} indices for {len(images)} images: must be one for each")

    def uniform(self, images: Tensor, draw: int = 0) -> Tensor:
        self.check(images)
        count = images[:1].numel()
        counter = torch.arange(count, device=images.device) + (draw << 32)
        hashed = _splitmix(self.keys.to(images.device)[:, None] + counter * _signed(GOLDEN))
        unit = (hashed >> 40 & 0xFFFFFF).to(torch.float32) / 2**24
        return (2 * unit - 1 + 2**-24).view(images.shape).to(images.dtype)

    def __getitem__(self, rows: Tensor) -> Self:
        part = type(self)(0, [])
        part.keys = self.keys[rows.to(self.keys.device)]
        return part


class Attack(Protocol):
    """A frozen dataclass of hyper-parameters that turns images into perturbed images.

    It leaves the model as it found it (mode, `requires_grad`, `.grad`) and counts no successes: whoever calls it
    judges.
    """

    @property
    def eps(self) -> float | None:
        """Radius in units of [0, 1]; None for an attack without one, which looks for the nearest image instead."""
        ...

    @property
    def norm(self) -> Norm:
        """In which the radius or the distance is meant."""
        ...

    @property
    def steps(self) -> int | None:
        """How many steps make the last iterate; None if it does not tell."""
        ...

    @property
    def forwards(self) -> int | None:
        """How many forwards an image costs each time that it is shown to the watch; None if it shows none."""
        ...

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        """Perturbed versions of float images (N, C, H, W) in [0, 1] with labels (N,).

        Without `watch` every image is worked on to the end and the last iterate comes back. With it, every iterate is
        shown, and an image of which `watch` says so is worked on no more.
        """
        ...


def check_call(model: nn.Module, images: Tensor, rng: Rng) -> None:
    """What every attack begins with.

    Raises:
        TypeError: the images are no floats.
        ValueError: they are not in [0, 1], as far as `check_units` looks; or there are random numbers for others.
    """
    check_units(model, images)
    if isinstance(rng, ImageRng):
        rng.check(images)


def check_radius(norm: Norm = "linf", **values: float) -> None:
    """Raises ValueError unless every named value is a positive number, and in ℓ∞ at most 1, the width of the box."""
    for name, value in values.items():
        if not hasattr(value, "__float__") or getattr(value, "shape", None):
            raise ValueError(f"{name}={value!r}: must be a number, such as 8 / 255")
        if norm == "l2" and not 0 < value < float("inf"):
            raise ValueError(f"{name}={value!r}: must be a number above 0, an ℓ2 distance in units of [0, 1]")
        if norm == "linf" and not 0 < value <= 1:
            raise ValueError(f"{name}={value!r}: must be above 0 and at most 1 (images are in [0, 1]; 8/255, not 8)")


def check_count(**values: int | None) -> None:
    """Raises ValueError unless every named value, if there is one, is 1 or more."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value!r}: must be 1 or more")


def in_turn(
    model: nn.Module,
    images: Tensor,
    turns: int,
    steps: int,
    run: Callable[[int, Tensor, Watch | None], Tensor],
    watch: Watch | None,
    clean: Tensor | None = None,
) -> Tensor:
    """An attack that is several: each turn works on what `watch` left of the turn before it.

    `run(turn, positions, watch)` gives back the last iterates of the images at `positions`; it takes `steps` steps, and
    leaves it to this function to show them. `clean` are the logits of the images as they are, if the attack asked for
    them: they are shown first, because a forward that is not shown is not counted.
    """
    perturbed = images.clone()
    left = torch.arange(len(images), device=images.device)
    if watch is not None and clean is not None:
        left = left[~watch(left, images, clean, 0)]
    for turn in range(turns):
        if not len(left):
            break
        done = torch.zeros(len(images), dtype=torch.bool, device=images.device)

        def observe(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            assert watch is not None
            enough = watch(left[at], candidates, logits, turn * steps + step)  # noqa: B023
            done[left[at]] = enough  # noqa: B023
            return enough

        perturbed[left] = run(turn, left, observe if watch else None)
        left = left[~done[left]]
        if watch is not None and turn + 1 < turns and len(left):  # the last turn's are for whoever called
            with torch.no_grad():
                logits = logits_of(model, perturbed[left])
            left = left[~watch(left, perturbed[left], logits, (turn + 1) * steps)]
    return perturbed


GOLDEN = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _mix(*numbers: int) -> int:
    """A 64-bit number (signed, as torch has it) from several, so that neighbouring seeds share nothing."""
    state = 0
    for number in numbers:
        state = (state + number + GOLDEN) % 2**64
        state = ((state ^ (state >> 30)) * FACTORS[0]) % 2**64
        state = ((state ^ (state >> 27)) * FACTORS[1]) % 2**64
        state ^= state >> 31
    return _signed(state)


def _splitmix(state: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 tensors; products wrap around, and shifts are made logical by a mask."""
    state = (state ^ (state >> 30 & 2**34 - 1)) * _signed(FACTORS[0])
    state = (state ^ (state >> 27 & 2**37 - 1)) * _signed(FACTORS[1])
    return state ^ (state >> 31 & 2**33 - 1)


def _signed(number: int) -> int:
    """The int64 of the same 64 bits."""
    return number - 2**64 if number >= 2**63 else number
