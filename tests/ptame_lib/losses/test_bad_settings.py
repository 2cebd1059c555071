"""Weights and powers that the loss cannot have."""

import pytest
from refusals import INF, NAN, assert_answer, refused

from ptame_lib import ExplainerWeights, PTAMEWeights, RTISWeights

# name: (what is done, what must come of it)
ROWS = {
    "negative weight of the loss": (
        lambda: PTAMEWeights(area=-1),
        refused("the loss's area can't be -1: give a number above 0, or 0 to leave"),
    ),
    "negative weight of the Explainer's loss": (
        lambda: ExplainerWeights(tv=-1.0),
        refused("the loss's tv can't be -1.0: give a number above 0, or 0 to leave"),
    ),
    "infinite weight of the Explainer's loss": (
        lambda: ExplainerWeights(area=INF),
        refused("the loss's area can't be inf: give a number"),
    ),
    "mask from much to little": (
        lambda: ExplainerWeights(smallest=0.4),
        refused("a mask can't fill from 0.4 to 0.3 of the image: give smallest <= largest <= 1"),
    ),
    "mask of more than the image": (lambda: ExplainerWeights(largest=1.5), refused("from 0.05 to 1.5 of the image")),
    "negative weight of RTIS's loss": (
        lambda: RTISWeights(removed=-5),
        refused("the loss's removed can't be -5: give"),
    ),
    "RTIS's power of 0": (lambda: RTISWeights(power=0), refused("the loss's power can't be 0: give a number above 0$")),
    "terms left out": (lambda: (ExplainerWeights(tv=0, smallest=0), RTISWeights(tv=0)), lambda weights: True),
    "power of 0": (lambda: PTAMEWeights(p=0), refused("the loss's p can't be 0: give a number above 0")),
    "weight as text": (lambda: PTAMEWeights(ce="2"), refused("the loss's ce can't be '2': give a number above 0, or")),
    "no weight": (lambda: RTISWeights(tv=None), refused("the loss's tv can't be None: give a number")),
    "truth as weight": (lambda: ExplainerWeights(tv=True), refused("the loss's tv can't be True: give a number")),
    "NaN as weight": (lambda: PTAMEWeights(ce=NAN), refused("the loss's ce can't be nan: give a number")),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_settings(name):
    assert_answer(*ROWS[name])
