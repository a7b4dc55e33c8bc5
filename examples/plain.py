"""BPFC in a plain PyTorch loop."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bpfc  # BPFC
from bpfc.data import load, to_float
from bpfc.models import Normalise, build  # BPFC


def main(epochs: int = 3, count: int = 4_000) -> nn.Module:
    torch.manual_seed(0)
    digits = load("mnist-5k")
    images, labels = to_float(digits.train.pixels[:count]), digits.train.labels[:count]  # float32 in [0, 1]
    loader = DataLoader(TensorDataset(images, labels), batch_size=50, shuffle=True)
    network = build("m-lenet-quarter", channels=1, classes=10, size=28)
    model = nn.Sequential(Normalise([0.13], [0.31]), network)  # BPFC: mean and std inside the model
    method = bpfc.BPFC(k=6, weight=10.0)  # BPFC
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        now = method.weighted((epoch + 1) / epochs)  # BPFC: λ starts low
        for x, y in loader:
            loss = now(model, x, y).loss  # BPFC, in place of cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    return model.eval()


def attack(model: nn.Module, count: int = 200) -> bpfc.Evaluation:
    """Test images under attack."""
    test = load("mnist-5k").test
    return bpfc.evaluate(model, test.pixels[:count], test.labels[:count], attacks="pgd-20", eps=0.1, k=6)


if __name__ == "__main__":
    found = attack(main())
    print(f"clean {found.clean:.1%}, robust {found.robust:.1%}")
