"""Rewards: each distinct picture painted once, scores cached to the bit, gains taken from the same seeds."""
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from npkit.errors import NpkitError
from npkit.judges import Judge
from npkit.profiles import JudgeConfig
from npkit.rewards import Case, ScoreCache, Scorer, gain_over_prefix


@dataclass
class MockImageModel:
    """Paints a picture whose every pixel is (words + seed / 10) / 10, and counts."""
    painted: list = field(default_factory=list)
    fingerprint: str = "mock"
    config: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(batch_size=4))

    def render(self, prompts, seeds):
        self.painted += zip(prompts, seeds, strict=True)
        values = [len(prompt.split()) + seed / 10 for prompt, seed in zip(prompts, seeds, strict=True)]
        return torch.tensor(values)[:, None, None, None].expand(-1, 3, 2, 2) / 10


class MockJudge(Judge):
    """Scores ten times the brightness of the picture (or words of the prompt), and counts what it is asked."""

    def __init__(self, name: str, kind: str = "pickscore"):
        super().__init__(JudgeConfig(name=name, kind=kind, model="mock"), self.count)
        self.asked = 0

    def count(self, prefixes, prompts, pictures):
        self.asked += len(prefixes)
        words = torch.tensor([float(len(prompt.split())) for prompt in prompts])
        return 10 * pictures.mean((1, 2, 3)) if self.needs_pictures else words


@pytest.fixture
def scorer() -> Scorer:
    judges = {"bright": MockJudge("bright"), "words": MockJudge("words", "text_function")}
    return Scorer(MockImageModel(), judges, ScoreCache())


def test_scores_by_hand(scorer):
    scores = scorer.scores(["a cat", "a cat"], ["a cat, oil painting", "a cat"], seed=3)
    assert scores["bright"].tolist() == pytest.approx([4.3, 2.3]) and scores["words"].tolist() == [4, 2]


def test_each_distinct_picture_is_painted_once(scorer):
    prompts = ["a cat", "a dog", "a cat", "a big cat"]
    scorer.scores(["a cat"] * 4, prompts, seed=0)
    scorer.scores(["a cat"] * 4, prompts[::-1], seed=0)
    assert sorted(scorer.image_model.painted) == [("a big cat", 0), ("a cat", 0), ("a dog", 0)]
    assert scorer.judges["words"].asked == 3, "a text judge does not see the prefix: three prompts, three questions"


def test_mean_over_seeds_which_runs_do_not_share(scorer):
    scorer.num_seeds = 2
    assert scorer.scores(["a cat"], ["a cat"], seed=0)["bright"].tolist() == pytest.approx([2.05])
    assert scorer.scores(["a cat"], ["a cat"], seed=1)["bright"].tolist() == pytest.approx([2.25])
    assert [seed for _, seed in scorer.image_model.painted] == [0, 1, 2, 3]


def test_only_the_judges_asked_for(scorer):
    assert list(scorer.scores(["a cat"], ["a cat"], 0, ["words"])) == ["words"]
    assert not scorer.image_model.painted
    with pytest.raises(NpkitError, match="unknown judge 'taste'; known: bright, words"):
        scorer.scores(["a cat"], ["a cat"], 0, ["taste"])


def test_cache_survives_on_disk_to_the_bit(tmp_path):
    def fresh() -> Scorer:
        return Scorer(MockImageModel(), {"bright": MockJudge("bright")}, ScoreCache(tmp_path / "scores.sqlite"))

    first, again = fresh(), fresh()
    expected = first.scores(["a cat"], ["a cat, oil"], 1)["bright"]
    assert torch.equal(again.scores(["a cat"], ["a cat, oil"], 1)["bright"], expected)
    assert not again.image_model.painted and len(again.cache) == 1


@pytest.mark.parametrize("other", [
    Case("a dog", "a cat", 0), Case("a cat", "a cat, oil", 0), Case("a cat", "a cat", 1)])
def test_keys_of_picture_judges_depend_on_everything(scorer, other):
    case = Case("a cat", "a cat", 0)
    assert scorer.key("bright", case) != scorer.key("bright", other)
    assert scorer.key("bright", case) != scorer.key("words", case)
    scorer.image_fingerprint = "another model"
    assert scorer.key("bright", case) != Scorer(MockImageModel(), scorer.judges, ScoreCache()).key("bright", case)


def test_scores_are_rounded(scorer):
    scorer.judges["bright"].rate = lambda prefixes, prompts, pictures: torch.full((len(prefixes),), 1 / 3)
    assert scorer.scores(["a"], ["a"], 0, ["bright"])["bright"].double().item() == pytest.approx(0.33333, abs=1e-8)


def test_a_failing_judge_leaves_nothing_half_stored(scorer):
    def fail(prefixes, prompts, pictures):
        raise RuntimeError("out of memory")

    scorer.judges["bright"].rate = fail
    with pytest.raises(RuntimeError):
        scorer.scores(["a"], ["a"], 0)
    assert len(scorer.cache) == 1, "the text judge's score, asked before"


def test_gain_over_prefix(scorer):
    reward = gain_over_prefix(scorer, "bright", seed=5)
    assert reward(["a cat", "a dog"], [", oil painting", ""]).tolist() == pytest.approx([2.0, 0.0])
    assert {seed for _, seed in scorer.image_model.painted} == {5}
    assert set(scorer.image_model.painted) == {("a cat, oil painting", 5), ("a dog", 5), ("a cat", 5)}
