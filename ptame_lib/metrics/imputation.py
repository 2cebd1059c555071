"""ROAD's noisy linear imputation for a whole batch: multigrid-preconditioned conjugate gradients.

No matrix is built, except for the coarsest grid.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

DIRECT, DIAGONAL = 1 / 6, 1 / 12  # weights of the 4 direct and the 4 diagonal neighbours


def linear_imputation(
    pixels: Tensor,
    known: Tensor,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    *,
    tolerance: float = 5e-5,
    most: int = 200,
) -> Tensor:
    """Fill pixels that are not known by the weighted mean of their neighbours (Rong et al., ICML 2022).

    ``pixels`` (B,C,H,W); ``known`` (B,H,W) bool. A missing pixel is 1/6 of each direct and 1/12 of each diagonal
    neighbour, renormalised at the border, solved for all missing pixels jointly; then normal noise of deviation
    ``noise``, drawn with ``generator``, is added to the imputed ones. An image without a known pixel becomes 0. The
    residual falls below ``tolerance`` of the right-hand side, which keeps the pixels within 1e-3 of a direct solution.
    Returns new pixels.

    Raises ValueError where shapes do not belong together, RuntimeError if ``most`` iterations are not enough.
    """
    if pixels.ndim != 4 or known.shape != (pixels.shape[0], *pixels.shape[2:]) or known.dtype != torch.bool:
        raise ValueError(
            f"pixels {tuple(pixels.shape)} need a bool mask of (B,H,W), got {known.dtype} {tuple(known.shape)}"
        )
    # on the CPU some images at a time: enough for long rows, few enough for the memory
    part = len(pixels) if pixels.is_cuda else max(1, 16 * 224 * 224 // (pixels.shape[2] * pixels.shape[3]))
    pairs = zip(pixels.split(part), known.split(part), strict=True)
    with torch.no_grad():
        filled = [_solve(some.float(), there, tolerance, most) for some, there in pairs]
    result = torch.where(known[:, None], pixels, torch.cat(filled).to(pixels.dtype))
    if noise:
        drawn = torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype).to(pixels.device)
        result = torch.where(known[:, None], result, result + noise * drawn)
    return result


def _solve(pixels: Tensor, known: Tensor, tolerance: float, most: int) -> Tensor:
    """Conjugate gradients on the symmetric system of one part of the batch.

    All images and channels lie side by side, as the channels of one image (1,B C,H,W) with channels last in memory:
    then neighbouring pixels are read in long rows on grids of every size.
    """
    shape, beside = pixels.shape, (1, -1, *pixels.shape[2:])
    unknown = (~known)[:, None].to(pixels).expand(shape).reshape(beside).contiguous(memory_format=torch.channels_last)
    pixels = pixels.reshape(beside).contiguous(memory_format=torch.channels_last)
    # the system A x = b, and a first guess
    grids = _grids(unknown, shape[1])
    given = pixels * (1 - unknown)
    b = unknown * _neighbours(given)
    x = unknown * _pyramid_fill(given, 1 - unknown)
    r = b - grids[0].apply(x)
    goal = (tolerance**2 * (b * b).sum((2, 3), keepdim=True)).clamp_min(1e-24)
    # preconditioned conjugate gradients
    p = z = _cycle(grids, 0, r)
    rz = (r * z).sum((2, 3), keepdim=True)
    for _ in range(most):
        if bool(((r * r).sum((2, 3), keepdim=True) <= goal).all()):
            return x.reshape(shape)
        q = grids[0].apply(p)
        step = rz / (p * q).sum((2, 3), keepdim=True).clamp_min(1e-30)
        x.addcmul_(step, p)
        r.addcmul_(step, q, value=-1)
        z = _cycle(grids, 0, r)
        rz, before = (r * z).sum((2, 3), keepdim=True), rz
        p = torch.addcmul(z, rz / before.clamp_min(1e-30), p)
    remedy = "check the pixels for NaN, or raise most"
    raise RuntimeError(f"the imputation did not reach tolerance {tolerance} in {most} iterations: {remedy}")


def _neighbours(x: Tensor) -> Tensor:
    """Weighted sum of the 8 neighbours (1,N,H,W), 0 outside."""
    return F.conv2d(x, _kernel(x.device, x.dtype).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


@lru_cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The neighbours' weights (3,3), sent to a device once, since every iteration needs them."""
    rows = [[DIAGONAL, DIRECT, DIAGONAL], [DIRECT, 0, DIRECT], [DIAGONAL, DIRECT, DIAGONAL]]
    return torch.tensor(rows, device=device, dtype=dtype)


class _Finest:
    """The system at full resolution: ``unknown * (weights * x - neighbours(x))``, symmetric and positive."""

    def __init__(self, unknown: Tensor):
        self.unknown = unknown
        self.weights = unknown * _neighbours(torch.ones_like(unknown[:1]))
        self.inverse = unknown / self.weights.clamp_min(1e-12)

    def apply(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.weights * x, self.unknown, _neighbours(x), value=-1)


