"""What would make the figures wrong in silence, refused before any work."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bpfc.data import AnyImages, Images, out_of_range, to_float
from bpfc.errors import UserError
from bpfc.judge import exact_logits, way_out
from bpfc.wrappers import is_random

TRIED = 32
"""Images that the model is tried on."""
ALONE = 8
"""Of these, how many are shown to it alone."""
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def handed_in(images: Any, labels: Any) -> Images:
    """Images and labels of a call, integers as int64; for autograd too where made in torch.inference_mode().

    Raises ValueError for arrays and lists, whose dtypes and devices are others.
    """
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name}: {type(value).__name__}, must be a torch.Tensor; torch.as_tensor({name}) makes it one"
            )
    images, labels = (value.clone() if value.is_inference() else value for value in (images, labels))
    return Images(images, labels.long() if labels.dtype in INTEGERS else labels)


def check_recording() -> None:
    """Raises ValueError where torch records no gradient, whatever the model."""
    if torch.is_inference_mode_enabled():
        raise ValueError("called inside torch.inference_mode(), where nothing has a gradient; call it outside")


def check(model: nn.Module, images: AnyImages) -> None:
    """Raises ValueError for a model or images of which no figure could be trusted (see `bpfc.evaluate`)."""
    check_mode(model)
    logits = check_form(model, images)
    if are_probabilities(logits):
        raise ValueError(
            "the model gives probabilities: their gradients vanish where it is sure, and attacks fail for no merit of "
            "its own; leave out the softmax at its end"
        )
    if is_random(model):
        return
    if answers_vary(model, images):
        raise ValueError(
            "the model answers differently to the same images twice: attack its mean answer, with --eot 20 on the "
            "command line, or wrapped as bpfc.EOT(model, samples=20)"
        )
    check_company(model, images)


def check_form(model: nn.Module, images: AnyImages) -> Tensor:
    """The model's answers to the first images, logits as far as one can tell.

    Raises:
        ValueError: images, labels or answers have not the shape, the type or the range that `bpfc.evaluate` asks for.
    """
    _check_images(images)
    labels = images.labels
    logits = _answer(model, _some(images))
    if not torch.isfinite(logits).all():
        raise ValueError(f"the model gives NaN or infinite logits on the first images; {way_out(logits)}")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"labels lie in {int(labels.min())} … {int(labels.max())}, but the model knows {logits.shape[1]} classes"
        )
    return logits


def check_mode(model: nn.Module) -> None:
    """Raises ValueError for a model in train mode."""
    if in_train_mode(model):
        raise ValueError("the model is in train mode: its answers would depend on the batch; call model.eval() first")


def in_train_mode(model: nn.Module) -> bool:
    """Whether any layer is."""
    return any(module.training for module in model.modules())


def are_probabilities(logits: Tensor) -> bool:
    """Whether they are none below 0, and sum to 1 for each image, as bfloat16 rounds."""
    return bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < 5e-3).all())


def answers_vary(model: nn.Module, images: AnyImages) -> bool:
    """Whether the model answers differently to the same images twice."""
    some = _some(images)
    return not torch.allclose(_answer(model, some), _answer(model, some), rtol=1e-4, atol=1e-5)


def _some(images: AnyImages) -> Tensor:
    return to_float(images[:TRIED].pixels).clone()  # the caller's are not for the model to write into


def _check_images(images: AnyImages) -> None:
    shape, labels = images.shape, images.labels
    if len(shape) != 4 or images.dtype not in (torch.uint8, torch.uint16, torch.float32) or not shape.numel():
        raise ValueError(
            f"images of shape {tuple(shape)}, {images.dtype}: must be float32, uint8 or uint16 (N, C, H, W), "
            "none of them 0"
        )
    if images.dtype == torch.float32 and (told := out_of_range(images.pixels)):
        raise ValueError(told)
    if labels.shape != (shape[0],) or labels.dtype not in INTEGERS:
        raise ValueError(f"labels of shape {tuple(labels.shape)}, {labels.dtype}: must be one integer for each image")


def _answer(model: nn.Module, images: Tensor) -> Tensor:
    """The logits, if the model gives some, and leaves the images as they are."""
    before = images.clone()

    def told(model: nn.Module, inputs: object, answer: object) -> None:
        if not isinstance(answer, Tensor):
            what = f"a {type(answer).__name__}"
        elif not answer.is_floating_point():
            what = f"a tensor of {answer.dtype}"
        elif answer.layout != torch.strided or answer.is_meta:
            what = f"a tensor of {answer.layout} on {answer.device}"
        else:
            return
        raise UserError(
            f"the model gives {what}: must give logits alone, a floating-point tensor (N, classes); "
            "if they are in there, wrap it: bpfc.Logits(model)"
        )

    heard = model.register_forward_hook(told)
    try:
        logits = exact_logits(model, images)
    except UserError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # it is somebody's code
        shown = " × ".join(map(str, images.shape))
        raise ValueError(
            f"the model fails on float32 images of shape {shown} (N × C × H × W): {first_line(error)}; {_must(model)}"
        ) from error
    finally:
        heard.remove()
    if not torch.equal(before, images):
        raise ValueError(
            "the model writes into the images that it is given: every attack would see others; copy them first in its "
            "forward (images = images.clone())"
        )
    one = "; of one logit an image, bpfc.Logits(model) makes two" if logits.numel() == len(images) else ""
    if logits.ndim != 2 or logits.shape[0] != len(images) or logits.shape[1] < 2:
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)} for {len(images)} images: must be ({len(images)}, classes), "
            f"classes ≥ 2{one}"
        )
    return logits


def _must(model: nn.Module) -> str:
    """What a model that fails must do."""
    other = {weights.dtype for weights in model.parameters() if weights.is_floating_point()} - {torch.float32}
    if other:
        return f"its weights are {min(map(str, other))}; verdicts are in float32, which model.float() makes of it"
    return "it must take any N"


def check_company(model: nn.Module, images: AnyImages) -> None:
    """Raises ValueError if a deterministic model answers some images together otherwise than each of them alone.

    The sums of a batch are rounded in another order than those of one image, and a network that rounds inside may make
    a step of that; so most of the tried images must differ, by more than rounding alone.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{type(module).__name__} {name!r} keeps no running statistics, so that the answer to an image depends "
                "on the images beside it; train it with track_running_stats=True"
            )
    some = _some(images)
    if len(some) == 1:
        some = torch.cat([some, 1 - some])
    together, alone = _answer(model, some)[:ALONE], torch.cat([_answer(model, image[None]) for image in some[:ALONE]])
    far = (together - alone).abs().amax(dim=1) > 1e-5 + 1e-3 * together.abs().amax(dim=1)
    if 2 * int(far.sum()) > len(far):
        worst = float((together - alone).abs().max())
        raise ValueError(
            f"the model's answer to an image depends on the images beside it: alone, its logits differ by {worst:.3g}; "
            "take out what looks at the whole batch"
        )


def first_line(error: BaseException) -> str:
    """Of what an error says; its name, where it says nothing."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]
