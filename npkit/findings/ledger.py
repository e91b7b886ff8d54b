"""Ledger: what each modifier that the policy added bought, by leaving it out of the prompt, in every judge's eyes.

A modifier's gain is the score of the optimised prompt's picture minus the score of the picture without that modifier,
from the same picture seed. The interval of its mean is Student's t over the picture seeds: it covers the noise of the
pictures of this one prompt, and neither other prompts nor another training.
"""
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from npkit.errors import NpkitError
from npkit.findings.intervals import interval
from npkit.findings.stats import Interval
from npkit.text.keywords import Keywords
from npkit.text.modifiers import Modifier, added_modifiers, without

if TYPE_CHECKING:
    from npkit.scoring.rewards import Scorer  # for type hints only: it imports diffusers, which takes seconds

NUM_PICTURES = 8  # picture seeds behind an interval, where the user names no number
DECIMALS = 5  # of a score, as `npkit.scoring.rewards` rounds it


@dataclass(frozen=True)
class Entry:
    """What one modifier bought: the prompt without it, and the gain by each judge."""
    modifier: Modifier
    without: str
    gains: Mapping[str, Interval]


@dataclass(frozen=True)
class Ledger:
    """What every modifier of one optimised prompt bought, and all of them together.

    `interaction` is the sum of the single gains minus the total gain, paired by picture seed: 0 where the modifiers'
    gains add up. `failed` says why a judge has no gains here.
    """
    prefix: str
    prompt: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    total: Mapping[str, Interval]
    interaction: Mapping[str, Interval]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """One sentence for each judge whose single gains do not add up to the total, as far as the interval tells."""
        return [note for judge in self.interaction if (note := self._note(judge))]

    def _note(self, judge: str) -> str:
        extra, total = self.interaction[judge], self.total[judge]
        if len(self.entries) < 2 or extra.low <= 0 <= extra.high:
            return ""
        why = ("without one modifier, others do a part of its work" if extra.mean < 0 else
               "without one modifier, others bring less than with it")
        return (f"{judge}: single gains add up to {extra.mean + total.mean:+.2f}, all together bring "
                f"{total.mean:+.2f}: {why}")

    def table(self) -> pd.DataFrame:
        """Return the ledger as people read it: a row a modifier, then the total, "gain [95 %]" in a column a judge."""
        rows = [(entry.modifier.label, entry.modifier.category or "-",
                 *(readable(gain) for gain in entry.gains.values())) for entry in self.entries]
        rows.append(("all together", "", *(readable(gain) for gain in self.total.values())))
        if len(self.entries) > 1:
            rows.append(("sum minus all together", "", *(readable(extra) for extra in self.interaction.values())))
        return pd.DataFrame(rows, columns=["modifier", "category", *self.total])

    def to_dict(self) -> dict:
        """Return the ledger as JSON types."""
        modifiers = [{"modifier": entry.modifier.text, "category": entry.modifier.category or None,
                      "count": entry.modifier.count, "completes_own_words": entry.modifier.completes_own_words,
                      "without": entry.without, "gain": as_json(entry.gains)} for entry in self.entries]
        return {"prompt": self.prompt, "picture_seeds": list(self.seeds), "modifiers": modifiers,
                "total": as_json(self.total), "interaction": as_json(self.interaction), "notes": self.notes,
                "failed": dict(self.failed)}


