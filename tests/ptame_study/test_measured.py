"""What is measured of a trained explainer on held-out images: whether decisions move with its maps."""

import pytest
import torch
from helpers import rand, small_auxiliary
from torch import nn

from ptame_lib import PTAME
from ptame_lib.explainers.metadata import follows
from ptame_study.evaluation import measure_explainer


class Corner(nn.Module):
    """Decides by which of two colours is brighter in the upper left quarter."""

    differentiable, labels, input_size = True, None, (64, 64)

    def forward(self, pixels):
        seen = pixels[..., :32, :32].mean((2, 3))
        return 50 * torch.stack([seen[:, 0] - seen[:, 2], seen[:, 2] - seen[:, 0]], 1)


class Shows(PTAME):
    """An explainer whose maps are what it is told."""

    def explain(self, pixels, targets):
        return self.shown.expand(len(pixels), -1, -1)


@pytest.mark.parametrize(("corner", "answer"), [((0, 0), "yes"), ((32, 32), "no")])
def test_an_explainer_that_shows_what_decides_follows_its_classifier(corner, answer):
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])[:, :, None, None]
    data = [{"pixels": rand(3, 64, 64, seed=i) * colours[i % 2]} for i in range(100)]
    explainer = Shows(small_auxiliary(), 2)
    explainer.shown = torch.zeros(1, 64, 64)
    explainer.shown[:, corner[0] : corner[0] + 32, corner[1] : corner[1] + 32] = 1
    explainer.shown += 0.01 * rand(1, 64, 64, seed=5)
    metrics = measure_explainer(explainer, Corner(), data, 20)
    assert follows(metrics) == answer
    assert metrics["from"] <= metrics["moved more"] <= metrics["to"]


def test_where_all_images_are_decided_alike_nothing_is_said():
    data = [{"pixels": rand(3, 64, 64, seed=i) * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)} for i in range(4)]
    metrics = measure_explainer(PTAME(small_auxiliary(), 2), Corner(), data, 4)
    assert "moved" not in metrics
    assert follows(metrics) == ""
