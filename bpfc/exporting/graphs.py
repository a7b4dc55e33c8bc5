"""A network as a graph that runs without its Python code: ONNX and TorchScript."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from bpfc.checks import first_line
from bpfc.errors import UserError
from bpfc.files import make_writable_folder, write_file
from bpfc.judge import exact_logits

CHECKED = 100
"""Images on which the graph must answer as the network does."""
APART = 1e-4
"""How far its logits may lie from the network's."""


def export_onnx(model: nn.Module, images: Tensor, path: Path) -> float:
    """Writes the network as ONNX, with any number of images in a batch, and checks it by onnxruntime.

    Args:
        model: in eval mode, on the CPU.
        images: float32 (N, C, H, W) in [0, 1], to check it on; the first CHECKED count.
        path: of the file. It is there only if the check holds.

    Returns:
        The largest difference of a logit.

    Raises:
        UserError: onnx is not installed, the network cannot be exported, or the graph answers otherwise.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter is made with it
    except ModuleNotFoundError as error:
        raise UserError(f"--to onnx: {error.name} is not installed; pip install 'bpfc[export]'") from error
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # of torchvision
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own parts
        with _told("onnx"):
            program = torch.onnx.export(
                model,
                (images[:2],),
                dynamic_shapes=({0: batch},),
                input_names=["images"],
                output_names=["logits"],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            assert program is not None
            graph = program.model_proto
            onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with _told("onnx"):
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found = _difference(
            "onnx", model, images, lambda some: torch.from_numpy(session.run(None, {"images": some.numpy()})[0])
        )
    make_writable_folder(path.parent)
    write_file(path, content)
    return found


def export_torchscript(model: nn.Module, images: Tensor, path: Path) -> float:
    """Writes the network as TorchScript, by tracing; see `export_onnx`."""
    written = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated; who asks for it has a reader of it
        with _told("torchscript"):
            torch.jit.save(torch.jit.trace(model, images[:2]), written)
            again = torch.jit.load(BytesIO(written.getvalue()))
    with _told("torchscript"):
        found = _difference("torchscript", model, images, lambda some: exact_logits(again, some))
    make_writable_folder(path.parent)
    write_file(path, written.getvalue())
    return found


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """An error of the exporter, or of the graph at work, in a line: torch raises whatever the network's code makes."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = first_line(error.__cause__ or error)
        raise UserError(
            f"--to {kind}: the network cannot be exported ({reason}); branches on an image's values and Python loops "
            "over images do not become a graph"
        ) from error


def _difference(kind: str, model: nn.Module, images: Tensor, graph: Callable[[Tensor], Tensor]) -> float:
    """The largest difference of a logit, in a batch and of the last image alone: the first are what it was made on."""
    some = images[:CHECKED].contiguous()
    answers = torch.cat([graph(some), graph(some[-1:])])
    found = float((answers - torch.cat([exact_logits(model, some), exact_logits(model, some[-1:])])).abs().max())
    if not found <= APART:
        raise UserError(
            f"--to {kind}: the graph's logits differ from the network's by {found:.3g} on {len(some)} images, more "
            f"than {APART:g}; a part of the network hangs on its input in a way that this format does not keep"
        )
    return found
