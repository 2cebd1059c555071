"""Weights and powers that the loss cannot have."""

import pytest
from refusals import NAN, assert_answer, refused

from ptame_lib import PTAMEWeights

# name: (what is done, what must come of it)
ROWS = {
    "negative weight of the loss": (
        lambda: PTAMEWeights(area=-1),
        refused("the loss's area can't be -1: give a number above 0, or 0 to leave"),
    ),
    "power of 0": (lambda: PTAMEWeights(p=0), refused("the loss's p can't be 0: give a number above 0")),
    "NaN as weight": (lambda: PTAMEWeights(ce=NAN), refused("the loss's ce can't be nan: give a number")),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_settings(name):
    assert_answer(*ROWS[name])
