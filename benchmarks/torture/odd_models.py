"""Models of odd kinds, each made by a function without arguments, as `--model odd_models:NAME` asks for it."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, CLASSES = 8, 3


class Odd(nn.Module):
    """An ordinary linear model, with something done to its images and to its answer."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda logits: logits, before: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(SIDE * SIDE, CLASSES)
        self.before, self.after = before or (lambda images: images), after

    def forward(self, images: Tensor) -> Any:
        return self.after(self.linear(self.before(images).flatten(1)))


class Holder(nn.Module):
    """A linear model inside another's forward."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Any], inside: nn.Module | None = None) -> None:
        super().__init__()
        self.inside = inside or plain()
        self.told = forward

    def forward(self, images: Tensor) -> Any:
        return self.told(self.inside, images)


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).eval()


def _raise(error: BaseException) -> Any:
    raise error


def _double() -> nn.Module:
    return Odd(before=lambda images: images.double()).double()


def _written(images: Tensor) -> Tensor:
    return images.mul_(0.5)


def _conv(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Flatten(), nn.Linear(4 * 36, CLASSES))


def _nan_weights() -> nn.Module:
    made = plain()
    nn.init.constant_(made[1].weight, float("nan"))  # type: ignore[index]
    return made


def _shared() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    made[3].weight = made[1].weight
    return made.eval()


def _counting() -> nn.Module:
    """Answers otherwise at every second call."""
    calls = [0]

    def after(logits: Tensor) -> Tensor:
        calls[0] += 1
        return logits if calls[0] % 2 else -logits

    return Odd(after)


def _quantised_weights() -> nn.Module:
    model = plain()
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    return Holder(lambda inside, images: inside(images.half().float()), model)


MODELS: dict[str, Callable[[], Any]] = {
    # What is no model, or does not come to be.
    "gives_none": lambda: None,
    "gives_string": lambda: "model",
    "gives_number": lambda: 5,
    "gives_class": lambda: nn.Linear,
    "gives_function": lambda: lambda images: images.flatten(1),
    "gives_state": lambda: plain().state_dict(),
    "wants_argument": lambda channels: plain(),
    "raises_runtime": lambda: _raise(RuntimeError("two\nlines")),
    "raises_key": lambda: _raise(KeyError("weights")),
    "raises_memory": lambda: _raise(MemoryError()),
    "raises_import": lambda: _raise(ImportError("no such module")),
    "raises_own": lambda: _raise(type("OwnError", (Exception,), {})()),
    "raises_os": lambda: _raise(FileNotFoundError(2, "No such file", "weights.pt")),
    "raises_assertion": lambda: _raise(AssertionError()),
    "raises_zero": lambda: 1 / 0,
    "raises_recursion": lambda: _raise(RecursionError("too deep")),
    "exits": lambda: _raise(SystemExit(0)),
    # Answers that are no logits.
    "answers_tuple": lambda: Odd(lambda logits: (logits, 1)),
    "answers_list": lambda: Odd(lambda logits: [logits]),
    "answers_dictionary": lambda: Odd(lambda logits: {"logits": logits}),
    "answers_none": lambda: Odd(lambda logits: None),
    "answers_string": lambda: Odd(lambda logits: "3"),
    "answers_integers": lambda: Odd(lambda logits: logits.argmax(dim=1)),
    "answers_whole_logits": lambda: Odd(lambda logits: (10 * logits).long()),
    "answers_bool": lambda: Odd(lambda logits: logits > 0),
    "answers_complex": lambda: Odd(lambda logits: logits.to(torch.complex64)),
    "answers_array": lambda: Odd(lambda logits: logits.detach().numpy()),
    "answers_sparse": lambda: Odd(lambda logits: logits.to_sparse()),
    "answers_meta": lambda: Odd(lambda logits: logits.to("meta")),
    "answers_one_logit": lambda: Odd(lambda logits: logits[:, :1]),
    "answers_no_logit": lambda: Odd(lambda logits: logits[:, :0]),
    "answers_flat": lambda: Odd(lambda logits: logits.flatten()),
    "answers_map": lambda: Odd(lambda logits: logits[:, :, None, None]),
    "answers_transposed": lambda: Odd(lambda logits: logits.T),
    "answers_first_alone": lambda: Odd(lambda logits: logits[:1]),
    "answers_too_few": lambda: Odd(lambda logits: logits[:, :2]),
    "answers_nan": lambda: Odd(lambda logits: logits * float("nan")),
    "answers_infinite": lambda: Odd(lambda logits: logits * float("inf")),
    "answers_nan_at_times": lambda: Odd(lambda logits: torch.where(logits > 0.3, torch.nan, logits)),
    "answers_softmax": lambda: Odd(lambda logits: logits.softmax(dim=1)),
    "answers_log_softmax": lambda: Odd(lambda logits: logits.log_softmax(dim=1)),
    "answers_one_hot": lambda: Odd(lambda logits: functional.one_hot(logits.argmax(dim=1), CLASSES).float()),
    # Numbers of another kind, which are right or refused.
    "is_double": _double,
    "is_double_without_cast": lambda: plain().double(),
    "is_half": lambda: Odd(before=lambda images: images.half()).half(),
    "is_bfloat16": lambda: Odd(before=lambda images: images.bfloat16()).bfloat16(),
    "answers_double": lambda: Odd(lambda logits: logits.double()),
    "has_huge_logits": lambda: Odd(lambda logits: 1e4 * logits),
    "has_enormous_logits": lambda: Odd(lambda logits: 1e30 * logits),
    "has_tiny_logits": lambda: Odd(lambda logits: 1e-30 * logits),
    "has_nan_weights": _nan_weights,
    "has_quantised_weights": _quantised_weights,
    "is_meta": lambda: plain().to("meta"),
    "is_scripted": lambda: torch.jit.trace(plain(), torch.rand(2, 1, SIDE, SIDE)),
    # Gradients that lead nowhere.
    "without_gradient": lambda: Odd(lambda logits: logits.detach()),
    "under_no_grad": lambda: torch.no_grad()(Odd()),
    "without_gradient_of_images": lambda: Odd(before=lambda images: images.detach() + 0 * images),
    "under_inference": lambda: Holder(lambda inside, images: torch.inference_mode()(inside)(images)),
    "rounds_images": lambda: Odd(before=lambda images: (8 * images).round() / 8),
    "rounds_logits": lambda: Odd(lambda logits: (20 * logits).round()),
    "saturates": lambda: Odd(lambda logits: torch.sigmoid(1e4 * logits)),
    "through_numpy": lambda: Odd(before=lambda images: torch.from_numpy(images.detach().numpy().copy())),
    # Company, memory, chance.
    "wants_batch_of_4": lambda: Odd(before=lambda images: images.view(4, 1, SIDE, SIDE)),
    "wants_batch_of_32": lambda: Odd(before=lambda images: images.view(32, -1)),
    "normalises_batch": lambda: Odd(before=lambda images: images - images.mean(dim=0)),
    "batch_norm_without_statistics": lambda: _conv(nn.BatchNorm2d(4, track_running_stats=False)),
    "batch_norm": lambda: _conv(nn.BatchNorm2d(4)),
    "writes_into_images": lambda: Odd(before=_written),
    "draws": lambda: Odd(before=lambda images: images + 0.3 * torch.rand_like(images)),
    "draws_from_python": lambda: Odd(lambda logits: logits * random.uniform(-1, 1)),
    "drops_out_always": lambda: Odd(before=lambda images: functional.dropout(images, 0.5, training=True)),
    "counts_its_calls": _counting,
    "in_train_mode": lambda: Holder(lambda inside, images: inside.train()(images), _conv(nn.BatchNorm2d(4))),
    # Shapes, and code that breaks.
    "wants_colours": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)),
    "wants_larger": lambda: nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 3)),
    "wants_two_arguments": lambda: type("Two", (nn.Module,), {"forward": lambda self, images, labels: images})(),
    "is_recurrent": lambda: nn.LSTM(SIDE, CLASSES),
    "is_identity": nn.Identity,
    "is_empty": nn.Module,
    "raises_key_inside": lambda: Odd(lambda logits: _raise(KeyError("x"))),
    "raises_assertion_inside": lambda: Odd(lambda logits: _raise(AssertionError("shape"))),
    "raises_zero_inside": lambda: Odd(lambda logits: 1 / 0),
    "raises_own_inside": lambda: Odd(lambda logits: _raise(type("OwnError", (Exception,), {})("a\nb"))),
    "recurses_inside": lambda: Holder(lambda inside, images: Holder.forward(_looped(), images)),
    "shares_weights": _shared,
    "is_ordinary": plain,
    "is_convolutional": lambda: _conv(nn.ReLU()),
}


def _looped() -> Any:
    made = Holder(lambda inside, images: None)
    made.told = lambda inside, images: made(images)
    return made


MASKED = {
    *("without_gradient_of_images", "rounds_images", "rounds_logits", "saturates", "through_numpy", "without_gradient"),
    *("has_enormous_logits", "under_no_grad", "under_inference"),
}
"""Those whose gradients are zero or not there: an evaluation by gradients must say so, and no audit calls them real."""
RANDOM = {"draws", "draws_from_python", "drops_out_always", "counts_its_calls"}
"""Those without one answer: an evaluation and a proof are refused."""

globals().update(MODELS)  # so that each is odd_models:NAME
