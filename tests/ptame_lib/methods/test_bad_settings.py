"""Methods and budgets that do not exist."""

import pytest
from refusals import assert_answer, refused, toy_classifier

from ptame_lib import Budget, build_methods
from ptame_lib.methods import rise

# name: (what is done, what must come of it)
ROWS = {
    "unknown method": (
        lambda: build_methods(toy_classifier(), names=["Grad-CAMM"]),
        refused("unknown method 'Grad-CAMM': choose from Grad-CAM, "),
    ),
    "no masks for RISE": (
        lambda: rise(toy_classifier(), masks=0),
        refused("masks must be a whole number of at least 1, got 0: raise it"),
    ),
    "half a mask": (
        lambda: Budget(masks=2.5),
        refused(r"masks must be a whole number of at least 1, got 2\.5: raise it"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_settings(name):
    assert_answer(*ROWS[name])
