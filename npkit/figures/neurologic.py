"""Figures of notebook 05_neurologic_decoding: states of phrases, and what clauses cost."""
from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from npkit.figures.base import INK, VARIANT_STYLE, Figure, new_figure, styled

COLOR, RETURN = VARIANT_STYLE["sft+nl"].color, VARIANT_STYLE["ppo+nl"].color
State = tuple[str, ...]


@styled
def states(phrases: Sequence[State]) -> Figure:
    """Draw the automaton of `phrases`: boxes say what is written, arrows add a word, dashed arrows fall back to an end
    of it that begins another phrase.
    """
    places: dict[State, tuple[float, float]] = {(): (0, -(len(phrases) - 1) / 2)}
    for row, phrase in enumerate(phrases):
        places |= {phrase[:end]: (end, -row) for end in range(1, len(phrase) + 1) if phrase[:end] not in places}
    figure, axes = new_figure(2.6 * max(map(len, phrases)) + 2, 1.3 * len(phrases) + 0.9)
    for state in places:
        if state:
            _arrow(axes, places[state[:-1]], places[state], color=COLOR)
            fallback = next(state[start:] for start in range(1, len(state) + 1) if state[start:] in places)
            if fallback:
                _arrow(axes, places[state], places[fallback], color=RETURN, ls="--", curve=-0.25)
    for state, (x, y) in places.items():
        done = state in phrases
        axes.text(x, y, " ".join(state) or "nothing", ha="center", va="center", weight="bold" if done else "normal",
                  bbox={"boxstyle": "round,pad=0.45", "fc": "#D9ECF7" if done else "white",
                        "ec": COLOR if state else INK})
    axes.set(xlim=(-0.5, max(map(len, phrases)) + 0.5), ylim=(-len(phrases) + 0.45, 0.55))
    axes.set_axis_off()
    return figure


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, ls: str = "-",
           curve: float = 0.0) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "ls": ls, "lw": 1.4, "shrinkA": 24,
                                              "shrinkB": 24, "connectionstyle": f"arc3,rad={curve}"})


@styled
def price(costs: pd.DataFrame, human_counts: Sequence[int]) -> Figure:
    """Draw how many categories people use, and the log-probability of completions that must use the first few.

    `costs` has columns `clauses` and `logprob`, a row per prefix and number of clauses; bars are 95 % intervals.
    """
    figure, (people, paid) = new_figure(8, 3, 1, 2)
    shares = pd.Series(human_counts).value_counts(normalize=True).reindex(range(7), fill_value=0)
    sns.barplot(x=shares.index, y=shares.values, color=VARIANT_STYLE["human"].color, ax=people)
    people.set(xlabel="categories in a human prompt", ylabel="share of prompts")
    sns.pointplot(costs, x="clauses", y="logprob", color=COLOR, marker=VARIANT_STYLE["sft+nl"].marker, seed=0, ax=paid)
    paid.set(xlabel="categories required", ylabel="log-probability, nats")
    return figure


@styled
def shares(shares_by_variant: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw for each category the share of prompts that use it, a bar per variant."""
    table = pd.DataFrame(shares_by_variant).rename_axis("category").reset_index()
    table = table.melt("category", var_name="variant", value_name="share")
    palette = {variant: VARIANT_STYLE[variant].color for variant in shares_by_variant}
    figure, axes = new_figure(8, 2.8)
    sns.barplot(table, x="category", y="share", hue="variant", palette=palette, ax=axes)
    axes.set(xlabel="", ylabel="share of prompts")
    axes.legend(ncols=len(palette), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
