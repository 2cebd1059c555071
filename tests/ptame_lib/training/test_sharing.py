"""How rows of the fuser learn from one another, and that nothing of it stays."""

from dataclasses import replace

import pytest
import torch
from helpers import Noise

from ptame_lib import PTAME, TrainingConfig, train_ptame
from ptame_lib.training.sharing import Mapped, shared_rows

CONFIG = TrainingConfig(steps=4, batch_size=4, lr=1e-2, weight_decay=0.0, mapped=True)


def started(auxiliary, classes=7):
    """An explainer from a head in which the classes 0 and 1 are the same."""
    torch.manual_seed(3)
    head = torch.randn(classes, auxiliary.channels[-1])
    head[1] = head[0]
    return PTAME(auxiliary, classes).start_from_head(head)


def test_mapped_rows_start_as_they_are_and_follow_what_is_known(auxiliary):
    fuser, last = started(auxiliary).fuser, auxiliary.channels[-1]
    rows = Mapped(fuser.weight, last)
    assert rows(torch.empty(0)).equal(fuser.weight)
    with torch.no_grad():
        rows.map.normal_()
    moved = rows(torch.empty(0)) - fuser.weight
    assert moved[0].equal(moved[1])
    assert not moved[0].allclose(moved[2])
    assert not moved[:, -last:].any()
    # the map's part has no mean over the classes: that is what the row for all is for
    assert moved.mean(0).abs().max() < 1e-5


def test_after_a_training_the_fuser_is_plain_again(auxiliary, classifier):
    explainer, start = started(auxiliary), started(auxiliary)
    keys = list(explainer.state_dict())
    train_ptame(explainer, classifier, Noise(8, 32), CONFIG)
    assert list(explainer.state_dict()) == keys
    assert explainer.fuser.weight.requires_grad
    moved, last = (explainer.fuser.weight - start.fuser.weight).detach(), auxiliary.channels[-1]
    torch.testing.assert_close(moved[0], moved[1])
    assert (moved[0] - moved[2])[:-last].abs().max() > 1e-6
    torch.testing.assert_close(moved[:, -last:], moved[:1, -last:].expand(7, -1, -1, -1))


def test_a_failure_leaves_the_fuser_plain(auxiliary):
    explainer = started(auxiliary)
    for kind in ("free", "tied", "mapped"):
        with pytest.raises(KeyError), shared_rows(explainer, kind):
            raise KeyError
        assert set(dict(explainer.fuser.named_parameters())) == {"weight"}
        assert not explainer.fuser.weight._backward_hooks


def test_an_interrupted_training_of_mapped_rows_goes_on(auxiliary, classifier, tmp_path):
    whole, parts = started(auxiliary), started(auxiliary)
    train_ptame(whole, classifier, Noise(8, 32), CONFIG)

    def stop(row):
        if row["step"] == 1:
            raise KeyboardInterrupt

    file = tmp_path / "e.ckpt"
    config = replace(CONFIG, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_ptame(parts, classifier, Noise(8, 32), replace(config, checkpoint_every=1), checkpoint=file, on_step=stop)
    parts = started(auxiliary)
    train_ptame(parts, classifier, Noise(8, 32), replace(config, checkpoint_every=1), checkpoint=file, resume=True)
    torch.testing.assert_close(parts.fuser.weight, whole.fuser.weight)


def test_rows_are_tied_or_mapped():
    with pytest.raises(ValueError, match="rows can't be tied and mapped at once"):
        TrainingConfig(tied=True, mapped=True)
