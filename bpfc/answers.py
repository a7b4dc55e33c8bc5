"""What somebody's model does amiss on any of its images: one line, never a traceback or another figure."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from torch import Tensor, nn

from bpfc.errors import UserError


class Answers:
    """A model that is held to the form of its first answer, and blamed for what it raises.

    The checks at the start try it on the first images alone; this watches it on all.
    """

    def __init__(self, model: nn.Module, name: str = "the model") -> None:
        self._model, self._name = model, name
        self._classes: int | None = None
        self._raised: BaseException | None = None

    @contextmanager
    def to(self, indices: Sequence[int]) -> Iterator[None]:
        """Inside, the model is shown these images, perturbed or not.

        Raises:
            UserError: it raises something, its gradient does, or its answer is no logits (N, classes), with as many
                classes as before, of as many images as it is given. The message names the images.
        """
        hook = self._model.register_forward_hook(self._look, always_call=True)
        try:
            yield
        except (Exception, SystemExit) as error:  # it is somebody's code
            if (what := self._blame(error)) is None:
                raise
            first, last = min(indices), max(indices)
            where = f"image {first}" if first == last else f"images {first} to {last}"
            fewer = "" if first == last else ", or show it fewer at a time (batch_size, --batch-size)"
            told = f"{where}: {what}; it must answer any images alike: mend it, or leave these out{fewer}"
            raise UserError(told) from error
        finally:
            hook.remove()

    def _look(self, model: nn.Module, inputs: tuple[Any, ...], answer: object) -> None:
        """After each call of the model, whether it answered or raised."""
        if (error := sys.exc_info()[1]) is not None:
            self._raised = error
            return
        count = len(inputs[0])
        if not isinstance(answer, Tensor):
            raise _FormError(
                f"gives a {type(answer).__name__}, must give logits; if they are in there, wrap it: bpfc.Logits(model)"
            )
        if not answer.is_floating_point():
            raise _FormError(f"gives a tensor of {answer.dtype}, must give floating-point logits")
        classes = self._classes or answer.shape[-1]
        if answer.shape != (count, classes):
            raise _FormError(f"gives shape {tuple(answer.shape)}, must give ({count}, {classes})")
        self._classes = classes

    def _blame(self, error: BaseException) -> str | None:
        """What the model did, if the error is of its making."""
        if isinstance(error, _FormError):
            return f"{self._name} {error}"
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if error is self._raised or isinstance(error, SystemExit):
            return f"{self._name} fails ({told})"
        modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
        if any(name.startswith("torch.autograd") for name in modules):
            return f"the gradient of {self._name} fails ({told})"
        return None


class _FormError(UserError):
    """An answer that is no logits."""
