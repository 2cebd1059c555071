"""Noisy linear imputation: the originals' arrays, systems solved by hand and by a direct solver, and properties."""

import numpy as np
import pytest
import torch
from helpers import Arrays
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from ptame_lib import resize
from ptame_lib.metrics import linear_imputation


@pytest.mark.parametrize("case", range(7))
def test_the_originals_arrays(case):
    arrays = Arrays("imputers")
    image, known = arrays[f"{case}/image"][None], arrays[f"{case}/mask_1keep_0remove"][None] > 0.5
    ours = linear_imputation(image, known, noise=0, tolerance=1e-6)[0]
    torch.testing.assert_close(ours, arrays[f"{case}/gradcam_linear"], atol=1e-5, rtol=0)


def test_one_missing_pixel_by_hand():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    known = torch.ones(1, 4, 4, dtype=torch.bool)
    known[0, 1, 2] = known[0, 3, 0] = False
    filled = linear_imputation(image, known, noise=0)
    assert filled[0, 0, 1, 2] == pytest.approx((2 + 5 + 7 + 10) / 6 + (1 + 3 + 9 + 11) / 12, abs=1e-4)
    assert filled[0, 0, 3, 0] == pytest.approx((8 / 6 + 13 / 6 + 9 / 12) / (1 / 6 + 1 / 6 + 1 / 12), abs=2e-3)
    assert filled[0, 0][known[0]].equal(image[0, 0][known[0]])


@pytest.mark.parametrize("size", [(224, 224), (97, 131), (5, 64), (1, 40)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("smooth", [False, True], ids=["scattered", "areas"])
def test_a_direct_solution(size, share, smooth):
    generator = torch.Generator().manual_seed(3)
    image = resize(torch.rand(3, 9, 9, generator=generator), size)[None]
    rank = (
        resize(torch.rand(1, 7, 7, generator=generator), size) + 1e-6 * torch.rand(size, generator=generator)
        if smooth
        else torch.rand(1, *size)
    )
    known = rank.flatten().argsort().argsort().view(1, *size) >= int(share * size[0] * size[1])
    direct = NoisyLinearImputer(noise=0)(image[0], known[0].float()) if min(size) > 1 else _dense(image[0], known[0])
    assert (linear_imputation(image, known, noise=0)[0] - direct).abs().max() < 1e-3


def _dense(image, known):
    """The same system, written down pixel by pixel."""
    height, width = known.shape
    missing = [tuple(at) for at in (~known).nonzero().tolist()]
    matrix, b = np.zeros((len(missing), len(missing))), np.zeros((len(missing), len(image)))
    for i, (y, x) in enumerate(missing):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at, weight = (y + dy, x + dx), 1 / 6 if dy == 0 or dx == 0 else 1 / 12
                if (dy, dx) == (0, 0) or not (0 <= at[0] < height and 0 <= at[1] < width):
                    continue
                matrix[i, i] += weight
                if known[at]:
                    b[i] += weight * image[:, at[0], at[1]].numpy()
                else:
                    matrix[i, missing.index(at)] -= weight
    filled = image.clone()
    for (y, x), value in zip(missing, np.linalg.solve(matrix, b), strict=True):
        filled[:, y, x] = torch.from_numpy(value)
    return filled


def test_the_dense_system_is_the_packages():
    image, known = torch.rand(3, 8, 6), torch.rand(8, 6) > 0.6
    torch.testing.assert_close(
        _dense(image, known), NoisyLinearImputer(noise=0)(image, known.float()), atol=1e-5, rtol=0
    )


def test_a_batch_is_its_images_and_stays_within_the_known_values():
    generator = torch.Generator().manual_seed(0)
    images, known = torch.rand(7, 3, 64, 48, generator=generator), torch.rand(7, 64, 48, generator=generator) > 0.7
    filled = linear_imputation(images, known, noise=0)
    for i in range(7):
        torch.testing.assert_close(
            filled[i], linear_imputation(images[i : i + 1], known[i : i + 1], noise=0)[0], atol=1e-3, rtol=0
        )
    assert filled.min() >= images.amin() - 1e-3
    assert filled.max() <= images.amax() + 1e-3
    plane = torch.full((1, 2, 20, 20), 0.3)
    torch.testing.assert_close(linear_imputation(plane, torch.rand(1, 20, 20) > 0.8, noise=0), plane, atol=1e-3, rtol=0)


def test_noise_is_seeded_and_only_on_what_was_imputed():
    images, known = torch.rand(2, 3, 40, 40), torch.rand(2, 40, 40) > 0.5
    one, other = (linear_imputation(images, known, 0.01, torch.Generator().manual_seed(5)) for _ in range(2))
    assert one.equal(other)
    noise = one - linear_imputation(images, known, 0)
    assert noise.masked_select(~known[:, None]).std() == pytest.approx(0.01, rel=0.1)
    assert not noise.masked_select(known[:, None]).any()


def test_everything_known_and_nothing_known():
    images = torch.rand(2, 3, 16, 16)
    known = torch.stack([torch.ones(16, 16), torch.zeros(16, 16)]) > 0
    filled = linear_imputation(images, known, noise=0)
    assert filled[0].equal(images[0])
    assert not filled[1].any()


def test_bad_input_is_named():
    images = torch.rand(2, 3, 16, 16)
    with pytest.raises(
        ValueError, match=r"pixels \(2, 3, 16, 16\) need a bool mask of \(B,H,W\), got torch.float32 \(2, 16, 16\)"
    ):
        linear_imputation(images, torch.ones(2, 16, 16))
    with pytest.raises(ValueError, match=r"got torch.bool \(2, 16, 15\)"):
        linear_imputation(images, torch.ones(2, 16, 15, dtype=torch.bool))
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=r"did not reach tolerance 5e-05 in 20 iterations: check the pixels for NaN"):
        linear_imputation(images, torch.rand(2, 16, 16) > 0.9, noise=0, most=20)
