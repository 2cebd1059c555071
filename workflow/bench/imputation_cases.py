"""ROAD's linear imputation of a batch against the grad-cam package's direct solver, image by image."""

from __future__ import annotations

import torch
from measure import device, interleaved, row
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from ptame_lib import resize
from ptame_lib.metrics import linear_imputation

BATCH, SIZE = 16, (224, 224)


def case(share: float, scattered: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images with some grain, and the known pixels.

    The removed ones are ``scattered``, or in areas as maps have them.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = resize(torch.rand(BATCH * 3, 30, 30, generator=generator), SIZE).unflatten(0, (BATCH, 3))
    pixels = (pixels + 0.05 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    side = SIZE if scattered else (7, 7)
    rank = resize(torch.rand(BATCH, *side, generator=generator), SIZE).flatten(1).argsort(1).argsort(1)
    return pixels, (rank >= int(share * rank.shape[1])).view(BATCH, *SIZE)


def rows() -> list[dict]:
    package, found = NoisyLinearImputer(noise=0), []
    for share in (0.5, 0.9):
        for scattered in (False, True):
            pixels, known = case(share, scattered)
            there = (pixels.to(device()), known.to(device()))

            def theirs(pixels=pixels, known=known):
                return torch.stack([package(image, mask.float()) for image, mask in zip(pixels, known, strict=True)])

            def ours(there=there):
                return linear_imputation(*there, noise=0)

            difference = (ours().cpu() - theirs()).abs().max().item()
            assert difference < 1e-3, f"the imputations differ by {difference}"
            times = interleaved({"ours": ours, "theirs": theirs}, rounds=7)
            where = "scattered" if scattered else "in areas"
            what = f"impute {BATCH} images, {100 * share:.0f} % removed {where} (largest difference {difference:.0e})"
            found.append(row(f"{what} / grad-cam's, ms", times["ours"], times["theirs"]))
    return found
