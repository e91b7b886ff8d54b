"""Figures of notebook 03_reward: votes on pairs, a judge that learns from them, and how it is fooled."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from npkit.figures.base import INK, MUTED, PALE, VARIANT_STYLE, Figure, as_array, new_figure, scatter_in_rows, styled
from npkit.figures.lettering import wrap

JUDGE, PUBLIC = VARIANT_STYLE["ppo+nl"], VARIANT_STYLE["sft+nl"]  # what a judge claims; what is true of the public
SIDES = "ABCDEFGH"


@styled
def votes(pictures: Sequence, words: Sequence[str], pairs: Sequence[tuple[int, int]], shares: Sequence[float],
          true: Sequence[float]) -> Figure:
    """Draw pictures of one prefix under letters, and for each pair of them how eight raters voted."""
    figure, (above, below) = _pictures_above_bars(len(pictures), 2.0, 2.3)
    for axes, picture, letter, text in zip(above, pictures, SIDES, words, strict=False):
        _picture(axes, picture, f"{letter}: {text}")
    place = np.arange(len(pairs))
    below.bar(place, shares, color=PUBLIC.color, width=0.55, label="share of eight votes")
    below.plot(place, true, "D", color=INK, ms=6, label="share of all raters")
    below.axhline(0.5, color=MUTED, lw=1, ls="--")
    below.set_xticks(place, [f"{SIDES[one]} against {SIDES[other]}" for one, other in pairs])
    below.set(ylabel="prefer the first", ylim=(0, 1))
    below.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    below.grid(False, axis="x")
    return figure


@styled
def learning(curve: pd.DataFrame, kept_step: int, single_rater: float, ceiling: float) -> Figure:
    """Draw loss and agreement on the pairs that are trained on and on those of the validation prefixes.

    Columns step, and loss and agreement of each kind of pairs, such as "validation loss".
    """
    figure, (left, right) = new_figure(9, 3, 1, 2)
    for name, style in (("training", VARIANT_STYLE["prefix"]), ("validation", VARIANT_STYLE["ppo"])):
        for axes, column in ((left, "loss"), (right, "agreement")):
            axes.plot(curve["step"], curve[f"{name} {column}"], color=style.color, marker=style.marker, ms=3.5,
                      label=name)
    left.axhline(np.log(2), color=MUTED, lw=1, ls="--", zorder=0, label="a coin")
    for text, value in {"a coin": 0.5, "a single rater": single_rater, "knows the utility": ceiling}.items():
        right.axhline(value, color=MUTED, lw=1, ls="--", zorder=0)
        right.text(curve["step"].max(), value - 0.003, text, fontsize=8, va="top", ha="right", color=MUTED)
    for axes in (left, right):
        axes.axvline(kept_step, color=INK, lw=0.9)
        axes.set(xlabel="step")
    left.set(ylabel="PickScore's loss, nats a pair")
    right.set(ylabel="agreement with a vote")
    left.legend(loc="upper right")
    left.text(kept_step, left.get_ylim()[1], " kept", fontsize=8, va="top")
    return figure


@styled
def agreement(table: pd.DataFrame) -> Figure:
    """Draw how often each of several judges agrees with a vote (columns judge, mean, low, high)."""
    figure, axes = new_figure(7.5, 0.9 + 0.42 * len(table))
    place = np.arange(len(table))
    axes.errorbar(table["mean"], place, xerr=[table["mean"] - table["low"], table["high"] - table["mean"]], fmt="o",
                  color=PUBLIC.color, ms=6, lw=1.6)
    for y, value in zip(place, table["mean"], strict=True):
        axes.text(value, y - 0.2, f"{value:.3f}", fontsize=8.5, ha="center", va="bottom")
    axes.axvline(0.5, color=MUTED, lw=1, ls="--")
    axes.set_yticks(place, table["judge"])
    axes.set(xlabel="agreement with a vote, mean and 95 % interval over prefixes (dashed: a coin)",
             ylim=(len(table) - 0.5, -0.7))
    axes.grid(False, axis="y")
    return figure


@styled
def calibration(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the votes for a judge's favourites over the share that it predicts, a panel a judge.

    Columns predicted, voted, error and n.
    """
    figure, panels = new_figure(4 * len(tables), 3.6, 1, len(tables), sharey=True, squeeze=False)
    for axes, (name, table) in zip(panels[0], tables.items(), strict=True):
        axes.plot((0.5, 1), (0.5, 1), color=MUTED, lw=1, ls="--", zorder=0)
        axes.errorbar(table["predicted"], table["voted"], yerr=table["error"], color=JUDGE.color, marker="o", ms=5,
                      lw=1.6)
        for row in table.itertuples():
            axes.text(row.predicted, 0.31, str(row.n), fontsize=8, ha="center", color=MUTED)
        axes.axhline(0.5, color=PALE, lw=1.5, zorder=0)
        axes.set(title=name, xlabel="share predicted for the favourite", xlim=(0.48, 1.02), ylim=(0.3, 1.02))
    panels[0, 0].set_ylabel("share of votes for the favourite")
    return figure


