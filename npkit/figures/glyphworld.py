"""Figures of notebook 00_glyphworld: what words do to pictures, and how raters judge them."""
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, scatter_in_rows, styled

CATEGORY_COLORS = dict(zip(("style", "artist", "format", "perspective", "booster", "vibe"),
                           ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"), strict=True))


@styled
def modifier_gains(table: pd.DataFrame) -> Figure:
    """Draw what each modifier alone adds to the utility, a panel a category (columns category, modifier, gain)."""
    figure, panels = new_figure(10, 4.6, 2, 3, sharex=True)
    for axes, (category, color) in zip(panels.flat, CATEGORY_COLORS.items(), strict=True):
        rows = table[table["category"] == category]
        order = rows.groupby("modifier")["gain"].mean().sort_values(ascending=False).index
        seaborn.pointplot(rows, x="gain", y="modifier", order=order, color=color, linestyle="none", marker="o",
                          markersize=4, errorbar=("ci", 95), seed=0, err_kws={"linewidth": 1.2}, ax=axes)
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=category, xlabel="", ylabel="")
        axes.tick_params(axis="y", labelsize=8, length=0)
    figure.supxlabel("utility gained over the plain scene, mean and 95 % interval over scenes")
    return figure


@styled
def load_curve(table: pd.DataFrame) -> Figure:
    """Draw utility against the number of modifiers: scenes as points, means with intervals (columns load, utility)."""
    figure, axes = new_figure(7, 3.2)
    scatter_in_rows(table, x="load", y="utility", color=MUTED, size=2.2, alpha=0.5, jitter=0.25, ax=axes, zorder=1)
    seaborn.pointplot(table, x="load", y="utility", color=VARIANT_STYLE["ppo+nl"].color, errorbar=("ci", 95), seed=0,
                      ax=axes, zorder=2)
    axes.axhline(0, color=INK, lw=0.8, ls="--", zorder=0)
    axes.set(xlabel="number of modifiers", ylabel="utility")
    return figure


@styled
def vote_curve(differences: Sequence[float], noise: float) -> Figure:
    """Draw Bradley and Terry's curve and where the pairs of pictures lie on it."""
    figure, axes = new_figure(7, 2.8)
    reach = float(np.abs(differences).max())
    grid = np.linspace(-reach, reach, 200)
    axes.plot(grid, 1 / (1 + np.exp(-grid / noise)), color=VARIANT_STYLE["sft+nl"].color, lw=2)
    seaborn.rugplot(x=np.asarray(differences), ax=axes, color=MUTED, height=0.08, lw=0.6, alpha=0.6)
    axes.set(xlabel="utility of a minus utility of b", ylabel="share of votes for a", ylim=(-0.05, 1.05))
    return figure


@styled
def oracle_by_variant(table: pd.DataFrame) -> Figure:
    """Draw the oracle of every prompt by how it was written, with the middle half (columns variant, oracle)."""
    colors = {"prefix": VARIANT_STYLE["prefix"].color, "human": VARIANT_STYLE["human"].color}
    palette = {name: colors.get(name, VARIANT_STYLE["ppo"].color) for name in table["variant"].unique()}
    figure, axes = new_figure(7, 2.6)
    options = {"y": "variant", "x": "oracle", "hue": "variant", "palette": palette, "legend": False}
    scatter_in_rows(table, **options, size=2.8, alpha=0.6, jitter=0.22, ax=axes, zorder=1)
    seaborn.boxplot(table, **options, width=0.5, fill=False, showfliers=False, linewidth=1.2, ax=axes, zorder=2)
    axes.set(xlabel="oracle: mean utility of the pictures that the prompt paints", ylabel="")
    axes.grid(False, axis="y")
    return figure
