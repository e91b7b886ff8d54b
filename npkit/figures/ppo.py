"""Figures of notebook 04_ppo: a bandit, credit token by token, clipping, the curves of trainings, seeds compared."""
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, label_tokens, new_figure, picture_sheet, styled
from npkit.figures.lettering import wrap
from npkit.findings.across_seeds import mean_over_seeds

COLOR = VARIANT_STYLE["ppo"].color
GOOD, BAD = VARIANT_STYLE["human"].color, VARIANT_STYLE["ppo+nl"].color
OWN = VARIANT_STYLE["sft+nl"].color  # the student's loop, where the kit's stands beside it
CURVES = {"objective/score": "score: gain over the prefix", "objective/kl": "KL to SFT, nats an episode",
          "policy/entropy": "entropy, nats a token", "value/explained_variance": "explained variance of the critic",
          "policy/clipfrac": "clip fraction"}
SEEDS = Path(__file__).parents[2] / "figures" / "04_seeds.csv"  # seed, judge, difference, low, high: ppo - sft


@styled
def bandit(estimates: Mapping[str, np.ndarray], exact: float, curves: Mapping[str, np.ndarray], best: float) -> Figure:
    """Draw how far estimates of one gradient scatter, and the expected gains (runs, steps) of several trainings."""
    figure, (spread, learning) = new_figure(9, 3.1, 1, 2)
    bins = np.histogram_bin_edges(np.concatenate([*estimates.values()]), 40)
    for (name, found), color in zip(estimates.items(), (BAD, GOOD), strict=True):
        spread.hist(found, bins, color=color, alpha=0.6, label=name)
        learning.plot(curves[name].T, color=color, lw=0.7, alpha=0.35)
        learning.plot(curves[name].mean(0), color=color, lw=2.6, label=name)
    spread.axvline(exact, color=INK, lw=1.2, ls="--", label="exact")
    spread.set(title=f"one gradient, estimated {len(found)} times", xlabel="estimate, third logit", ylabel="estimates")
    learning.axhline(best, color=MUTED, lw=1, ls="--")
    learning.set(title="trainings, thin, and their mean", xlabel="step", ylabel="expected gain")
    spread.legend(loc="upper left")
    learning.legend(loc="lower right")
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
def clipping(cliprange: float) -> Figure:
    """Draw PPO's objective over the probability ratio, for an action better and one worse than expected."""
    ratio = np.linspace(0.4, 1.6, 200)
    figure, panels = new_figure(7.6, 2.8, 1, 2, sharex=True)
    for axes, advantage, words in zip(panels, (1, -1), ("better", "worse"), strict=True):
        clipped = np.minimum(advantage * ratio, advantage * ratio.clip(1 - cliprange, 1 + cliprange))
        flat = np.isclose(np.gradient(clipped), 0)
        axes.plot(ratio, advantage * ratio, color=MUTED, lw=1, ls="--", label="without the clip")
        axes.plot(ratio, clipped, color=COLOR, lw=2.4, label="with it")
        axes.axvspan(ratio[flat].min(), ratio[flat].max(), color=COLOR, alpha=0.12, lw=0, label="no gradient")
        axes.axvline(1, color=INK, lw=0.8)
        axes.set(title=f"{words} than expected: advantage {advantage:+d}", xlabel="ratio: new / old probability")
    panels[0].set_ylabel("objective (minus the loss)")
    panels[0].legend(loc="upper left")
    return figure


