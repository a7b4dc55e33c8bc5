"""Ways out: a trained network in the formats that others read, checked against the network itself."""

from bpfc.exporting.curves import export_tensorboard
from bpfc.exporting.formats import export_hub, export_robustbench
from bpfc.exporting.graphs import export_onnx, export_torchscript

__all__ = ["export_hub", "export_onnx", "export_robustbench", "export_tensorboard", "export_torchscript"]
