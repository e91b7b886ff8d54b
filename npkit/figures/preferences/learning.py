"""Learning: what votes have taught a judge, beside what those who voted said."""
import pandas as pd

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, styled
from npkit.figures.preferences.voting import as_shares, intervals

JUDGE_STYLES = {"the shipped judge": VARIANT_STYLE["prefix"], "the judge after the votes": VARIANT_STYLE["ppo+nl"]}


@styled
def learnt(agreements: pd.DataFrame, rates: pd.DataFrame, cast: str) -> Figure:
    """Draw a judge's agreement with held-out votes before and after it learnt, and what it says of each meeting.

    `agreements` has columns cast, judge, agreement, low and high; `rates` is a table of win rates of `cast` with a
    column a judge, the share of votes that it expects.
    """
    figure, (left, right) = new_figure(11, 1.2 + 0.36 * len(rates), 1, 2)
    casts = list(agreements["cast"].unique())
    for number, (judge, style) in enumerate(JUDGE_STYLES.items()):
        rows = agreements[agreements["judge"] == judge].set_index("cast").loc[casts]
        places = [place + 0.16 * (2 * number - 1) for place in range(len(casts))]
        intervals(left, places, rows, "agreement", ("low", "high"), *style, judge)
        beside = [place + 0.2 * (2 * number - 1) for place in range(len(rates))]
        right.plot(rates[judge], beside, ls="", marker=style.marker, color=style.color, ms=8, mec="white")
    intervals(right, range(len(rates)), rates, "rate", ("low", "high"), INK, "|", cast)
    left.set(yticks=range(len(casts)), yticklabels=casts, ylim=(len(casts) - 0.4, -0.6))
    right.set(yticks=range(len(rates)), yticklabels=rates["meeting"], ylim=(len(rates) - 0.4, -0.6))
    for axes, title in ((left, "agreement with held-out votes, in %"), (right, f"win rate by {cast}, in %")):
        axes.axvline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
        as_shares(axes, title)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
