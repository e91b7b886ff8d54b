"""Baselines: what they draw from, how much, by which seed; and that the best of n is chosen, not evaluated, by pay."""
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset

from npkit.findings import baselines, evaluation
from npkit.text.keywords import Keyword
from npkit.training.assembly import deciding_seed

WORDS = {"booster": tuple(Keyword(phrase=phrase, count=9 - place) for place, phrase in
                          enumerate(("8k", "vivid", "sharp", "octane render"))),
         "vibe": (Keyword(phrase="moody", count=99),)}
PREFIXES = [f"a cat {number}" for number in range(200)]
PEOPLE = [["8k", "moody"]] * 8 + [["vivid", "moody", "sharp"]] * 2


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_list([
        {"prefix": prefix, "prompt": prefix + completion, "completion": completion, "split": split}
        for split, prefix, completion in [("sft", "a hen", ", 8K, Moody"), ("sft", "a cow", ", vivid"),
                                          ("test", "a cat", ", octane render"), ("sft", "a pig", "")]])


def added(prompts: list[str]) -> list[list[str]]:
    return [prompt.split(", ")[1:] for prompt in prompts]


def test_people_are_those_of_the_sft_split(dataset):
    assert baselines.modifiers_of_people(dataset, WORDS) == [["8k", "moody"], ["vivid"], []]


def test_the_suffix_is_of_the_boosters_that_people_use_most():
    assert baselines.boosters(WORDS) == ["8k", "vivid", "sharp"]
    assert baselines.boosters({"vibe": WORDS["vibe"], "style": WORDS["booster"]}) == ["moody", "8k", "vivid"]


def test_modifiers_are_as_many_as_people_use_and_none_comes_twice():
    for by_frequency in (False, True):
        drawn = added(baselines.draw_modifiers(PREFIXES, PEOPLE, 0, by_frequency))
        assert all(len(set(each)) == len(each) for each in drawn)
        assert 0.7 < Counter(map(len, drawn))[2] / len(drawn) < 0.9  # eight of ten people used two


def test_random_modifiers_are_equally_likely_and_frequent_ones_as_people_use_them():
    prefixes = [f"a dog {number}" for number in range(1000)]
    shares = [Counter(phrase for each in added(baselines.draw_modifiers(prefixes, PEOPLE, 0, by_frequency))
                      for phrase in each) for by_frequency in (False, True)]
    even, frequent = ({phrase: count / counts.total() for phrase, count in counts.items()} for counts in shares)
    assert all(0.22 < share < 0.28 for share in even.values())
    assert frequent["moody"] > 0.3 and frequent["sharp"] < 0.2  # 10 and 2 of 22 uses; none twice in a prompt


def test_a_baseline_depends_on_seed_and_prefix_alone():
    one, other = (baselines.draw_modifiers(PREFIXES, PEOPLE, seed) for seed in (0, 1))
    assert one == baselines.draw_modifiers(PREFIXES[::-1], PEOPLE, 0)[::-1]
    assert one != other


def test_where_people_use_no_keywords_nothing_is_added():
    assert baselines.draw_modifiers(PREFIXES, [[], []], 0) == list(PREFIXES)
    assert baselines.draw_modifiers(PREFIXES, [], 0, by_frequency=True) == list(PREFIXES)


class LikesLongNames:
    """A scorer whose judges like long prompts, `second` short ones; it remembers the seeds it was asked with."""
    def __init__(self):
        self.seeds = []

    def scores(self, prefixes, prompts, seed, judges):
        self.seeds.append(seed)
        lengths = torch.tensor([float(len(prompt)) for prompt in prompts])
        return {judge: lengths if judge == "pickscore" else -2 * lengths for judge in judges}


def sample(prefixes: list[str]) -> list[str]:
    """Completions that grow longer each time a prefix comes again, but for every fourth, which comes twice."""
    seen, found = Counter(), []
    for prefix in prefixes:
        seen[prefix] += 1
        found.append("," + "!" * (seen[prefix] % 4))
    return found


def test_the_best_of_n_is_the_one_that_is_paid_most_by_pictures_that_count_nowhere():
    scorer = LikesLongNames()
    found = baselines.best_of_n(PREFIXES[:40], sample, scorer, weights={"pickscore": 1.0}, n=4, seed=0)
    assert found.prompts == [f"{prefix},!!!" for prefix in PREFIXES[:40]]
    assert found.num_pictures == 160
    evaluated = {seed + group for seed in evaluation.picture_seeds(0, 20) for group in range(1000)}
    assert scorer.seeds == [baselines.choosing_seed(0) + number for number in range(3)]
    assert not evaluated & set(scorer.seeds) and deciding_seed(0) + 10_000 < scorer.seeds[0]
    assert scorer.seeds[-1] < evaluation.picture_seeds(1, 1)[0]


def test_several_paid_judges_are_weighed_and_equal_prompts_cost_one_picture():
    found = baselines.best_of_n(PREFIXES[:3], sample, LikesLongNames(), weights={"pickscore": 1.0, "second": 1.0}, n=8,
                                seed=0)
    assert found.prompts == [f"{prefix}," for prefix in PREFIXES[:3]]
    assert found.num_pictures == 12


def test_all_baselines_in_their_order(dataset):
    found = baselines.baseline_prompts(["a cat"], dataset, WORDS, ["a cat, best"], seed=0)
    assert tuple(found) == evaluation.BASELINES
    assert found["prefix+boosters"] == ["a cat, 8k, vivid, sharp"] and found["best-of-n"] == ["a cat, best"]
    assert not np.any(["octane render" in prompt for prompts in found.values() for prompt in prompts])  # of test
