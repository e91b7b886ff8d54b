"""Figures of notebook 02_sft: the learning curve, the surprise of each token, what sampled prompts are made of."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from npkit.figures.base import MUTED, VARIANT_STYLE, Figure, label_tokens, new_figure, styled

SFT, BEFORE = VARIANT_STYLE["sft"], VARIANT_STYLE["prefix"]
TRAINING, VALIDATION = VARIANT_STYLE["sft+nl"].color, VARIANT_STYLE["ppo+nl"].color


@styled
def learning_curve(rows: pd.DataFrame, references: Mapping[str, float]) -> Figure:
    """Draw the training loss by step, the last loss on validation, and lines to compare them with (name -> loss)."""
    figure, axes = new_figure(7.6, 3.4)
    losses = rows.dropna(subset="train/loss")
    axes.plot(losses["step"], losses["train/loss"], color=SFT.color, alpha=0.35, lw=0.8)
    smooth = losses["train/loss"].ewm(span=12).mean()
    axes.plot(losses["step"], smooth, color=TRAINING, lw=2, label="training, smoothed")
    if "eval/loss" in rows:
        last = rows.dropna(subset="eval/loss").iloc[-1]
        axes.plot(last["step"], last["eval/loss"], color=VALIDATION, marker="D", ls="none", zorder=3,
                  label=f"validation, at the end: {last['eval/loss']:.2f}")
    for name, loss in references.items():
        mark_level(axes, name, loss)
    axes.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, None))
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.9))
    return figure


def mark_level(axes: Axes, name: str, loss: float) -> None:
    """Draw a dashed line at a loss, its name beside the axes."""
    axes.axhline(loss, color=MUTED, lw=1, ls="--", zorder=1)
    axes.annotate(f"{name}\n{loss:.2f}", (1.01, loss), xycoords=("axes fraction", "data"), ha="left", va="center",
                  fontsize=8.5, color=MUTED)


@styled
def small_trainings(table: pd.DataFrame, references: Mapping[str, float]) -> Figure:
    """Draw the loss on training and validation by step, a panel a corpus (columns corpus, part, step, loss)."""
    corpora = list(table["corpus"].unique())
    figure, panels = new_figure(7.6, 3.2, 1, len(corpora), sharey=True, squeeze=False)
    for axes, name in zip(panels[0], corpora):
        for part, color, marker in (("training", TRAINING, "o"), ("validation", VALIDATION, "D")):
            rows = table[(table["corpus"] == name) & (table["part"] == part)]
            axes.plot(rows["step"], rows["loss"], color=color, marker=marker, ms=4, lw=1.6, label=part)
        axes.set(title=name, xlabel="step")
    for name, loss in references.items():
        for axes in panels[0]:
            axes.axhline(loss, color=MUTED, lw=1, ls="--", zorder=1)
        panels[0][-1].annotate(f"{name} {loss:.2f}", (0.99, loss), xycoords=("axes fraction", "data"), ha="right",
                               va="bottom", fontsize=8.5, color=MUTED)
    panels[0][0].set(ylabel="loss (nats a token)", ylim=(0, None))
    panels[0][0].legend(loc="lower left")
    return figure


@styled
def token_surprise(tokens: Sequence[str], surprise: Mapping[str, Sequence[float]]) -> Figure:
    """Draw each token's negative log-probability under several policies (name -> nats, one a token)."""
    figure, axes = new_figure(max(5, 0.42 * len(tokens) + 1.5), 3)
    places = np.arange(len(tokens))
    for (name, values), style in zip(surprise.items(), (BEFORE, SFT)):
        axes.plot(places, values, color=style.color, marker=style.marker, lw=1.5, label=name)
    axes.set(ylabel="surprise (nats)", ylim=(0, None))
    label_tokens(axes, tokens)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


@styled
def temperatures(table: pd.DataFrame) -> Figure:
    """Draw how varied and how likely samples are by temperature (columns temperature, num_words, surprise)."""
    figure, panels = new_figure(7, 3, 1, 2)
    labels = {"num_words": "different words in all completions", "surprise": "mean surprise (nats a completion)"}
    for axes, (column, label) in zip(panels, labels.items()):
        axes.plot(table["temperature"], table[column], color=SFT.color, marker=SFT.marker)
        axes.set(xlabel="temperature", ylabel=label, ylim=(0, 1.05 * table[column].max()))
    return figure
