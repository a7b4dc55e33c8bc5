"""BPFC in Lightning. One process: under DDP, see "Processes and precision" in docs/add-bpfc.md."""

import lightning
import torch
from plain import attack
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bpfc  # BPFC
from bpfc.data import load, to_float
from bpfc.models import Normalise, build  # BPFC


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        network = build("m-lenet-quarter", channels=1, classes=10, size=28)
        self.model = nn.Sequential(Normalise([0.13], [0.31]), network)  # BPFC: mean and std inside the model
        self.method = bpfc.BPFC(k=6, weight=10.0)  # BPFC

    def training_step(self, batch: tuple[Tensor, Tensor], at: int) -> Tensor:
        images, labels = batch
        done = (self.global_step + 1) / self.trainer.estimated_stepping_batches  # BPFC
        output = self.method.weighted(done)(self.model, images, labels)  # BPFC: λ starts low
        self.log_dict(output.parts)  # BPFC
        return output.loss  # BPFC, in place of cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(epochs: int = 3, count: int = 4_000) -> nn.Module:
    lightning.seed_everything(0, verbose=False)
    digits = load("mnist-5k")
    images, labels = to_float(digits.train.pixels[:count]), digits.train.labels[:count]  # float32 in [0, 1]
    loader = DataLoader(TensorDataset(images, labels), batch_size=50, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Digits()
    trainer.fit(module, loader)
    return module.model.cpu().eval()


if __name__ == "__main__":
    found = attack(main())
    print(f"clean {found.clean:.1%}, robust {found.robust:.1%}")