@styled
def same_noise(table: pd.DataFrame) -> Figure:
    """Draw gains of prompts (columns prompt, noise and gain), pictures of the same and of different noise compared."""
    names = list(table["noise"].unique())
    palette = dict(zip(names, (JUDGE.color, MUTED), strict=True))
    figure, axes = new_figure(8, 0.9 + 0.75 * table["prompt"].nunique())
    scatter_in_rows(table, y="prompt", x="gain", hue="noise", palette=palette, dodge=True, jitter=0.12, size=3.5,
                    alpha=0.7, ax=axes)
    axes.axvline(0, color=MUTED, lw=1, ls="--")
    axes.set(xlabel="gain G, one dot a pair of pictures", ylabel="")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="the two pictures")
    axes.grid(False, axis="y")
    return figure


@styled
def over_optimised(table: pd.DataFrame, curves: Mapping[str, str]) -> Figure:
    """Draw shares of the votes over the number of words that a search has added.

    Columns words, share and one row a prompt and picture seed for each value of `curve`; `curves` names them: the
    claims of a judge in one colour, what is true of the public in the other.
    """
    figure, axes = new_figure(7, 3.4)
    lines = iter(("-", "--", ":"))
    for name, kind in curves.items():
        rows = table[table["curve"] == name].groupby("words")["share"].agg(["mean", "sem"])
        style = PUBLIC if kind == "public" else JUDGE
        axes.plot(rows.index, rows["mean"], color=style.color, marker=style.marker, ms=6, lw=2, label=name,
                  ls="-" if kind == "public" else next(lines))
        axes.fill_between(rows.index, rows["mean"] - 2 * rows["sem"], rows["mean"] + 2 * rows["sem"], lw=0,
                          color=style.color, alpha=0.15)
    axes.axhline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
    axes.set(xlabel="words added by a search that sees your judge alone", ylabel="prefer it to the plain one",
             ylim=(0, 1), xticks=sorted(table["words"].unique()))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def fooled(plain: Sequence, painted: Sequence, prompts: Sequence[str], claimed: np.ndarray, true: np.ndarray) -> Figure:
    """Draw plain pictures above those of prompts that fool a judge, and below what it claims and what is true.

    Both are shares (prompts, seeds): bars are their means, lines 95 % intervals over the picture seeds.
    """
    count = len(prompts)
    figure, panels = new_figure(2.05 * count, 6.6, 3, count, squeeze=False, height_ratios=(1, 1, 0.75))
    for column, prompt in enumerate(prompts):
        _picture(panels[0, column], plain[column], prompt.partition(",")[0])
        _picture(panels[1, column], painted[column], ", ".join(prompt.split(", ")[1:]))
        axes = panels[2, column]
        for place, (values, style) in enumerate(((claimed[column], JUDGE), (true[column], PUBLIC))):
            error = 1.96 * np.std(values, ddof=1) / len(values) ** 0.5
            axes.bar(place, np.mean(values), yerr=error, color=style.color, ecolor=INK, width=0.7)
            axes.text(place, np.mean(values) + error + 0.02, f"{np.mean(values):.2f}", ha="center", fontsize=9)
        axes.axhline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(ylim=(0, 1.08), yticks=(0, 0.5, 1) if column == 0 else ())
        axes.set_xticks((0, 1), ("judge", "public"))
        axes.grid(False)
    panels[2, 0].set_ylabel("prefer it to\nthe plain one")
    return figure


def _pictures_above_bars(count: int, width: float, height: float) -> tuple[Figure, tuple[list[Axes], Axes]]:
    """Return a figure with a row of axes for `count` pictures above one wide panel."""
    figure, _ = new_figure(width * count, width + height)
    figure.clear()
    grid = figure.add_gridspec(2, count, height_ratios=(width, height))
    return figure, ([figure.add_subplot(grid[0, column]) for column in range(count)], figure.add_subplot(grid[1, :]))


def _picture(axes: Axes, picture, title: str) -> None:
    axes.imshow(as_array(picture), interpolation="lanczos")
    axes.set_axis_off()
    axes.set_title("\n".join(wrap(title, 26)), fontsize=9)
