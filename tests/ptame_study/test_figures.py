"""The look of all figures."""

import matplotlib
import seaborn

from ptame_study import figures


def test_the_style_is_seaborns():
    """Written out, so that drawing one figure does not need seaborn."""
    with matplotlib.rc_context():
        seaborn.set_theme(context="notebook", style="whitegrid", palette="colorblind")
        theirs = {**matplotlib.rcParams}
    with matplotlib.rc_context():
        figures.use_style()
        ours = {**matplotlib.rcParams}
    own = {"svg.hashsalt", "figure.dpi", "savefig.dpi", "savefig.bbox", "font.family", "text.parse_math"}
    cycles = [each.pop("axes.prop_cycle").by_key()["color"] for each in (ours, theirs)]
    assert [[matplotlib.colors.to_hex(colour) for colour in cycle] for cycle in cycles] == 2 * [figures.PALETTE]
    # the usual colour map is of seaborn's own, which no figure uses
    assert {k: v for k, v in ours.items() if theirs[k] != v and k not in {"image.cmap", *own}} == {}
