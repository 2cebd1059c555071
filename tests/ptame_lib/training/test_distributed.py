"""Two processes train the explainer that one would have trained."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import Images, same, small_nets, weights
from processes import FORK, team
from torch import nn

import ptame_lib
from ptame_lib import PTAME, ExplainerConfig, TrainingConfig, train_explainer, train_ptame
from ptame_lib.explainers.fastshap import FastSHAP
from ptame_lib.explainers.lcam import LCAM
from ptame_lib.explainers.swap_tame import SwapTAME
from ptame_lib.training.distributed import GlobalBatchNorm
from ptame_lib.training.ptame import lcam_config, shapley_config, swap_config
from ptame_study import paths, train

CONFIG = TrainingConfig(steps=6, batch_size=8, lr=1e-2, checkpoint_every=2)
# AdamW makes full steps of the rounding noise that is the gradient of a bias before a batch norm: Swap-TAME has some
SGD = replace(CONFIG, optimizer="sgd", lr=0.1, temperature=1.0)
CHECKOUT = Path(ptame_lib.__file__).parent.parent
pytestmark = pytest.mark.skipif(FORK is None, reason="needs fork")


def images():
    """20 of them, which the small classifier decides in two ways: in some there is no green."""
    data = Images(20)
    data.pixels[::3, 1] = 0
    return data


def train_one(rank, config, out, kind=PTAME, layers=("l1", "l2", "l3", "l4"), **options):
    """As a process of a team does it; what it ends with goes to a file of its own."""
    explainer, classifier = small_nets(layers, kind)
    seen = []
    history = train_ptame(explainer, classifier, images(), config, on_step=seen.append, **options)
    torch.save({"weights": explainer.trained_state(), "history": history, "seen": len(seen)}, out / f"{rank}.pt")
    assert all(type(module) is not GlobalBatchNorm for module in explainer.modules())


def together(*arguments, **options):
    assert team(2, lambda rank: train_one(rank, *arguments, **options)) == [0, 0]


def results(out, *ranks):
    return [torch.load(out / f"{rank}.pt") for rank in ranks]


def equal_up_to_rounding(a, b):
    assert a["weights"].keys() == b["weights"].keys()
    for key, value in a["weights"].items():
        torch.testing.assert_close(b["weights"][key], value, rtol=0, atol=1e-5, msg=key)
    for one, other in zip(a["history"], b["history"], strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (CONFIG, {}),
        (replace(CONFIG, optimizer="sgd"), {}),
        (lcam_config(CONFIG), {"kind": LCAM, "layers": ("l4",)}),
        (shapley_config(CONFIG), {"kind": FastSHAP}),
        (swap_config(SGD), {"kind": SwapTAME}),
        (swap_config(replace(SGD, regions=20.0)), {"kind": SwapTAME}),
    ],
    ids=["adamw", "sgd", "L-CAM-Img", "FastSHAP", "Swap-TAME", "Swap-TAME with regions"],
)
def test_two_processes_end_with_the_weights_of_one(config, options, tmp_path):
    together(config, tmp_path, **options)
    train_one("alone", config, tmp_path, **options)
    main, other, alone = results(tmp_path, 0, 1, "alone")
    equal_up_to_rounding(alone, main)
    assert same(main["weights"], other["weights"])
    assert (main["seen"], other["seen"]) == (6, 0)
    assert all(row.get("regions", 1) > 0 for row in main["history"])
    start = small_nets(options.get("layers", ("l1", "l2", "l3", "l4")), options.get("kind", PTAME))[0].trained_state()
    assert max((alone["weights"][key] - start[key]).abs().max() for key in start) > 1e-2  # far more than the tolerance


@pytest.mark.parametrize("fault", ["local targets", "local statistics"])
def test_what_each_process_sees_alone_would_not_do(fault, tmp_path, monkeypatch):
    """So that the test above can fail."""
    if fault == "local targets":
        monkeypatch.setattr("ptame_lib.training.distributed.all_targets", lambda targets, team: targets)
    else:
        monkeypatch.setattr(GlobalBatchNorm, "forward", nn.BatchNorm2d.forward)
    together(CONFIG, tmp_path)
    train_one("alone", CONFIG, tmp_path)
    with pytest.raises(AssertionError):
        equal_up_to_rounding(*results(tmp_path, "alone", 0))


def test_a_training_goes_on_in_another_number_of_processes(tmp_path):
    """Two processes are interrupted after four steps, one finishes; the main process alone has written."""

    def interrupted(rank):
        def stop(row):
            if row["step"] == 4:
                os._exit(3)

        train_ptame(*small_nets(), images(), CONFIG, checkpoint=tmp_path / "e.ckpt", on_step=stop)

    assert 3 in team(2, interrupted)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["e.ckpt", "e.history.json"]
    assert len(json.loads((tmp_path / "e.history.json").read_text())) == 4
    train_one("resumed", CONFIG, tmp_path, checkpoint=tmp_path / "e.ckpt", resume=True)
    train_one("alone", CONFIG, tmp_path)
    equal_up_to_rounding(*results(tmp_path, "alone", "resumed"))


def test_a_loss_that_is_not_finite_stops_all_and_names_the_image(tmp_path):
    def spoiled(rank):
        data = Images(8)
        data.pixels[3] = float("nan")
        with pytest.raises(FloatingPointError, match=r"at step 0.*answer is not finite for image 3\.$"):
            train_ptame(*small_nets(), data, CONFIG)

    assert team(2, spoiled) == [0, 0]


def test_what_cannot_be_shared_is_refused():
    def refused(rank):
        with pytest.raises(ValueError, match="batch_size=7 can't be shared equally by 2 processes: choose a multiple"):
            train_ptame(*small_nets(), Images(20), replace(CONFIG, batch_size=7))
        box = small_nets()[1]
        box.learned_state = dict
        with pytest.raises(ValueError, match="learned from in one process"):
            train_ptame(small_nets()[0], box, Images(20), CONFIG)

    assert team(2, refused) == [0, 0]


@pytest.fixture
def study(study_root):
    """A study of one tiny profile, with notebook 02."""
    (study_root / "notebooks").mkdir()
    shutil.copy(CHECKOUT / "notebooks" / "02_train_ptame.ipynb", study_root / "notebooks")
    for part in ("data/embedded", "ptame_lib"):
        (study_root / part).parent.mkdir(exist_ok=True)
        (study_root / part).symlink_to(CHECKOUT / part)
    (study_root / "workflow" / "profiles").mkdir(parents=True)
    settings = "02_train_ptame: {train_images: 40, steps: 3, training: {batch_size: 8}, lr: 5.0e-3}"
    (study_root / "workflow" / "profiles" / "tiny.yaml").write_text(
        f"classifiers: [embedded/vgg]\nnotebooks:\n  {settings}\n"
    )
    return study_root


def command(*more):
    """Its exit code."""
    return train.app(["--profile", "tiny", "--classifier", "embedded/vgg", *more], standalone_mode=False) or 0


def test_the_command_writes_what_notebook_02_writes(study, capsys):
    assert command() == 0
    file = paths.explainer("tiny", "embedded/vgg")
    alone = weights(PTAME.load(file))
    assert sorted(p.name for p in file.parent.iterdir()) == [
        "history-ptame-embedded-vgg.csv", "ptame-embedded-vgg.ckpt", "ptame-embedded-vgg.history.json",
        "ptame-embedded-vgg.safetensors",
    ]  # fmt: skip
    file.unlink()
    assert team(2, lambda rank: sys.exit(command("--fresh"))) == [0, 0]
    for key, value in weights(PTAME.load(file)).items():
        torch.testing.assert_close(value, alone[key], rtol=0, atol=1e-5, msg=key)
    assert command("--set", "lr=1.0e-2") == 1
    assert "made with other settings (lr: 0.005, now 0.01" in (said := capsys.readouterr().err)
    assert "--fresh starts from the beginning" in said
    assert command("--set", "loss.ce=5.0") == 1
    assert "'ce': 1.5" in (said := capsys.readouterr().err)
    assert "'ce': 5.0" in said
    assert command("--set", "loss.cee=5.0") == 1
    assert "unknown key 'cee' in loss: did you mean ce?" in capsys.readouterr().err
    assert command("--set", "loss=5.0") == 1
    assert "can't set 'loss=5.0': write NAME=VALUE" in capsys.readouterr().err
    assert command("--set", "steps") == 1
    assert (
        "can't set 'steps': write NAME=VALUE with a parameter of notebook 02 (profile, classifier"
        in capsys.readouterr().err
    )


def test_explainers_with_a_validation_are_trained_in_one_process():
    def refused(rank):
        classifier = small_nets()[1]
        data = [{"pixels": torch.rand(3, 32, 32), "labels": torch.zeros(7)}] * 16
        explainer = nn.Module()
        explainer.num_classes = 7
        with pytest.raises(ValueError, match="in one process, since its validation is"):
            train_explainer(explainer, classifier, data, data, ExplainerConfig())

    assert team(2, refused) == [0, 0]