class _Coarse:
    """A coarser system, by each cell's couplings: to known pixels, and to its neighbours E, S, SE and SW."""

    SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))

    def __init__(self, to_known: Tensor, edges: list[Tensor]):
        self.edges = edges
        total = to_known.clone()
        for edge, (here, there) in zip(edges, map(self._pair, self.SHIFTS), strict=True):
            total[here] += edge[here]
            total[there] += edge[here]
        self.total, self.unknown = total, (total > 0).float()
        self.inverse = torch.where(total > 0, 1 / total.clamp_min(1e-12), 0)

    @staticmethod
    def _pair(shift: tuple[int, int]) -> tuple[tuple, tuple]:
        """Slices of all cells that have a neighbour at ``shift``, and of those neighbours."""
        dy, dx = shift
        rows = (slice(None, -dy or None), slice(dy, None))
        columns = (slice(-dx, None), slice(None, dx)) if dx < 0 else (slice(None, -dx or None), slice(dx, None))
        return (..., rows[0], columns[0]), (..., rows[1], columns[1])

    def apply(self, x: Tensor) -> Tensor:
        y = self.total * x
        for edge, (here, there) in zip(self.edges, map(self._pair, self.SHIFTS), strict=True):
            y[here].addcmul_(edge[here], x[there], value=-1)
            y[there].addcmul_(edge[here], x[here], value=-1)
        return y


class _Coarsest:
    """The coarsest system, solved directly; an image's channels share their couplings, so one is enough."""

    CELLS = 4  # per side, at most

    def __init__(self, to_known: Tensor, edges: list[Tensor]):
        images, height, width = to_known.shape[1:]
        count = height * width
        system = _Coarse(to_known, edges)
        columns = torch.eye(count).to(to_known).view(count, 1, height, width)
        matrix = system.apply(columns.expand(-1, images, -1, -1)).permute(1, 0, 2, 3).reshape(-1, count, count)
        # keep cells where nothing is missing, and images where all is, invertible
        empty = torch.where(system.total > 0, 1e-6 * system.total, 1).reshape(-1, count)
        self.inverse = torch.linalg.inv(matrix + torch.diag_embed(empty))

    def solve(self, r: Tensor) -> Tensor:
        images, count = self.inverse.shape[:2]
        solved = (r.reshape(images, -1, count) @ self.inverse).reshape(r.shape)
        return solved.contiguous(memory_format=torch.channels_last)


def _grids(unknown: Tensor, channels: int) -> list:
    """The systems from fine to coarse; each ``channels`` channels are of one image.

    A cell is 2 x 2 cells of the finer grid; couplings between cells add up, and are halved, since constant functions on
    cells are twice as stiff as smooth ones.
    """
    # couplings at full resolution
    finest = _Finest(unknown)
    to_known = unknown * _neighbours(1 - unknown)
    edges = []
    for weight, shift in zip((DIRECT, DIRECT, DIAGONAL, DIAGONAL), _Coarse.SHIFTS, strict=True):
        here, there = _Coarse._pair(shift)
        edge = torch.zeros_like(unknown)
        edge[here] = weight * unknown[here] * unknown[there]
        edges.append(edge)
    # merge 2 x 2 cells until few are left
    grids = [finest]
    while True:
        pad = [0, to_known.shape[3] % 2, 0, to_known.shape[2] % 2]
        to_known, (e, s, se, sw) = F.pad(to_known, pad), [F.pad(edge, pad) for edge in edges]
        # (row, column) even or odd
        ee, eo, oe, oo = ((..., slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1))
        east = e[eo] + e[oo] + se[eo]
        east[..., :-1] += sw[ee][..., 1:]  # from a cell's upper left pixel to its western neighbour's lower right one
        edges = [0.5 * east, 0.5 * (s[oe] + s[oo] + se[oe] + sw[oo]), 0.5 * se[oo], 0.5 * sw[oe]]
        to_known = to_known[ee] + to_known[eo] + to_known[oe] + to_known[oo]
        if max(to_known.shape[2:]) <= _Coarsest.CELLS:
            return [*grids, _Coarsest(to_known[:, ::channels], [edge[:, ::channels] for edge in edges])]
        grids.append(_Coarse(to_known, edges))


def _cycle(grids: list, level: int, r: Tensor) -> Tensor:
    """One symmetric V-cycle as a preconditioner: damped Jacobi before and after the coarser correction."""
    grid = grids[level]
    if level + 1 == len(grids):
        return grid.solve(r)
    x = 0.8 * grid.inverse * r
    rest = r - grid.apply(x)
    height, width = rest.shape[2:]
    padded = F.pad(rest, [0, width % 2, 0, height % 2]) if height % 2 or width % 2 else rest
    coarse = _cycle(grids, level + 1, 4 * F.avg_pool2d(padded, 2))
    x = torch.addcmul(x, grid.unknown, F.interpolate(coarse, scale_factor=2)[..., :height, :width])
    return torch.addcmul(x, grid.inverse, r - grid.apply(x), value=0.8)


def _pyramid_fill(given: Tensor, weight: Tensor) -> Tensor:
    """A first guess: the mean of the known pixels in the smallest 2^k x 2^k cell that has any."""
    if max(given.shape[2:]) <= 1 or bool((weight > 0).all()):
        return given / weight.clamp_min(1e-12)
    height, width = given.shape[2:]
    pad = [0, width % 2, 0, height % 2]
    coarse = _pyramid_fill(4 * F.avg_pool2d(F.pad(given, pad), 2), 4 * F.avg_pool2d(F.pad(weight, pad), 2))
    fine = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :height, :width]
    return torch.where(weight > 0, given / weight.clamp_min(1e-12), fine)
