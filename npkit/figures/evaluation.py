"""Figures of notebook 06_evaluation: gains, win rates, judges compared, quality against faithfulness and variety."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from npkit.figures.base import (
    INK,
    MUTED,
    VARIANT_STYLE,
    Figure,
    new_figure,
    picture_sheet,
    scatter_in_rows,
    style_of,
    styled,
)
from npkit.findings.stats import Interval

COLORS = {variant: style.color for variant, style in VARIANT_STYLE.items()}


@styled
def resampled_means(gains: np.ndarray, means: np.ndarray, interval: Interval) -> Figure:
    """Draw the gains of single prefixes above the bootstrap's means of them, on one axis, with the 95 % interval."""
    figure, (single, resampled) = new_figure(7.5, 4, 2, 1, sharex=True)
    for axes, values, bins in ((single, gains, 40), (resampled, means, 20)):
        seaborn.histplot(values, bins=bins, ax=axes, color=COLORS["ppo"], edgecolor="white", linewidth=0.5)
        axes.axvline(0, color=MUTED, lw=1, ls="--")
        axes.axvline(interval.mean, color=INK, lw=1.2)
        axes.axvspan(interval.low, interval.high, color=INK, alpha=0.12, lw=0)
    for x, side in ((interval.low, "right"), (interval.high, "left")):
        resampled.annotate(f" {x:.2f} ", (x, 0.85), xycoords=("data", "axes fraction"), ha=side)
    single.set(ylabel="prefixes", title=f"the gains of {interval.n} prefixes, one by one")
    resampled.set(ylabel="resamples", xlabel="gain over the prefix",
                  title=f"means of {interval.n} gains, drawn with replacement {len(means)} times")
    return figure


@styled
def gain_forest(table: pd.DataFrame, paid: str = "") -> Figure:
    """Draw each variant's gain over the prefix with its 95 % interval, one panel a judge (`results_table`).

    The panel of the judge `paid`, which rewarded PPO, says so.
    """
    chosen = table[table["variant"] != "prefix"]
    judges = chosen["judge"].unique()
    height = 0.9 + 0.38 * chosen["variant"].nunique()
    figure, panels = new_figure(1.4 + 2.5 * len(judges), height, 1, len(judges), sharey=True, squeeze=False)
    for axes, judge in zip(panels.flat, judges, strict=True):
        rows = chosen[chosen["judge"] == judge]
        for place, row in enumerate(rows.itertuples()):
            _interval(axes, place, (row.gain, row.gain_low, row.gain_high), row.variant)
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=_title(judge, paid), yticks=range(len(rows)), yticklabels=rows["variant"],
                 ylim=(len(rows) - 0.4, -0.7))
        axes.margins(x=0.15)
        axes.grid(False, axis="y")
        _color_labels(axes)
    figure.supxlabel(f"gain over the prefix, on each judge's own scale: mean of {_numbers(chosen['n'])} prefixes and "
                     "95 % interval")
    return figure


