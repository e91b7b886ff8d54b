"""Figures of notebook 00_glyphworld: what words do to pictures, what an eye sees there, and what is liked."""
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn

from npkit.figures.base import MUTED, VARIANT_STYLE, Figure, as_array, new_figure, scatter_in_rows, styled

SUBJECT_COLORS = ("#0072B2", "#D55E00")  # of two subjects that are compared
DRAWING_STYLES = tuple(VARIANT_STYLE[name] for name in ("sft+nl", "ppo", "human"))  # of three drawings of tastes


@styled
def sights(pictures: Sequence, titles: Sequence[str], seen: Sequence[pd.Series]) -> Figure:
    """Draw pictures side by side, under each how sure an eye is of what it sees there (name -> probability)."""
    figure, (above, below) = new_figure(2.1 * len(pictures), 4, 2, len(pictures), squeeze=False)
    for axes, picture, title in zip(above, pictures, titles, strict=True):
        axes.imshow(as_array(picture), interpolation="lanczos")
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
    for axes, chances in zip(below, seen, strict=True):
        axes.barh(range(len(chances)), chances.to_numpy(), color=VARIANT_STYLE["sft"].color, height=0.8)
        for row, name in enumerate(chances.index):
            axes.text(0.02, row, name, va="center", fontsize=8.5)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), yticks=(), ylim=(len(chances) - 0.5, -0.5))
        axes.tick_params(axis="x", labelsize=8)
    figure.supxlabel("the eye's probability that it is there", fontsize=9)
    return figure


@styled
def likings(table: pd.DataFrame) -> Figure:
    """Draw how much each effect (columns) is liked by what was asked for (rows) as a map of colours."""
    figure, axes = new_figure(10, 1.9 + 0.25 * len(table))
    reach = float(table.abs().to_numpy().max())
    seaborn.heatmap(table, cmap="RdBu_r", vmin=-reach, vmax=reach, linewidths=0.4, ax=axes,
                    xticklabels=1, yticklabels=1, cbar_kws={"label": "liking", "pad": 0.01})
    axes.tick_params(length=0, labelsize=8)
    axes.set(xlabel="", ylabel="")
    return figure


@styled
def modifier_gains(table: pd.DataFrame) -> Figure:
    """Draw what each modifier alone adds to the utility of each subject, a panel a category.

    Columns category, modifier, subject and gain; the bars are intervals over pictures.
    """
    figure, panels = new_figure(10, 5.6, 2, 3, sharex=True)
    palette = dict(zip(table["subject"].unique(), SUBJECT_COLORS, strict=True))
    for axes, category in zip(panels.flat, table["category"].unique(), strict=True):
        rows = table[table["category"] == category]
        order = rows.groupby("modifier")["gain"].mean().sort_values(ascending=False).index
        seaborn.pointplot(rows, x="gain", y="modifier", hue="subject", order=order, palette=palette, linestyle="none",
                          markers=["o", "D"], markersize=4, dodge=0.3, errorbar=("ci", 95), seed=0,
                          err_kws={"linewidth": 1.2}, legend=axes is panels.flat[0], ax=axes)
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=category, xlabel="", ylabel="")
        axes.tick_params(axis="y", labelsize=8, length=0)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    panels.flat[0].get_legend().remove()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.supxlabel("utility gained over the plain picture, mean and 95 % interval over pictures")
    return figure


@styled
def vote_curve(differences: Sequence[float], noise: float) -> Figure:
    """Draw Bradley and Terry's curve and where the pairs of pictures lie on it."""
    figure, axes = new_figure(7, 2.8)
    reach = float(np.abs(differences).max())
    grid = np.linspace(-reach, reach, 200)
    axes.plot(grid, 1 / (1 + np.exp(-grid / noise)), color=VARIANT_STYLE["sft+nl"].color, lw=2)
    seaborn.rugplot(x=np.asarray(differences), ax=axes, color=MUTED, height=0.08, lw=0.6, alpha=0.6)
    axes.plot(noise, 1 / (1 + np.exp(-1)), "o", color=VARIANT_STYLE["ppo+nl"].color, zorder=3)
    axes.annotate(f"difference of one noise, {noise:g}: {1 / (1 + np.exp(-1)):.0%}", (noise, 1 / (1 + np.exp(-1))),
                  (8, -4), textcoords="offset points", va="top", fontsize=9)
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


@styled
def across_tastes(table: pd.DataFrame) -> Figure:
    """Draw each comparison's mean and interval under several drawings of tastes.

    Columns comparison, tastes (the drawing's name), mean, low and high.
    """
    comparisons, drawings = list(table["comparison"].unique()), list(table["tastes"].unique())
    figure, axes = new_figure(8, 0.8 + 0.5 * len(comparisons))
    for number, (drawing, style) in enumerate(zip(drawings, DRAWING_STYLES, strict=True)):
        rows = table[table["tastes"] == drawing]
        y = [comparisons.index(name) + 0.2 * (number - (len(drawings) - 1) / 2) for name in rows["comparison"]]
        axes.errorbar(rows["mean"], y, xerr=[rows["mean"] - rows["low"], rows["high"] - rows["mean"]], fmt=style.marker,
                      color=style.color, markersize=5, lw=1.3, label=drawing)
    axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
    axes.set_yticks(range(len(comparisons)), comparisons)
    axes.set(xlabel="difference in utility, mean and 95 % interval", ylim=(len(comparisons) - 0.5, -0.5))
    axes.legend(title="tastes", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(False, axis="y")
    return figure
