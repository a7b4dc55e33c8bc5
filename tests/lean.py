"""What tests load, in a third of the time."""

import importlib
import sys


def load_fabric() -> None:
    """Without torchmetrics, which lightning_fabric asks for its version, with SciPy and transformers in tow."""
    if "torchmetrics" in sys.modules or "lightning_fabric" in sys.modules:
        return
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    importlib.import_module("lightning_fabric")
    del sys.modules["torchmetrics"]
