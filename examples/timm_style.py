"""BPFC in a training as timm's train script has it: mixed precision, a schedule by steps, averaged weights."""

import math

import torch
from plain import attack
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import bpfc  # BPFC
from bpfc.data import load, to_float
from bpfc.models import Normalise, build  # BPFC


def create_model(name: str) -> nn.Module:
    """timm's, if it is installed."""
    try:
        from timm import create_model
    except ModuleNotFoundError:
        return build("m-lenet-quarter", channels=1, classes=10, size=28)
    return create_model(name, num_classes=10, in_chans=1)


def train_one_epoch(
    epoch: int,
    epochs: int,
    model: nn.Module,
    loader: DataLoader[tuple[torch.Tensor, ...]],
    optimizer: torch.optim.Optimizer,
    train_loss_fn: bpfc.BPFC,  # BPFC
    model_ema: AveragedModel,
    device: torch.device,
) -> float:
    model.train()
    for at, (x, y) in enumerate(loader):
        x, y = x.to(device), y.to(device)
        position = (epoch + at / len(loader)) / epochs
        optimizer.param_groups[0]["lr"] = 4e-3 * math.sin(math.pi * (0.02 + 0.98 * position))
        with torch.autocast(device.type, torch.bfloat16):
            loss = train_loss_fn.weighted(position)(model, x, y).loss  # BPFC, in place of train_loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model_ema.update_parameters(model)
    return loss.item()


def main(epochs: int = 3, count: int = 4_000) -> nn.Module:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = load("mnist-5k").train[:count]
    # timm's loader normalises: switch that off (mean 0, std 1), and let its images be floats in [0, 1].
    loader = DataLoader(TensorDataset(to_float(train.pixels), train.labels), batch_size=50, shuffle=True)  # BPFC
    model = nn.Sequential(Normalise([0.13], [0.31]), create_model("resnet18")).to(device)  # BPFC: mean and std inside
    train_loss_fn = bpfc.BPFC(k=6, weight=10.0)  # BPFC, in place of nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    model_ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    for epoch in range(epochs):
        loss = train_one_epoch(epoch, epochs, model, loader, optimizer, train_loss_fn, model_ema, device)
        print(f"epoch {epoch + 1}: loss {loss:.3f}")
    return model_ema.module.cpu().eval()


if __name__ == "__main__":
    found = attack(main())
    print(f"clean {found.clean:.1%}, robust {found.robust:.1%}")
