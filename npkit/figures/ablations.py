"""Figures of notebook 07_ablations: gains of the arms, the frontier of judge and public, clauses that help or fight."""
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, styled
from npkit.findings.comparisons import own_baseline

BLUE, ORANGE = VARIANT_STYLE["sft+nl"].color, VARIANT_STYLE["ppo+nl"].color
PANELS_A_LINE = 5


@styled
def arms(table: pd.DataFrame, baseline: str, paid: str = "") -> Figure:
    """Draw each arm's gain with its 95 % interval over the seeds, one panel a judge (`npkit.ablations.tables`).

    The dotted line is the baseline; an arm that differs from it after Holm's correction is drawn in orange.
    """
    judges, names = list(dict.fromkeys(table["judge"])), list(dict.fromkeys(table["arm"]))
    grouped = ": " in baseline  # then every group has a baseline, and no line is that of all
    lines = -(-len(judges) // PANELS_A_LINE)
    columns = -(-len(judges) // lines)
    figure, panels = new_figure(2 + 2.4 * columns, lines * (1.2 + 0.3 * len(names)), lines, columns, sharey=True,
                                squeeze=False)
    for axes in panels.flat[len(judges):]:
        axes.set_visible(False)
    for axes, judge in zip(panels.flat, judges, strict=False):
        rows = table[table["judge"] == judge].set_index("arm").loc[names]
        for place, row in enumerate(rows.itertuples()):
            is_baseline = row.Index == own_baseline(row.Index, baseline)
            color = ORANGE if row.p < 0.05 else INK if is_baseline else BLUE
            if not np.isnan(row.low):
                axes.plot([row.low, row.high], [place, place], color=color, lw=2, alpha=0.6, solid_capstyle="butt")
            axes.plot(row.gain, place, marker="D" if is_baseline else "o", color=color, ms=6)
        if baseline in rows.index and not grouped:
            axes.axvline(rows.loc[baseline, "gain"], color=INK, lw=1, ls=":", zorder=0)
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=f"{judge} (paid)" if judge == paid else judge, yticks=range(len(names)), yticklabels=names,
                 ylim=(len(names) - 0.5, -0.5))
        axes.grid(False, axis="y")
    seeds = int(table["seeds"].max())
    interval = ", 95 % interval" if seeds > 1 else ""
    figure.supxlabel(f"gain over the prefix; mean of {seeds} seed{'s' if seeds > 1 else ''}{interval}; "
                     f"{'diamonds: what a group is compared with' if grouped else f'dotted: {baseline}'}; "
                     "orange: clear at 5 % after Holm")
    return figure


@styled
def frontier(points: pd.DataFrame, fits: Mapping[str, Sequence], paid: str, truth: str,
             over: str = "the prefix") -> Figure:
    """Draw the gain by the paid judge and by `truth` against the square root of KL, with the laws fitted to `truth`.

    A point is one place on the curve of one arm and seed. Left: reinforcement learning; right: best-of-n. `over` says
    what the gains are measured from.
    """
    figure, panels = new_figure(9.5, 3.8, 1, 2, sharey=True)
    kinds = {"rl": ("PPO", points["arm"] != "best-of-n"), "best-of-n": ("best of n", points["arm"] == "best-of-n")}
    for axes, (kind, (title, chosen)) in zip(panels, kinds.items(), strict=True):
        part = points[chosen]
        d = np.sqrt(part["kl"].clip(lower=0))
        axes.scatter(d, part[paid], s=16, color=ORANGE, alpha=0.6, label=f"{paid} (paid)")
        axes.scatter(d, part[truth], s=16, color=BLUE, alpha=0.6, marker="s", label=truth)
        for number, fit in enumerate(fits.get(kind, ())):
            along = np.linspace(0.05, d.max(), 100)
            axes.plot(along, fit.gain(along), color=BLUE, lw=1.2, alpha=0.8,
                      label=f"law fitted to {truth}, a line a seed" if not number else None)
        axes.axhline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=title, xlabel="distance from SFT: square root of KL, in nats a text")
    panels[0].set_ylabel(f"mean gain over {over}")
    panels[0].legend(loc="best")
    return figure


@styled
def interactions(square: pd.DataFrame, clear: pd.DataFrame, judge: str, world: pd.DataFrame | None = None) -> Figure:
    """Draw what each category's clause adds (diagonal) and what two add together beyond that (`matrix`).

    `clear` is the table of the same effects with intervals: a number whose interval excludes 0 is bold. `world` is
    drawn beside it on the same scale: the interactions that the public is written to have.
    """
    figure, panels = new_figure(6.2 if world is None else 11, 4.8, 1, 1 if world is None else 2, squeeze=False)
    limit = float(np.nanmax(np.abs(square.to_numpy()))) or 1.0
    sure = {frozenset((row.one, row.other)) for row in clear.itertuples() if row.low > 0 or row.high < 0}
    titles = ("measured; bold: the interval excludes 0" if sure else "measured; no interval excludes 0",
              "written into the world: mean worth of a pair")
    for number, (axes, part) in enumerate(zip(panels.flat, (square, world))):
        part = part.loc[square.index, square.columns]
        bar = {"cbar_kws": {"label": f"gain by {judge}"}} if axes is panels[0, -1] else {"cbar": False}
        seaborn.heatmap(part, ax=axes, cmap="RdBu", vmin=-limit, vmax=limit, square=True, linewidths=1,
                        linecolor="white", **bar)
        write_numbers(axes, part, limit, set() if number else sure)
        axes.set(xlabel="", ylabel="", title=titles[number])
        axes.tick_params(axis="y", rotation=0, length=0)
        axes.tick_params(axis="x", rotation=30, length=0)
        axes.grid(False)
    return figure


def write_numbers(axes, square: pd.DataFrame, limit: float, bold: Collection[frozenset[str]]) -> None:
    """Write the numbers of a heat map into its cells, those of the pairs in `bold` bold."""
    for row, one in enumerate(square.index):
        for column, other in enumerate(square.columns):
            value = round(square.iloc[row, column], 2) + 0.0  # no "-0.00"
            if not np.isnan(value):
                axes.text(column + 0.5, row + 0.5, f"{value:+.2f}", ha="center", va="center", fontsize=9,
                          color="white" if abs(value) > 0.6 * limit else INK,
                          weight="bold" if {one, other} in bold else "normal")


@styled
def crossing(means: pd.DataFrame, one: str, other: str) -> Figure:
    """Draw what two clauses bring, alone and together, one panel a judge.

    `means` has the mean gain by every judge (columns) under "none", `one`, `other` and both ("one + other"). A dashed
    line ends where the second clause would stand if it brought beside the first what it brings alone.
    """
    figure, panels = new_figure(1.6 + 2.6 * len(means.columns), 3.2, 1, len(means.columns), squeeze=False)
    for axes, judge in zip(panels.flat, means, strict=True):
        without, beside = (means.loc[names, judge].to_numpy()
                           for names in (["none", one], [other, f"{one} + {other}"]))
        axes.plot([0, 1], without, color=BLUE, marker="o", label=f"without {other}")
        axes.plot([0, 1], beside, color=ORANGE, marker="s", label=f"with {other}")
        axes.plot([0, 1], beside[0] + without - without[0], color=ORANGE, lw=1, ls="--", label="as if added up")
        axes.set(title=judge, xticks=[0, 1], xticklabels=["none", one], xlim=(-0.2, 1.2))
    panels[0, 0].set_ylabel("mean gain over the prefix")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
