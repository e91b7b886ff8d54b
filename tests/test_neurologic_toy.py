"""Toy decoding: the forty lines of notebook 05, with the kit's functions and with the solutions, against `decode`."""
from types import SimpleNamespace

import anatomy
import numpy as np
import pytest
from conftest import ROOT

from npkit.findings.prices import best_of_each_length, clause_prices
from npkit.neurologic import Constraints, any_of, decode, toy
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import sequence_logprobs

PATH = ROOT / "notebooks" / "05_neurologic_decoding.ipynb"
CELLS = ("ex-clauses", "clauses-table", "ex-state", "state-walk", "04-20", "next-words", "04-24", "cost", "ex-rank",
         "rank-table", "ex-needed", "task", "needed-table", "ex-step", "search", "trace-table", "same-draw",
         "same-compare")


def lesson(mine: bool, seed: int) -> dict:
    """Run the cells of the plain decoder, with the solutions pasted in; return their names."""
    source = {cell["id"]: cell.source for cell in anatomy.solved(PATH).cells}
    names = {"run": SimpleNamespace(choose=lambda own, kit: own if mine else kit), "seed": seed}
    exec(anatomy.imports(PATH), names)  # noqa: S102 (the notebook's own code)
    for cell in CELLS:
        exec(source[cell], names)  # noqa: S102
    return names


@pytest.mark.parametrize(("mine", "seed"), [(False, 0), (True, 0), (False, 1)])
def test_the_forty_lines_find_the_texts_of_the_batched_decoder(mine, seed):
    names = lesson(mine, seed)
    assert names["different"] == 0
    assert len(names["drawn"]) == 200 and len(set(names["mine"])) > 40
    np.testing.assert_allclose([score for score, _ in names["by_hand"]], [each.logprob for each in names["batched"]],
                               atol=1e-4)
    fates = set(names["traced"]["fate"])
    assert len(fates) == 5, "the trace shows every reason"


def test_the_kits_functions_are_the_solutions():
    own, kit = lesson(True, 2), lesson(False, 2)
    assert own["log"] == kit["log"]
    assert own["rank"] is not kit["rank"]


# The toy policy ------------------------------------------------------------------------------------------------------
PROBS = {" fox": {",": 0.8, "": 0.2}, ",": {" red": 0.6, " oil": 0.4}, " red": {",": 0.5, "": 0.5}, " oil": {"": 1.0}}


def test_the_end_grows_likelier_with_every_token():
    policy = toy.toy_policy(list(PROBS), PROBS, end_growth=3.0)
    (short, longer) = sequence_logprobs(*policy, [" fox", " fox, red"], ["", ""])
    weight = 0.5 * 3.0**2  # of the end, behind two tokens before " red"
    assert np.exp(short) == pytest.approx(0.2, abs=1e-4)
    assert np.exp(longer) == pytest.approx(weight / (weight + 0.5), abs=1e-4)


# Prices at equal length ----------------------------------------------------------------------------------------------
def test_the_best_text_of_each_length():
    policy = toy.toy_policy(list(PROBS), PROBS)
    (free,) = np.exp(best_of_each_length(*policy, [" fox"], 9, 5))
    expected = [0.2, 0, 0.8 * 0.4, 0, 0.8 * 0.6 * 0.5 * 0.4]  # the end; ", oil"; ", red, oil" without an end
    np.testing.assert_allclose(free, expected, atol=1e-3)


def test_a_clause_that_costs_only_length_has_no_price():
    policy = toy.toy_policy(list(PROBS), PROBS)
    config = NeurologicConfig(max_new_tokens=6, beam_size=9)
    wanted = Constraints((("c", any_of("oil")), ("d", any_of("red"))))
    (oil, _), (red, at_equal_length) = clause_prices(*policy, " fox", wanted, config)
    assert red == pytest.approx(np.log(0.8 * 0.4) - np.log(0.8 * 0.6 * 0.5 * 0.4), abs=1e-2)
    assert at_equal_length == pytest.approx(0, abs=1e-2)
    assert oil > 0


def test_drawn_constraints_can_be_had():
    rng = np.random.default_rng(0)
    phrases = ("oil", "red", "oil red", "fox")
    drawn = [toy.draw_constraints(phrases, rng) for _ in range(50)]
    assert {len(each.wanted) for each in drawn} == {1, 2, 3}
    assert len({each.excluded for each in drawn}) > 2
    policy = toy.toy_policy(list(PROBS), PROBS)
    found = decode(*policy, [" fox,"], drawn[0], NeurologicConfig(max_new_tokens=8))[0]
    assert found.certificate.holds


def test_more_words_than_there_may_be_are_one_more():
    roads = {0: {1, 2}, 1: {0}, 2: {3}, 3: set()}
    needs = [toy.words_needed(0, roads.get, (3).__eq__, most) for most in range(4)]
    assert needs == [1, 2, 2, 2]
