"""Ledger: gains worked by hand, interactions, judges that fail, and intervals that cover."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from npkit.errors import NpkitError
from npkit.findings.ledger import gain_over_prefix, make_ledger, mean_over_pictures, readable
from npkit.findings.stats import Interval
from npkit.text import keywords

WORDS = keywords.load("npkit/glyphworld/keywords.toml")
WORTH = {"moody": 1.0, "8k": -0.5, "oil painting": 2.0}


def added(prompt: str, seed: int) -> float:
    """Worths that add up, with noise that all texts of a seed share: it cancels."""
    return 10 * seed + sum(worth for word, worth in WORTH.items() if word in prompt)


def best(prompt: str, seed: int) -> float:
    """The best word counts alone: the others stand in for it."""
    return max((worth for word, worth in WORTH.items() if word in prompt), default=0.0)


def both(prompt: str, seed: int) -> float:
    """Worth something with two words alone, and more from one seed than from another."""
    return 1.0 + 0.1 * (seed % 3) if "moody" in prompt and "oil painting" in prompt else 0.0


def fails(prompt: str, seed: int) -> float:
    raise ZeroDivisionError("no light")


def scorer_of(**judges) -> SimpleNamespace:
    """Return what the ledger needs of a Scorer, with judges that are functions of (prompt, seed)."""
    painted = []

    def scores(prefixes, prompts, seed, names):
        return {name: torch.tensor([judges[name](prompt, seed) for prompt in prompts]) for name in names}

    return SimpleNamespace(known=lambda names: list(judges if names is None else names), scores=scores,
                           fill=lambda cases, names: painted.extend(cases), painted=painted)


def test_gains_are_those_worked_by_hand():
    scorer = scorer_of(added=added)
    ledger = make_ledger(scorer, "a fox", "a fox, moody, 8k, oil painting", WORDS, range(8))
    assert {entry.modifier.text: entry.gains["added"].mean for entry in ledger.entries} == WORTH
    assert ledger.total["added"] == Interval(2.5, 2.5, 2.5, 8) and ledger.interaction["added"].mean == 0
    assert len(scorer.painted) == 5 * 8 and ledger.notes == []
    assert [entry.without for entry in ledger.entries][1] == "a fox, moody, oil painting"
    table = ledger.table()
    assert table["modifier"].tolist() == ["moody", "8k", "oil painting", "all together", "sum minus all together"]
    assert table["added"][1] == "-0.50 [-0.50, -0.50]" and table["category"][0] == "vibe"


def test_gains_that_do_not_add_up_are_noted():
    ledger = make_ledger(scorer_of(best=best, both=both, added=added), "a fox", "a fox, moody, oil painting", WORDS,
                         range(8))
    assert [entry.gains["best"].mean for entry in ledger.entries] == [0.0, 1.0]
    instead, together = ledger.notes
    assert instead == ("best: single gains add up to +1.00, all together bring +2.00: without one modifier, others do "
                       "a part of its work")
    assert together.startswith("both: single gains add up to +2.18, all together bring +1.09")
    assert ledger.interaction["both"].low > 0


def test_one_modifier_is_the_whole():
    ledger = make_ledger(scorer_of(added=added), "a fox", "a fox, moody", WORDS, range(3))
    assert ledger.entries[0].gains == ledger.total and ledger.entries[0].without == "a fox"
    assert ledger.table()["modifier"].tolist() == ["moody", "all together"]


def test_nothing_is_painted_where_nothing_was_added():
    scorer = scorer_of(added=added)
    ledger = make_ledger(scorer, "a fox", "a fox", WORDS, range(8))
    assert ledger.entries == () and scorer.painted == [] and ledger.to_dict()["modifiers"] == []


def test_a_judge_that_fails_costs_no_other():
    ledger = make_ledger(scorer_of(added=added, dark=fails), "a fox", "a fox, moody", WORDS, range(3))
    assert list(ledger.total) == ["added"] and ledger.failed == {
        "dark": "the judge dark failed: ZeroDivisionError: no light"}
    for judges in ({"dark": 1.0}, {"added": 1.0, "dark": 1.0}):  # the decision needs each of them
        with pytest.raises(NpkitError, match="the judge dark failed: ZeroDivisionError: no light"):
            gain_over_prefix(scorer_of(added=added, dark=fails), "a fox", "a fox, moody", judges, range(3))
    with pytest.raises(NpkitError, match="no light"):
        make_ledger(scorer_of(dark=fails), "a fox", "a fox, moody", WORDS, range(3))


def test_paid_judges_are_weighed():
    gain = gain_over_prefix(scorer_of(added=added, best=best), "a fox", "a fox, moody, 8k", {"added": 2, "best": -1.0},
                            range(4))
    assert gain == Interval(0.0, 0.0, 0.0, 4)


def test_the_interval_is_students_t():
    values = [1.0, 2.0, 4.0, 5.0]
    half = 3.182446 * np.std(values, ddof=1) / 2  # t of 3 degrees of freedom at 97.5 %, from a table
    found = mean_over_pictures(values)
    assert (found.mean, found.n) == (3.0, 4) and found[1:3] == pytest.approx((3 - half, 3 + half), abs=1e-5)
    with pytest.raises(NpkitError, match="at least two picture seeds, got 1"):
        mean_over_pictures([1.0])


def test_the_interval_covers():
    """Skewed gains of 8 pictures, as a judge's are: 93 to 97 % of the intervals hold the mean."""
    rng = np.random.default_rng(0)
    found = [mean_over_pictures(values) for values in rng.gamma(9, 1, (2000, 8))]
    assert 0.93 < np.mean([each.low <= 9 <= each.high for each in found]) < 0.97


def test_no_minus_before_nothing():
    assert readable(Interval(-0.001, -0.004, 0.002, 8)) == "+0.00 [0.00, 0.00]"