@styled
def stopped_tokens(ratios: np.ndarray, advantages: np.ndarray, stopped: np.ndarray, cliprange: float) -> Figure:
    """Draw every token of a rollout by ratio and advantage; shaded is where the clipped loss has no gradient.

    Ratios beyond the axis, a factor of eight either way, are drawn at its ends.
    """
    figure, axes = new_figure(8.2, 3.7)
    end, top = 8, 1.15 * np.abs(advantages).max()
    axes.fill_between((1 + cliprange, 1.1 * end), 0, top, color=COLOR, alpha=0.18, lw=0)
    axes.fill_between((1 / (1.1 * end), 1 - cliprange), -top, 0, color=COLOR, alpha=0.18, lw=0)
    for chosen, color, marker, words in ((~stopped, OWN, "o", "still learns"), (stopped, BAD, "X", "has stopped")):
        axes.scatter(ratios[chosen].clip(1 / end, end), advantages[chosen], s=34, color=color, marker=marker, alpha=0.7,
                     lw=0, label=f"{words}: {chosen.sum()} tokens")
    axes.axhline(0, color=INK, lw=0.8)
    axes.axvline(1, color=INK, lw=0.8)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="ratio: new / old probability", ylabel="advantage, whitened", ylim=(-top, top),
             xlim=(1 / (1.1 * end), 1.1 * end), xticks=(0.125, 0.25, 0.5, 1, 2, 4, 8),
             xticklabels=("1/8", "1/4", "1/2", "1", "2", "4", "8"))
    axes.text(8.5, 0.97 * top, "good, and likelier already", ha="right", va="top", fontsize=9, style="italic")
    axes.text(1 / 8.5, -0.97 * top, "bad, and rarer already", va="bottom", fontsize=9, style="italic")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def loop_curves(trainings: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw score and KL of the student's loop and of the kit's trainer, which draw completions of their own."""
    figure, panels = new_figure(9, 2.9, 1, 2)
    for (name, rows), color, marker in zip(trainings.items(), (OWN, COLOR), ("o", "D"), strict=True):
        for axes, column in zip(panels, ("objective/score", "objective/kl"), strict=True):
            axes.plot(rows["update"], rows[column], color=color, marker=marker, ms=4, lw=1.8, label=name)
            axes.set(title=CURVES[column], xlabel="update")
    panels[0].axhline(0, color=MUTED, lw=1, ls="--")
    panels[0].legend(loc="lower right")
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
def before_after(prefixes: Sequence[str], prompts: Mapping[str, Sequence[str]], pictures: Mapping[str, Sequence],
                 gains: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw a row of pictures a prefix and a column a variant: what each judge's gain is, and the words added.

    `gains` has for each judge to be quoted a table with a row a prefix and a column a variant.
    """
    def caption(prefix: str, variant: str, prompt: str) -> str:
        if variant not in next(iter(gains.values())):
            return "the plain prefix: gain 0"
        quoted = "   ".join(f"{judge} {table.loc[prefix, variant]:+.2f}" for judge, table in gains.items())
        return quoted + "   " + prompt.removeprefix(prefix).lstrip(", ")

    cells = [(row, variant) for row in range(len(prefixes)) for variant in prompts]
    captions = [caption(prefixes[row], variant, prompts[variant][row]) for row, variant in cells]
    return picture_sheet([pictures[variant][row] for row, variant in cells], captions, len(prompts), size=1.9,
                         column_titles=list(prompts), row_titles=prefixes)


@styled
def seed_spread(table: pd.DataFrame) -> Figure:
    """Draw `ppo` - `sft` of each training seed with its interval over prefixes, and Student's over the seeds.

    The table has columns seed, judge, difference, low, high, a row a seed and judge; an empty one is said to be so.
    """
    judges = list(dict.fromkeys(table["judge"])) if len(table) else []
    figure, panels = new_figure(9, 3.0, 1, max(1, len(judges)), sharey=True, squeeze=False)
    if not judges:
        panels[0, 0].text(0.5, 0.5, f"{SEEDS.name} is not there yet", ha="center", transform=panels[0, 0].transAxes)
        panels[0, 0].set_axis_off()
    for axes, judge in zip(panels.flat, judges, strict=False):
        draw_seeds(axes, table[table["judge"] == judge].sort_values("seed"))
        axes.set_title(judge)
    if judges:
        figure.supxlabel("ppo - sft, 95 % interval: of a seed over test prefixes, of the mean over seeds")
    return figure


def draw_seeds(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw one judge's row a seed, and under them the mean of two or more seeds."""
    places = np.arange(len(rows))
    axes.hlines(places, rows["low"], rows["high"], color=COLOR, lw=2.4)
    axes.plot(rows["difference"], places, "D", color=COLOR, mec="white", ms=7)
    labels = [f"seed {seed}" for seed in rows["seed"]]
    if len(rows) > 1:
        mean, low, high = mean_over_seeds(rows["difference"])
        axes.hlines(len(rows), low, high, color=INK, lw=2.8)
        axes.plot(mean, len(rows), "o", color=INK, mec="white", ms=8)
        labels.append("mean")
    axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
    axes.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    axes.grid(False, axis="y")
