"""Figures of notebook 02_sft: the learning curve, the surprise of each token, what sampled prompts are made of."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from npkit.figures.base import MUTED, VARIANT_STYLE, Figure, label_tokens, new_figure, styled

SFT, BEFORE = VARIANT_STYLE["sft"], VARIANT_STYLE["prefix"]


@styled
def learning_curve(rows: pd.DataFrame, references: Mapping[str, float]) -> Figure:
    """Draw the training loss by step, its running mean, and horizontal lines to compare it with (name -> loss)."""
    figure, axes = new_figure(7, 3.4)
    losses = rows.dropna(subset="train/loss")
    axes.plot(losses["step"], losses["train/loss"], color=SFT.color, alpha=0.35, lw=0.8)
    smooth = losses["train/loss"].ewm(span=12).mean()
    axes.plot(losses["step"], smooth, color=VARIANT_STYLE["sft+nl"].color, lw=2, label="training loss, smoothed")
    for name, loss in references.items():
        axes.axhline(loss, color=MUTED, lw=1, ls="--")
        axes.annotate(f"{name} {loss:.2f}", (1, loss), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      fontsize=9, color=MUTED)
    axes.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, None))
    axes.legend(loc="lower left")
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
    figure, panels = new_figure(7, 2.8, 1, 2)
    labels = {"num_words": "different words in all completions", "surprise": "surprise of a completion (nats)"}
    for axes, (column, label) in zip(panels, labels.items()):
        axes.plot(table["temperature"], table[column], color=SFT.color, marker=SFT.marker)
        axes.set(xlabel="temperature", ylabel=label, ylim=(0, 1.05 * table[column].max()))
    return figure
