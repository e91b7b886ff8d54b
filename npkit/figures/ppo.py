"""Figures of notebook 04_ppo: clipping, the credit of each token, and the curves of a training."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, label_tokens, new_figure, styled
from npkit.figures.lettering import wrap

COLOR = VARIANT_STYLE["ppo"].color
GOOD, BAD = VARIANT_STYLE["human"].color, VARIANT_STYLE["ppo+nl"].color
CURVES = {"objective/score": "score: gain over the prefix", "objective/kl": "KL to SFT, nats an episode",
          "policy/entropy": "entropy, nats a token", "value/explained_variance": "explained variance of the critic",
          "policy/clipfrac": "clip fraction"}


@styled
def clipping(cliprange: float) -> Figure:
    """Draw PPO's objective over the probability ratio, for an action better and one worse than expected."""
    ratio = np.linspace(0.4, 1.6, 200)
    figure, panels = new_figure(7, 2.6, 1, 2, sharex=True)
    for axes, advantage, words in zip(panels, (1, -1), ("better", "worse"), strict=True):
        clipped = np.minimum(advantage * ratio, advantage * ratio.clip(1 - cliprange, 1 + cliprange))
        flat = np.isclose(np.gradient(clipped), 0)
        axes.plot(ratio, advantage * ratio, color=MUTED, lw=1, ls="--")
        axes.plot(ratio, clipped, color=COLOR, lw=2.4)
        axes.axvspan(ratio[flat].min(), ratio[flat].max(), color=COLOR, alpha=0.12, lw=0)
        axes.axvline(1, color=INK, lw=0.8)
        axes.set(title=f"{words} than expected: advantage {advantage:+d}", xlabel="new / old probability")
    panels[0].set_ylabel("objective")
    return figure


@styled
def credit(tokens: Sequence[str], rewards: Sequence[float], values: Sequence[float], advantages: Sequence[float]
           ) -> Figure:
    """Draw one completion token by token: its reward, what the critic expected (the value), and the advantage."""
    place = np.arange(len(tokens))
    figure, (paid, better) = new_figure(max(5.0, 0.55 * len(tokens)), 3.6, 2, 1, sharex=True)
    paid.bar(place, rewards, color=MUTED, width=0.7, label="reward")
    paid.plot(place, values, color=VARIANT_STYLE["sft+nl"].color, marker=".", label="value")
    paid.legend(loc="upper left", ncols=2)
    better.bar(place, advantages, width=0.7, color=np.where(np.asarray(advantages) > 0, GOOD, BAD))
    better.set(ylabel="advantage")
    label_tokens(better, tokens)
    for axes in (paid, better):
        axes.axhline(0, color=INK, lw=0.8)
        axes.grid(False, axis="x")
    return figure


@styled
def training_curves(rows: Sequence[Mapping[str, float]] | pd.DataFrame, num_updates: int,
                    samples: pd.DataFrame | None = None) -> Figure:
    """Draw the curves of `CURVES` over the updates so far, a dot each and a line through their mean, and samples.

    A metric that the algorithm does not have (GRPO and RLOO have no critic) gets no panel. `samples` has columns
    update, prefix, completion and score: the best, the middle and the worst of the last update are written out.
    """
    table = pd.DataFrame(rows)
    curves = {name: label for name, label in CURVES.items() if table.empty or name in table}
    figure, panels = new_figure(11, 4.4, 2, 3)
    for axes, (name, label) in zip(panels.flat, curves.items(), strict=False):
        if len(table):
            draw_curve(axes, table["update"], table[name])
        axes.set(title=label, xlim=(0, num_updates + 1), xlabel="update")
    for axes in panels.flat[len(curves):]:
        axes.set_axis_off()
    panels[0, 0].axhline(0, color=MUTED, lw=1, ls="--")
    if "eval/score" in table:
        panels[0, 0].plot(table["update"], table["eval/score"], "D", color=VARIANT_STYLE["sft+nl"].color, ms=5,
                          label="held-out prefixes")
        panels[0, 0].legend(loc="lower right")
    if samples is not None and len(samples):
        write_samples(panels.flat[len(curves)], samples[samples["update"] == samples["update"].max()])
    return figure


def write_samples(axes: Axes, samples: pd.DataFrame) -> None:
    """Write the best, the middle and the worst prompt of an update with their scores into an empty panel."""
    ranked = samples.sort_values("score", ascending=False, kind="stable")
    axes.set_title(f"samples of update {ranked['update'].iloc[0]}")
    for place, row in enumerate(ranked.iloc[[0, len(ranked) // 2, -1]].itertuples()):
        lines = wrap(f"{row.score:+.2f}  {row.prefix}{row.completion}", 46, max_lines=3)  # four would meet the next
        axes.text(0, 0.95 - place / 3, "\n".join(lines), va="top", fontsize=8, transform=axes.transAxes)


def draw_curve(axes: Axes, updates: pd.Series, values: pd.Series) -> None:
    """Draw the values as dots and their centred mean over five updates as a line."""
    axes.plot(updates, values, ".", color=COLOR, alpha=0.45, ms=5)
    axes.plot(updates, values.rolling(5, center=True, min_periods=1).mean(), color=COLOR, lw=2)


@styled
def judged_curves(curves: Mapping[str, Sequence[Mapping[str, float]]], name: str, label: str) -> Figure:
    """Draw one metric of several trainings over their updates."""
    figure, axes = new_figure(6, 2.8)
    for (training, rows), color in zip(curves.items(), (BAD, GOOD), strict=False):
        table = pd.DataFrame(rows)
        axes.plot(table["update"], table[name], color=color, marker=".", label=training)
    axes.set(xlabel="update", ylabel=label)
    axes.legend()
    return figure
