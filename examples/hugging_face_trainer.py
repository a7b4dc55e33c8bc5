"""BPFC in the Trainer of Hugging Face, with one of its image classifiers, which answers with `.logits`."""

import tempfile
from typing import Any

import torch
from plain import attack
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import bpfc  # BPFC
from bpfc.data import load, to_float
from bpfc.models import Normalise  # BPFC


class Pictures(Dataset[dict[str, Tensor]]):
    """As a collator takes them; no mean and std here."""

    def __init__(self, count: int) -> None:
        train = load("mnist-5k").train[:count]
        self.images, self.labels = to_float(train.pixels), train.labels  # float32 in [0, 1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


class BPFCTrainer(Trainer):  # BPFC
    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:  # BPFC
        method = bpfc.BPFC(k=6, weight=1.0).weighted(9 ** (4 * self.state.global_step // self.state.max_steps))  # BPFC
        output = method(model, inputs["pixel_values"], inputs["labels"])  # BPFC
        return (output.loss, {"logits": output.logits}) if return_outputs else output.loss  # BPFC


def main(epochs: int = 3, count: int = 4_000) -> nn.Module:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10
    )
    network = ResNetForImageClassification(config)
    model = nn.Sequential(Normalise([0.13], [0.31]), bpfc.Logits(network))  # BPFC: mean and std inside, logits alone
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=50,
            learning_rate=5e-3,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
            remove_unused_columns=False,  # BPFC: the model around the network does not name its inputs
        )
        trainer = BPFCTrainer(model, arguments, train_dataset=Pictures(count))  # BPFC
        trainer.train()
    return model.cpu().eval()


if __name__ == "__main__":
    found = attack(main())
    print(f"clean {found.clean:.1%}, robust {found.robust:.1%}")