@styled
def win_rates(contrasts: pd.DataFrame, paid: str = "") -> Figure:
    """Draw how often the first variant of each pair beats the second, one panel a judge (`contrast_table`)."""
    judges = contrasts["judge"].unique()
    height = 0.9 + 0.38 * contrasts["contrast"].nunique()
    figure, panels = new_figure(2.8 + 2.2 * len(judges), height, 1, len(judges), sharey=True, sharex=True,
                                squeeze=False)
    for axes, judge in zip(panels.flat, judges, strict=True):
        rows = contrasts[contrasts["judge"] == judge]
        for place, row in enumerate(rows.itertuples()):
            variant = row.contrast.split(" - ")[0]
            _interval(axes, place, (row.win_rate, row.win_low, row.win_high), variant, "{:.0%}")
        axes.axvline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(title=_title(judge, paid), yticks=range(len(rows)),
                 yticklabels=rows["contrast"].str.replace(" - ", " against "),
                 ylim=(len(rows) - 0.4, -0.7), xlim=(-0.06, 1.06), xticks=(0, 0.25, 0.5, 0.75, 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
        axes.grid(False, axis="y")
    figure.supxlabel(f"win rate: % of {_numbers(contrasts['n'])} prefixes where the first variant scores higher (a tie "
                     "counts half), 95 % interval")
    return figure


@styled
def gain_distributions(gains: pd.DataFrame, judge: str) -> Figure:
    """Draw every prefix's gain as a point on the outline of its variant's distribution (`evaluation.gains`)."""
    figure, axes = new_figure(7.5, 0.7 + 0.5 * gains.shape[1])
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
    figure.supylabel(f"{oracle}: gain over the prefix")
    return figure


@styled
def judge_effects(effects: pd.DataFrame, paid: str, contrast: str) -> Figure:
    """Draw a contrast's size in each judge's eyes, and how far the paid judge's lies above each of the others'.

    `effects` has a row a judge: `effect`, `low`, `high`, and `lead`, `lead_low`, `lead_high`, nan of the paid judge;
    all in standard deviations.
    """
    figure, (sizes, leads) = new_figure(9, 0.9 + 0.5 * len(effects), 1, 2, sharey=True)
    for place, row in enumerate(effects.itertuples()):
        color = COLORS["ppo"] if row.Index == paid else INK
        _bar(sizes, place, (row.effect, row.low, row.high), color)
        if row.Index != paid:
            _bar(leads, place, (row.lead, row.lead_low, row.lead_high), color)
    names = [_title(judge, paid) for judge in effects.index]
    for axes, label in ((sizes, f"{contrast}, in standard deviations"), (leads, f"{paid} minus this judge")):
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(xlabel=label, yticks=range(len(effects)), yticklabels=names, ylim=(len(effects) - 0.4, -0.7))
        axes.grid(False, axis="y")
    sizes.set_title("how much each judge sees")
    leads.set_title("how far the paid judge leads")
    return figure


@styled
def length_effect(lengths: pd.DataFrame, judge: str) -> Figure:
    """Draw the gain against the words added: a panel a variant with its points and line, then the variants' means."""
    variants = list(lengths["variant"].unique())
    rows = -(-(len(variants) + 1) // 4)
    figure, panels = new_figure(10.5, 2.4 * rows + 0.3, rows, 4, sharex=True, sharey=True, squeeze=False)
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(lengths))  # words are whole numbers
    for axes, variant in zip(panels.flat, variants, strict=False):
        chosen = (lengths["variant"] == variant).to_numpy()
        _length_panel(axes, lengths[chosen], jitter[chosen], variant)
    means = panels.flat[len(variants)]
    for variant, (words, gain) in lengths.groupby("variant", sort=False)[["words_added", "gain"]].mean().iterrows():
        means.plot(words, gain, ls="", marker=VARIANT_STYLE[variant].marker, color=COLORS[variant], ms=9, mec="white")
    means.set_title("mean of each variant")
    for axes in panels.flat[len(variants) + 1:]:
        axes.set_axis_off()
    for axes in panels.flat:
        axes.axhline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("words added to the prefix")
    figure.supylabel(f"{judge}: gain over the prefix")
    return figure


def _length_panel(axes: Axes, lengths: pd.DataFrame, jitter: np.ndarray, variant: str) -> None:
    words, gain = lengths["words_added"], lengths["gain"]
    axes.scatter(words + jitter, gain, s=9, alpha=0.4, lw=0, color=COLORS[variant],
                 marker=VARIANT_STYLE[variant].marker)
    note = "no line: one length"
    if words.nunique() > 1:
        slope, start = np.polyfit(words, gain, 1)
        ends = np.array([words.min(), words.max()])
        axes.plot(ends, start + slope * ends, color=INK, lw=1.8)
        note = f"{slope:+.2f} a word"
    axes.annotate(note, (0.97, 0.04), xycoords="axes fraction", ha="right", weight="bold")
    axes.set_title(variant, color=COLORS[variant], weight="bold")


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


@styled
def tradeoffs(found: pd.DataFrame, judge: str, faithful: str) -> Figure:
    """Draw each variant's gain against its faithfulness and against its variety, with intervals (`tradeoffs`).

    `faithful` says what the faithfulness is.
    """
    figure, panels = new_figure(10.5, 4.4, 1, 2, sharey=True)
    labels = {"faithfulness": faithful, "entropy": "variety: entropy of the modifiers, in bits"}
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        for row in found.to_dict("records"):
            x, y, (color, marker) = row[name], row["gain"], style_of(row["variant"])
            axes.plot((row[f"{name}_low"], row[f"{name}_high"]), (y, y), color=color, lw=1.6)
            axes.plot((x, x), (row["gain_low"], row["gain_high"]), color=color, lw=1.6)
            axes.plot(x, y, ls="", marker=marker, color=color, ms=9, mec="white", mew=0.8, label=row["variant"])
        axes.axhline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set(xlabel=label)
    panels[0].set_ylabel(f"quality: {judge}'s gain over the prefix")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def example_sheet(groups: Mapping[str, Sequence[str]], variant: str, prompts: Mapping[str, str],
                  pictures: Mapping[str, Sequence], gain: Mapping[str, float]) -> Figure:
    """Draw the prefix's picture above the variant's, a column an example, with prefix, gain and the words added.

    `groups` maps "best" and the like to prefixes; `pictures` has as many for "prefix" and for the variant.
    """
    prefixes = [prefix for chosen in groups.values() for prefix in chosen]
    added = [f"{gain[prefix]:+.2f}  {prompts[prefix].removeprefix(prefix).lstrip(', ')}" for prefix in prefixes]
    return picture_sheet([*pictures["prefix"], *pictures[variant]], [*prefixes, *added], len(prefixes),
                         column_titles=[name for name, chosen in groups.items() for _ in chosen],
                         row_titles=["prefix", variant])


def _numbers(counts: pd.Series) -> str:
    """Return one number, or the smallest and the largest."""
    return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def _title(judge: str, paid: str) -> str:
    return f"{judge} (paid)" if judge == paid else judge


def _bar(axes: Axes, place: int, interval: tuple[float, ...], color: str, marker: str = "o", text: str = "{:+.2f}"
         ) -> None:
    mean, low, high = interval
    axes.plot((low, high), (place, place), color=color, lw=2.6, solid_capstyle="round")
    axes.plot(mean, place, marker=marker, color=color, ms=8, mec="white", mew=0.8)
    axes.annotate(text.format(mean), (mean, place), (0, 8), textcoords="offset points", ha="center", fontsize=8.5)


def _interval(axes: Axes, place: int, interval: tuple[float, ...], variant: str, text: str = "{:+.2f}") -> None:
    _bar(axes, place, interval, *style_of(variant), text)


def _color_labels(axes: Axes) -> None:
    for label in axes.get_yticklabels():
        label.set(color=COLORS.get(label.get_text().partition(" (")[0], INK), weight="bold")
