"""Figures of notebook 01_data_and_prefixes: modifiers, their popularity, lengths by prefix rule, leakage."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.ticker import NullFormatter

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, styled

PALETTE = [VARIANT_STYLE["human"].color, MUTED, VARIANT_STYLE["sft+nl"].color, VARIANT_STYLE["ppo+nl"].color]
MARKERS = "so^D"
LEAST_SHARE = 1e-5  # of all uses, that is drawn: rarer modifiers are single prompts


def _colors(names: Sequence[str]) -> list[str]:
    """Return a variant's own colour where a name is one, else the next of the palette."""
    return [VARIANT_STYLE[name].color if name in VARIANT_STYLE else color for name, color in zip(names, PALETTE)]


@styled
def category_shares(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw, for every set of prompts, the share that uses a modifier of each category (set -> category -> share)."""
    table = pd.DataFrame(shares).rename_axis("category").reset_index().melt("category", var_name="prompts")
    figure, axes = new_figure(7, 3.6)
    seaborn.barplot(table, y="category", x="value", hue="prompts", palette=_colors(list(shares)), ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:.0%}", padding=3, fontsize=8)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set(xlabel="share of prompts with a modifier of the category", ylabel="")
    axes.grid(False, axis="y")
    axes.legend(title=None, loc="upper right")
    return figure


@styled
def popularity(counts: Mapping[str, Sequence[int]]) -> Figure:
    """Draw how often the modifier of each rank is used, beside Zipf's law, on logarithmic axes (set -> counts)."""
    figure, axes = new_figure(7, 3.6)
    ranks = np.arange(1, max(sum(value > 0 for value in values) for values in counts.values()) + 1)
    axes.plot(ranks, 1 / ranks / (1 / ranks).sum(), color=INK, lw=1.2, ls="--", label="Zipf's law: share ~ 1 / rank")
    for (name, values), color, marker in zip(counts.items(), PALETTE, MARKERS):
        used = sorted((value for value in values if value), reverse=True)
        shares = [value / sum(used) for value in used]
        axes.plot(range(1, len(used) + 1), shares, color=color, marker=marker, ms=3, lw=1.2, label=name)
    axes.set(xscale="log", yscale="log", xlabel="rank of the modifier", ylabel="share of all uses",
             ylim=(LEAST_SHARE, 0.5))
    axes.xaxis.set_major_formatter("{x:g}")  # the usual formatter of logarithmic axes writes formulas
    axes.yaxis.set_major_formatter(lambda value, place: f"{100 * value:g}%")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower left")
    return figure


@styled
def lengths_by_rule(table: pd.DataFrame) -> Figure:
    """Draw the words of prefix and completion under each prefix rule (columns rule, part, words)."""
    figure, axes = new_figure(7, 3.2)
    palette = {"prefix": VARIANT_STYLE["prefix"].color, "completion": VARIANT_STYLE["human"].color}
    seaborn.boxenplot(table, x="rule", y="words", hue="part", palette=palette, showfliers=False, ax=axes, gap=0.1)
    axes.set(xlabel="", ylabel="words")
    axes.legend(title=None, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


@styled
def leakage(shares: Mapping[str, float]) -> Figure:
    """Draw, for each way of splitting, the share of test prompts whose prefix was seen in training."""
    figure, axes = new_figure(7, 0.8 + 0.4 * len(shares))
    bars = axes.barh(list(shares), list(shares.values()), color=VARIANT_STYLE["ppo+nl"].color, height=0.6)
    axes.bar_label(bars, fmt="{:.1%}", padding=4)
    axes.set(xlabel="share of test prompts whose prefix was seen in training",
             xlim=(0, max(0.05, *shares.values()) * 1.15))
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    return figure
