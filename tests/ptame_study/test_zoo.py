"""The shipped zoo: each network decides by its own evidence and by nothing else."""

import pytest
import torch

from ptame_lib import decide, files, load_auxiliary, load_classifier
from ptame_lib.classifiers import zoo as networks
from ptame_lib.classifiers.zoo import AUXILIARY, EVIDENCE, ZOO
from ptame_lib.datasets.evidence import CLASSES
from ptame_lib.datasets.evidence import EVIDENCE as FACTORS
from ptame_study import zoo

N = 60  # images: shares have a standard error of about 3 points
SLACK = 0.07  # so much less than what 1000 images show is no fault


@pytest.fixture(scope="module")
def images():
    return zoo.redrawn(N, cached=False)


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_network_follows_its_own_evidence_and_no_other(name, images):
    found = zoo.intervene(name, images)
    assert found["accuracy"] >= 0.95 - SLACK
    assert found[EVIDENCE[name]] >= 0.90 - SLACK
    assert all(found[factor] <= 0.05 + SLACK for factor in FACTORS if factor != EVIDENCE[name])


def test_the_zoo_has_seven_networks_of_one_architecture_and_two_of_others():
    kinds = [type(networks.build(name)) for name in EVIDENCE]
    assert kinds.count(networks.ZooNet) == 7
    assert len(set(kinds)) == 3
    assert {EVIDENCE[name] for name in EVIDENCE} == set(FACTORS)
    assert all(networks.classes_of(name) == CLASSES[EVIDENCE[name]] for name in EVIDENCE)


def test_weights_are_small():
    names = [name.removeprefix("zoo/") for name in (*ZOO, AUXILIARY)]
    shipped = {file.stem: file.stat().st_size for file in files.zoo().glob("*.safetensors")}
    assert set(shipped) == set(names)
    assert max(shipped.values()) < 300_000


def test_the_auxiliary_knows_turns(images):
    pixels = images[""].images[:40].float() / 255
    labels = torch.arange(40) % 4
    turned = torch.stack([image.rot90(int(k), (1, 2)) for image, k in zip(pixels, labels, strict=True)])
    assert (decide(load_classifier(AUXILIARY), turned) == labels).float().mean() >= 0.6  # 74 % of the part val
    levels = load_auxiliary(AUXILIARY)(pixels[:1])
    assert [tuple(level.shape[1:]) for level in levels] == [(16, 32, 32), (32, 16, 16), (60, 8, 8), (60, 4, 4)]
