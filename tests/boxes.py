"""What every curve's box must hold, shared by the tests of curves."""

import torch

from bpfc.models.curve import Curve


def check_every_point_is_reached(curve: Curve, eps: float, seed: int, slack: float) -> torch.Tensor:
    """Asserts it of points of the boxes around some images, their bounds among them; gives back the images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 1, 8, 8), generator=generator).float() / 255
    lower, upper = curve.image(images, eps)
    share = torch.rand(images.shape, generator=generator).mul(1.5).sub(0.25).clamp(0, 1)  # the bounds themselves too
    u = torch.lerp(lower, upper, share).clamp(lower, upper)
    found = curve.preimage(u, images, eps)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - images).abs().max() <= eps + 1e-6
    torch.testing.assert_close(curve(found), u, rtol=0, atol=slack)
    return images
