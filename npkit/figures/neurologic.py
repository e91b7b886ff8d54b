"""Figures of notebook 05_neurologic_decoding: states of phrases, bans, the bound, and what clauses cost."""
from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, styled

COLOR, OTHER, FREE = (VARIANT_STYLE[variant].color for variant in ("sft+nl", "ppo+nl", "sft+beam"))
SHADE, WARN = "#D9ECF7", "#FBE3D6"  # fill of what is complete, and of what is forbidden
State = tuple[str, ...]


# 1. States -----------------------------------------------------------------------------------------------------------
@styled
def states(phrases: Sequence[State]) -> Figure:
    """Draw the automaton of `phrases`: boxes say what is written, arrows the next word, dashed arrows the other phrase
    that a complete one has already begun.
    """
    places: dict[State, tuple[float, float]] = {(): (0, -(len(phrases) - 1) / 2)}
    for row, phrase in enumerate(phrases):
        places |= {phrase[:end]: (end, -row) for end in range(1, len(phrase) + 1) if phrase[:end] not in places}
    figure, axes = new_figure(2.3 * max(map(len, phrases)) + 1.6, 1.0 * len(phrases) + 0.1)
    boxes = {state: axes.text(x, y, " ".join(state) or "nothing\nbegun", ha="center", va="center", zorder=3,
                              weight="bold" if state in phrases else "normal",
                              bbox={"boxstyle": "round,pad=0.45", "fc": SHADE if state in phrases else "white",
                                    "ec": COLOR if state else INK})
             for state, (x, y) in places.items()}
    axes.set(xlim=(-0.35, max(map(len, phrases)) + 0.4), ylim=(-len(phrases) + 0.65, 0.35))
    axes.set_axis_off()
    for state in filter(None, places):
        _arrow(axes, boxes[state[:-1]], boxes[state], state[-1], COLOR)
        fallback = next(state[start:] for start in range(1, len(state) + 1) if state[start:] in places)
        if fallback:
            _arrow(axes, boxes[state], boxes[fallback], "read as", OTHER, ls="--")
    return figure


def _arrow(axes: Axes, start, end, label: str, color: str, ls: str = "-") -> None:
    """An arrow from the border of one box to the border of another, with a word beside it."""
    axes.annotate("", end.get_position(), start.get_position(), zorder=4, arrowprops={
        "arrowstyle": "-|>", "color": color, "ls": ls, "lw": 1.4, "mutation_scale": 14, "shrinkA": 2, "shrinkB": 2,
        "patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()})
    (x, y), (other_x, other_y) = start.get_position(), end.get_position()
    axes.annotate(label, ((x + other_x) / 2, (y + other_y) / 2), (0, 4), textcoords="offset points", ha="center",
                  va="bottom", fontsize=9, color=color, zorder=5,
                  bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"} if y != other_y else None)


# 2. Bans -------------------------------------------------------------------------------------------------------------
@styled
def spellings(rows: Sequence[Sequence[str]], by_tokens: Sequence[bool], by_letters: Sequence[bool]) -> Figure:
    """Draw spellings of one word, a row each, as boxes of tokens; say which of them each kind of ban stops."""
    length = max(sum(map(len, row)) for row in rows)
    figure, axes = new_figure(0.42 * length + 3.9, 0.52 * len(rows) + 0.75)
    for place, row in enumerate(rows):
        left = 0
        for token in row:
            axes.barh(-place, len(token) - 0.12, left=left + 0.06, height=0.66, edgecolor=COLOR, zorder=2,
                      facecolor=WARN if by_tokens[place] else "white")
            axes.text(left + len(token) / 2, -place, token.replace(" ", "␣"), ha="center", va="center", zorder=3,
                      fontsize=11)
            left += len(token)
        for x, stopped in ((length + 1.9, by_tokens[place]), (length + 5.4, by_letters[place])):
            axes.text(x, -place, "stopped" if stopped else "written", ha="center", va="center",
                      weight="normal" if stopped else "bold", color=INK if stopped else OTHER)
    for x, title in ((length / 2, "the tokens"), (length + 1.9, "ban on tokens"), (length + 5.4, "ban on letters")):
        axes.text(x, 0.85, title, ha="center", va="center", weight="bold")
    axes.set(xlim=(-0.1, length + 7.2), ylim=(-len(rows) + 0.5, 1.2))
    axes.set_axis_off()
    return figure


# 3. The bound --------------------------------------------------------------------------------------------------------
@styled
def bound(candidates: pd.DataFrame, limit: int) -> Figure:
    """Draw how many words candidates still need, against the words written; above the line it is too late.

    `candidates` has columns `written` and `needed`, a row per candidate.
    """
    counts = candidates.value_counts(["written", "needed"]).reset_index(name="count")
    late = counts["needed"] > limit - counts["written"]
    figure, axes = new_figure(6.4, 3.4)
    axes.plot([0, limit], [limit, 0], color=INK, lw=1.3, zorder=1)
    axes.text(0.25, limit - 0.05, "words left", color=INK, fontsize=9.5, va="bottom")
    for rows, color, marker, label in ((counts[~late], COLOR, "o", "in time"),
                                       (counts[late], OTHER, "X", "too late: dropped by the bound")):
        axes.scatter(rows["written"], rows["needed"], s=60, color=color, marker=marker, zorder=3, label=label)
        for each in rows.itertuples():
            axes.annotate(str(each.count), (each.written, each.needed), (6, 3), textcoords="offset points",
                          fontsize=8.5, color=color)
    axes.set(xlabel="words written", ylabel="words needed", xlim=(0, limit + 0.5), ylim=(-0.35, limit + 0.5),
             xticks=range(limit + 1), yticks=range(limit + 1))
    axes.legend(loc="upper right")
    return figure


# 4. What clauses cost ------------------------------------------------------------------------------------------------
@styled
def price(costs: pd.DataFrame) -> Figure:
    """Draw what texts lose by more and more clauses, beside the best texts of as many tokens without any.

    `costs` has columns `clauses`, `logprob` (under the clauses) and `free` (best of the same length), a row per prefix
    and number of clauses; bars are 95 % intervals.
    """
    figure, (both, paid) = new_figure(8.4, 3.3, 1, 2)
    for column, color, marker, label in (("free", FREE, VARIANT_STYLE["sft+beam"].marker, "no clause, same length"),
                                         ("logprob", COLOR, VARIANT_STYLE["sft+nl"].marker, "under the clauses")):
        sns.pointplot(costs, x="clauses", y=column, color=color, marker=marker, markersize=5, linewidth=1.6, seed=0,
                      label=label, ax=both)
    both.set(xlabel="categories required", ylabel="log-probability, nats")
    both.legend(loc="lower left")
    sns.pointplot(costs.assign(price=costs["free"] - costs["logprob"]), x="clauses", y="price", color=INK, markersize=5,
                  linewidth=1.6, seed=0, ax=paid)
    paid.axhline(0, color=MUTED, lw=1, ls="--")
    paid.set(xlabel="categories required", ylabel="price at equal length, nats")
    return figure


@styled
def shares(shares_by_variant: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw for each category the share of prompts that use it, a bar per variant."""
    table = pd.DataFrame(shares_by_variant).rename_axis("category").reset_index()
    table = table.melt("category", var_name="variant", value_name="share")
    palette = {variant: VARIANT_STYLE[variant].color for variant in shares_by_variant}
    figure, axes = new_figure(8, 2.8)
    sns.barplot(table, x="category", y="share", hue="variant", palette=palette, ax=axes)
    axes.set(xlabel="", ylabel="share of prompts", ylim=(0, 1.03))
    axes.legend(ncols=len(palette), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
