"""Figures of notebook 06_evaluation: gains with intervals, score distributions, judges compared, sample sheets."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, picture_sheet, scatter_in_rows, styled
from npkit.findings.stats import Interval

COLORS = {variant: style.color for variant, style in VARIANT_STYLE.items()}


@styled
def resampled_means(means: np.ndarray, interval: Interval) -> Figure:
    """Draw the histogram of bootstrap means with the 95 % interval that its tails cut off."""
    figure, axes = new_figure(7, 2.8)
    axes.axvspan(interval.low, interval.high, color=COLORS["sft"], alpha=0.18, lw=0)
    seaborn.histplot(means, bins=40, ax=axes, color=COLORS["sft+nl"], edgecolor="white", linewidth=0.5)
    axes.axvline(interval.mean, color=INK, lw=1.2)
    axes.axvline(0, color=MUTED, lw=1, ls="--")
    for x, side in ((interval.low, "right"), (interval.high, "left")):
        axes.annotate(f" {x:.2f} ", (x, 0.9), xycoords=("data", "axes fraction"), ha=side, color=COLORS["sft+nl"])
    axes.set(xlabel=f"mean gain of {interval.n} prefixes drawn with replacement", ylabel="resamples")
    return figure


@styled
def gain_forest(table: pd.DataFrame) -> Figure:
    """Draw each variant's gain over the prefix with its 95 % interval, one panel a judge (`results_table`)."""
    chosen = table[table["variant"] != "prefix"]
    judges = chosen["judge"].unique()
    figure, panels = new_figure(1 + 2.5 * len(judges), 3.6, 1, len(judges), sharey=True, squeeze=False)
    for axes, judge in zip(panels.flat, judges, strict=True):
        rows = chosen[chosen["judge"] == judge]
        for place, row in enumerate(rows.itertuples()):
            _interval(axes, place, (row.gain, row.gain_low, row.gain_high), row.variant)
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=judge, yticks=range(len(rows)), yticklabels=rows["variant"], ylim=(len(rows) - 0.4, -0.7))
        axes.margins(x=0.15)
        axes.grid(False, axis="y")
        _color_labels(axes)
    figure.supxlabel(f"gain over the prefix, 95 % interval, n = {chosen['n'].min()} prefixes")
    return figure


@styled
def win_rates(contrasts: pd.DataFrame) -> Figure:
    """Draw how often the first variant of each pair beats the second, one panel a judge (`contrast_table`)."""
    judges = contrasts["judge"].unique()
    figure, panels = new_figure(1.6 + 2.4 * len(judges), 3.3, 1, len(judges), sharey=True, sharex=True, squeeze=False)
    for axes, judge in zip(panels.flat, judges, strict=True):
        rows = contrasts[contrasts["judge"] == judge]
        for place, row in enumerate(rows.itertuples()):
            variant = row.contrast.split(" - ")[0]
            _interval(axes, place, (row.win_rate, row.win_low, row.win_high), variant, "{:.0%}")
        axes.axvline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=judge, yticks=range(len(rows)), yticklabels=rows["contrast"].str.replace(" - ", " against "),
                 ylim=(len(rows) - 0.4, -0.7), xlim=(0, 1), xticks=(0, 0.5, 1))
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.grid(False, axis="y")
    figure.supxlabel(f"prefixes won, ties count half, 95 % interval, n = {contrasts['n'].min()}")
    return figure


@styled
def gain_distributions(gains: pd.DataFrame, judge: str) -> Figure:
    """Draw every prefix's gain as a point on the outline of its variant's distribution (`evaluation.gains`)."""
    figure, axes = new_figure(7.5, 0.7 + 0.62 * gains.shape[1])
    options = {"orient": "h", "ax": axes, "palette": COLORS}
    seaborn.violinplot(gains, **options, inner=None, cut=0, density_norm="width", width=0.85, linewidth=0, alpha=0.35)
    scatter_in_rows(gains, **options, size=2.2, alpha=0.55, jitter=0.22)
    for place, variant in enumerate(gains):
        low, middle, high = np.percentile(gains[variant], (25, 50, 75))
        axes.plot((low, high), (place, place), color=INK, lw=2.5, solid_capstyle="butt")
        axes.plot(middle, place, marker=VARIANT_STYLE[variant].marker, color="white", mec=INK, ms=7)
    axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
    axes.set(xlabel=f"{judge}: gain over the prefix (bar: middle half of the prefixes, mark: median)", ylabel="")
    _color_labels(axes)
    return figure


