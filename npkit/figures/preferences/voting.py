"""Voting: who wins how often, how strong each variant is, how far raters and judges agree.

Tables come by the name of those who voted, such as "simulated public": the legend says who they are.
"""
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from npkit.figures.base import MUTED, VARIANT_STYLE, Figure, new_figure, style_of, styled
from npkit.preferences.pairs import QUESTIONS

CAST_STYLES = tuple(VARIANT_STYLE[name] for name in ("sft+nl", "ppo+nl", "human", "prefix"))  # of those who voted
MEETING_LABEL = "win rate of the first variant in % (a tie counts half), 95 % interval over prefixes"


@styled
def win_rates(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw each meeting's win rate with its interval, a panel a question (`analysis.win_rates`)."""
    meetings, questions = _in_order(tables, "meeting"), _in_order(tables, "question")
    figure, panels = new_figure(2 + 3.9 * len(questions), 1 + 0.36 * len(meetings), 1, len(questions), sharex=True,
                                sharey=True, squeeze=False)
    for axes, question in zip(panels.flat, questions, strict=True):
        _rows_of_casts(axes, tables, question, "meeting", meetings, "rate")
        as_shares(axes, QUESTIONS.get(question, question))
        axes.axvline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
    _legend(figure, panels.flat[0], len(tables))
    figure.supxlabel(MEETING_LABEL)
    return figure


@styled
def strengths(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the Bradley-Terry strength of each variant by both questions, a panel those who voted, with intervals."""
    figure, panels = new_figure(0.6 + 3.9 * len(tables), 3.6, 1, len(tables), sharex=True, sharey=True, squeeze=False)
    for axes, (cast, table) in zip(panels.flat, tables.items(), strict=True):
        wide = table.pivot(index="variant", columns="question", values=["strength", "low", "high"])
        one, other = _in_order({cast: table}, "question")[:2]
        for variant in table["variant"].unique():
            color, marker = style_of(variant)
            x, y = wide.loc[variant, ("strength", one)], wide.loc[variant, ("strength", other)]
            axes.plot(wide.loc[variant, [("low", one), ("high", one)]], (y, y), color=color, lw=1.6)
            axes.plot((x, x), wide.loc[variant, [("low", other), ("high", other)]], color=color, lw=1.6)
            axes.plot(x, y, ls="", marker=marker, color=color, ms=9, mec="white", mew=0.8, label=variant)
        axes.axhline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.axvline(0, color=MUTED, lw=1, ls="--", zorder=0)
        axes.set_title(cast)
    figure.supxlabel(f"strength: {QUESTIONS.get(one, one)}")
    figure.supylabel(QUESTIONS.get(other, other))
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def raters(agreements: Mapping[str, pd.DataFrame], biases: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw Krippendorff's alpha, the share of left and the share of ties, each with its interval."""
    panels_of = {"Krippendorff's alpha": (agreements, "alpha", ("low", "high"), 0.0),
                 "left, among the decided": (biases, "left", ("left_low", "left_high"), 0.5),
                 "ties": (biases, "ties", ("ties_low", "ties_high"), None)}
    questions = _in_order(agreements, "question")
    figure, panels = new_figure(10, 1.1 + 0.5 * len(questions), 1, 3, sharey=True)
    for axes, (title, (tables, value, ends, line)) in zip(panels, panels_of.items(), strict=True):
        _rows_of_casts(axes, tables, "", "question", questions, value, ends)
        axes.set_title(title)
        if line is not None:
            axes.axvline(line, color=MUTED, lw=1, ls="--", zorder=0)
    _legend(figure, panels[0], len(agreements))
    return figure


@styled
def judge_agreement(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how often each judge agrees with a vote, a panel a question, beside another rater (`judge_agreement`)."""
    judges, questions = _in_order(tables, "judge"), _in_order(tables, "question")
    figure, panels = new_figure(2 + 3.6 * len(questions), 1 + 0.42 * len(judges), 1, len(questions), sharex=True,
                                sharey=True, squeeze=False)
    for axes, question in zip(panels.flat, questions, strict=True):
        _rows_of_casts(axes, tables, question, "judge", judges, "agreement")
        as_shares(axes, QUESTIONS.get(question, question))
        axes.axvline(0.5, color=MUTED, lw=1, ls="--", zorder=0)
    _legend(figure, panels.flat[0], len(tables))
    figure.supxlabel("agreement with a vote in % (a tie agrees half), 95 % interval over prefixes")
    return figure


def _rows_of_casts(axes: Axes, tables: Mapping[str, pd.DataFrame], question: str, column: str, names: Sequence[str],
                   value: str, ends: tuple[str, str] = ("low", "high")) -> None:
    """Draw an interval a name and cast, the casts of one name one below the other."""
    for number, (cast, table) in enumerate(tables.items()):
        rows = (table[table["question"] == question] if question else table).set_index(column)
        rows = rows.loc[[name for name in names if name in rows.index]]
        places = [names.index(name) + 0.22 * (number - (len(tables) - 1) / 2) for name in rows.index]
        intervals(axes, places, rows, value, ends, *CAST_STYLES[number % len(CAST_STYLES)], cast)
    axes.set(yticks=range(len(names)), yticklabels=[QUESTIONS.get(name, name) for name in names],
             ylim=(len(names) - 0.4, -0.6))
    axes.grid(False, axis="y")


def intervals(axes: Axes, places: Sequence[float], rows: pd.DataFrame, value: str, ends: tuple[str, str], color: str,
               marker: str, label: str) -> None:
    axes.hlines(list(places), rows[ends[0]], rows[ends[1]], color=color, lw=2.2)
    edge = color if marker == "|" else "white"
    axes.plot(rows[value], list(places), ls="", marker=marker, color=color, ms=7, mec=edge, label=label)


def as_shares(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")


def _legend(figure: Figure, axes: Axes, number: int) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=number)


def _in_order(tables: Mapping[str, pd.DataFrame], column: str) -> list[str]:
    """Return the values of a column in the order of their first coming."""
    return list(dict.fromkeys(name for table in tables.values() for name in table[column]))