def make_ledger(scorer: "Scorer", prefix: str, prompt: str, keywords: Keywords, seeds: Sequence[int]) -> Ledger:
    """Return the ledger of `prompt`, which a policy made of `prefix`; nothing is painted where it added no modifier.

    Every text is painted from each of `seeds`. A judge that fails on one of the pictures is left out and named in
    `failed`; it raises where every judge fails.
    """
    modifiers = added_modifiers(prefix, prompt, keywords)
    if not modifiers:
        return Ledger(prefix, prompt, tuple(seeds), (), {}, {})
    texts = [prefix, prompt, *(without(prefix, prompt, keywords, modifier) for modifier in modifiers)]
    scores, failed = scores_by_seed(scorer, prefix, texts, seeds)
    singles = {judge: rows[1] - rows[2:] for judge, rows in scores.items()}  # (modifiers, seeds)
    totals = {judge: rows[1] - rows[0] for judge, rows in scores.items()}    # (seeds,)
    entries = tuple(Entry(modifier, text, {judge: mean_over_pictures(rows[number]) for judge, rows in singles.items()})
                    for number, (modifier, text) in enumerate(zip(modifiers, texts[2:], strict=True)))
    return Ledger(prefix, prompt, tuple(seeds), entries,
                  {judge: mean_over_pictures(total) for judge, total in totals.items()},
                  {judge: mean_over_pictures(singles[judge].sum(0) - total) for judge, total in totals.items()}, failed)


def scores_by_seed(scorer: "Scorer", prefix: str, texts: Sequence[str], seeds: Sequence[int],
                   judges: Sequence[str] | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return each judge's scores (texts, seeds), and why the judges have none that failed on one of the pictures.

    All pictures are painted in as few batches as the image model takes. Raises where every judge fails.
    """
    from npkit.scoring.rewards import Case
    names, failed, found = scorer.known(judges), {}, {}
    cases = [Case(prefix, text, seed) for seed in seeds for text in texts]
    with suppress(Exception):  # asked one by one below, each judge says for itself what is wrong
        scorer.fill(dict.fromkeys(cases), names)
    for name in names:
        try:
            columns = [scorer.scores([prefix] * len(texts), texts, seed, [name])[name].double() for seed in seeds]
            found[name] = np.stack([column.numpy() for column in columns], axis=1)
        except Exception as error:  # noqa: BLE001 (a judge of the user's may raise anything)
            failed[name] = str(error) if isinstance(error, NpkitError) else (
                f"the judge {name} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if not found:
        raise NpkitError(next(iter(failed.values())))
    return found, failed


def gain_over_prefix(scorer: "Scorer", prefix: str, prompt: str, weights: Mapping[str, float], seeds: Sequence[int]
                     ) -> Interval:
    """Return the gain of `prompt` over `prefix` by one judge, or by several weighed, with its interval over pictures.

    Raises where one of the judges fails on a picture.
    """
    scores, failed = scores_by_seed(scorer, prefix, [prefix, prompt], seeds, list(weights))
    if failed:
        raise NpkitError(next(iter(failed.values())))
    return mean_over_pictures(sum(weight * (scores[judge][1] - scores[judge][0]) for judge, weight in weights.items()))


def paid_name(weights: Mapping[str, float]) -> str:
    """Return the name of the paid judge, or the sum of several, weighed."""
    return next(iter(weights)) if len(weights) == 1 else " + ".join(f"{weight:g} {name}"
                                                                    for name, weight in weights.items())


def mean_over_pictures(differences: ArrayLike) -> Interval:
    """Return the mean of one number a picture seed with its interval by Student's t; raise for fewer than two."""
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        raise NpkitError(f"an interval over pictures needs at least two picture seeds, got {len(values)}")
    return interval(values.round(DECIMALS))  # as exact as scores are: equal ones, as of a judge of texts, stay equal


def readable(gain: Interval) -> str:
    """Return a gain with its interval as people read it, such as "+0.51 [0.30, 0.72]"."""
    mean, low, high = (round(number, 2) + 0.0 for number in gain[:3])  # + 0.0: no "-0.00"
    return f"{mean:+.2f} [{low:.2f}, {high:.2f}]"


def as_json(gains: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Return gains as JSON types: by judge the mean and the ends of its interval."""
    return {judge: interval_as_json(gain) for judge, gain in gains.items()}


def interval_as_json(gain: Interval) -> dict[str, float]:
    """Return a gain as JSON types."""
    return {"mean": round(gain.mean, 5), "low": round(gain.low, 5), "high": round(gain.high, 5), "n": gain.n}