@styled
def judge_against_oracle(judged: pd.DataFrame, true: pd.DataFrame, judge: str, oracle: str = "oracle",
                         variants: Sequence[str] = ("human", "sft", "ppo", "ppo+nl")) -> Figure:
    """Draw a judge's gain against the oracle's, a point a prefix; the shaded corner is where the judge is fooled."""
    figure, panels = new_figure(2.4 * len(variants) + 0.6, 3, 1, len(variants), sharex=True, sharey=True)
    right, bottom, top = 1.05 * judged.to_numpy().max(), 1.05 * min(true.to_numpy().min(), 0), true.to_numpy().max()
    for axes, variant in zip(panels, variants, strict=True):
        x, y = judged[variant], true[variant]
        axes.fill_between((0, right), bottom, 0, color="#CC79A7", alpha=0.18, lw=0, zorder=0)
        axes.scatter(x, y, s=14, color=COLORS[variant], marker=VARIANT_STYLE[variant].marker, alpha=0.5, lw=0)
        axes.axvline(0, color=MUTED, lw=1)
        axes.axhline(0, color=MUTED, lw=1)
        axes.plot(x.mean(), y.mean(), marker="X", ms=11, color=INK, mec="white", mew=1.2)
        fooled = ((x > 0) & (y < 0)).mean()
        axes.annotate(f"fooled: {fooled:.0%}", (0.97, 0.03), xycoords="axes fraction", ha="right", weight="bold")
        axes.set(title=variant, xlim=(None, right), ylim=(bottom, 1.05 * top))
        axes.title.set_color(COLORS[variant])
    figure.supxlabel(f"{judge}: gain over the prefix (cross: mean)")
    figure.supylabel(f"{oracle}: gain")
    return figure


@styled
def length_effect(lengths: pd.DataFrame, judge: str) -> Figure:
    """Draw the gain against the words added, a point a prefix and variant, with each variant's straight line."""
    figure, axes = new_figure(7.5, 3.6)
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(lengths))  # words are whole numbers
    for variant in lengths["variant"].unique():
        chosen = (lengths["variant"] == variant).to_numpy()
        x, y = lengths["words_added"][chosen], lengths["gain"][chosen]
        axes.scatter(x + jitter[chosen], y, s=10, alpha=0.35, lw=0, color=COLORS[variant],
                     marker=VARIANT_STYLE[variant].marker)
        if x.nunique() > 1:
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([x.quantile(0.02), x.quantile(0.98)])
            axes.plot(ends, start + slope * ends, color=COLORS[variant], lw=2.4, marker=VARIANT_STYLE[variant].marker,
                      ms=7, mec="white", label=f"{variant}: {slope:+.3f} a word")
    axes.axhline(0, color=MUTED, lw=1, ls="--", zorder=0)
    axes.set(xlabel="words added to the prefix", ylabel=f"{judge}: gain over the prefix")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="slope")
    return figure


@styled
def variant_sheet(prefixes: Sequence[str], prompts: Mapping[str, Sequence[str]], pictures: Mapping[str, Sequence],
                  gains: pd.DataFrame) -> Figure:
    """Draw one row of pictures a prefix and one column a variant, with the words added and the judge's gain."""
    cells = [(prefix, row, variant) for row, prefix in enumerate(prefixes) for variant in prompts]
    captions = ["" if variant == "prefix" else
                f"{gains.loc[prefix, variant]:+.2f}  {prompts[variant][row].removeprefix(prefix).lstrip(', ')}"
                for prefix, row, variant in cells]
    return picture_sheet([pictures[variant][row] for _, row, variant in cells], captions, len(prompts),
                         column_titles=list(prompts), row_titles=prefixes)


def _interval(axes: Axes, place: int, interval: tuple[float, ...], variant: str, text: str = "{:+.2f}") -> None:
    mean, low, high = interval
    color, marker = VARIANT_STYLE[variant]
    axes.plot((low, high), (place, place), color=color, lw=2.6, solid_capstyle="round")
    axes.plot(mean, place, marker=marker, color=color, ms=8, mec="white", mew=0.8)
    axes.annotate(text.format(mean), (mean, place), (0, 8), textcoords="offset points", ha="center", fontsize=8.5)


def _color_labels(axes: Axes) -> None:
    for label in axes.get_yticklabels():
        label.set(color=COLORS.get(label.get_text(), INK), weight="bold")
