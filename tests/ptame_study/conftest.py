"""Results by hand, shared by the study's tests."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def per_image():
    """P-TAME has an AD 10 points lower than b on every image and ties with c."""
    n = 12
    base = np.linspace(20, 42, n)
    parts = {"P-TAME": base, "b": base + 10, "c": base}
    frames = [
        pd.DataFrame({"classifier": "net", "method": m, "image": range(n), "deletion": v, "insertion": 100 - v})
        for m, v in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)
