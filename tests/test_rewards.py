"""Rewards: each distinct picture painted once, scores cached to the bit, gains taken from the same seeds."""
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from fixtures_models import save_clip, save_head, save_pipeline

from npkit.errors import NpkitError
from npkit.scoring.cache import ScoreCache, shared_cache
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import Judge, load_judge
from npkit.scoring.rewards import Case, Scorer, gain_over_prefix
from npkit.study.profiles import ImagesConfig, JudgeConfig


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
    with pytest.raises(RuntimeError, match="out of memory"):
        scorer.scores(["a"], ["a"], 0)
    assert len(scorer.cache) == 1, "the text judge's score, asked before"


@pytest.mark.parametrize("name", ["bright", "words"])
@pytest.mark.parametrize("rate, words", [
    (lambda rows: torch.full((rows,), torch.nan), "finite numbers: it did not for 2 of 2 prompts.* 'a cat'"),
    (lambda rows: torch.ones(rows - 1), r"one score per prompt: 2 prompts, shape \(1,\)"),
    (lambda rows: torch.ones(rows, 1), r"one score per prompt: 2 prompts, shape \(2, 1\)")])
def test_a_bad_judge_is_named_and_stores_nothing(name, rate, words):
    judge = MockJudge(name, "pickscore" if name == "bright" else "text_function")
    judge.rate = lambda prefixes, prompts, pictures: rate(len(prefixes))
    model = MockImageModel(config=SimpleNamespace(batch_size=2))
    scorer = Scorer(model, {name: judge}, ScoreCache())
    with pytest.raises(NpkitError, match=f"the judge {name} must return {words}"):
        scorer.scores(["a cat", "a dog"], ["a cat", "a dog"], 0)
    assert len(scorer.cache) == 0


def test_gain_over_prefix(scorer):
    reward = gain_over_prefix(scorer, "bright", seed=5)
    assert reward(["a cat", "a dog"], [", oil painting", ""]).tolist() == pytest.approx([2.0, 0.0])
    assert {seed for _, seed in scorer.image_model.painted} == {5}
    assert set(scorer.image_model.painted) == {("a cat, oil painting", 5), ("a dog", 5), ("a cat", 5)}


def test_a_prefix_is_painted_and_judged_once_in_all_updates(scorer):
    reward = gain_over_prefix(scorer, {"bright": 1.0, "words": 1.0}, seed=5)
    for completions in ([", oil", ", ink"], [", pixel art", ", 8k"], [", oil", ", pop art"]):
        reward(["a cat", "a dog"], completions)
    painted = scorer.image_model.painted
    assert len(painted) == len(set(painted)) == 2 + 5, "two prefixes, five different prompts"
    assert [judge.asked for judge in scorer.judges.values()] == [
        4 + 4 + 4, 7], "of pictures in full batches (rounds of 4, 2 and 1 new ones); of texts what is new"


def test_a_single_judge_by_name_or_by_weight_is_the_same_number(scorer):
    prefixes, completions = ["a cat", "a dog"], [", oil painting", ", pop art by van gogh"]
    by_name, by_weight = (gain_over_prefix(scorer, judges, 0)(prefixes, completions)
                          for judges in ("bright", {"bright": 1.0}))
    assert torch.equal(by_name, by_weight)


def test_a_composite_is_the_weighted_sum_of_gains_and_paints_once(scorer):
    reward = gain_over_prefix(scorer, {"bright": 1.0, "words": -0.25}, seed=5)
    assert reward(["a cat", "a dog"], [", oil painting", ""]).tolist() == pytest.approx([2.0 - 0.5, 0.0])
    assert len(scorer.image_model.painted) == 3


def test_several_seeds_a_prompt_are_the_same_for_prompt_and_prefix(scorer):
    scorer.num_seeds = 3
    assert gain_over_prefix(scorer, "bright", seed=5)(["a cat"], [", oil painting"]).tolist() == pytest.approx([2.0])
    assert sorted(scorer.image_model.painted) == [
        (prompt, seed) for prompt in ("a cat", "a cat, oil painting") for seed in (15, 16, 17)]


def test_a_composite_names_known_judges_before_any_work(scorer):
    with pytest.raises(NpkitError, match="unknown judge 'taste'; known: bright, words"):
        gain_over_prefix(scorer, {"bright": 1.0, "taste": 1.0}, seed=0)
    with pytest.raises(NpkitError, match="at least one judge; known: bright, words"):
        gain_over_prefix(scorer, {}, seed=0)
    assert not scorer.image_model.painted


def test_a_composite_of_real_judges_pays_for_faithfulness(tmp_path):
    """PickScore, aesthetics and CLIP score in the real file formats: the sum of what each judge says alone."""
    clip, head = str(save_clip(tmp_path / "clip")), str(save_head(tmp_path / "head.safetensors"))
    configs = [JudgeConfig(name="pickscore", kind="pickscore", model=clip),
               JudgeConfig(name="aesthetic", kind="aesthetic", model=clip, head=head),
               JudgeConfig(name="clipscore", kind="clipscore", model=clip)]
    images = ImagesConfig(model=str(save_pipeline(tmp_path / "diffusion")), num_inference_steps=1, guidance_scale=2.0,
                          height=32, width=32, batch_size=2)
    model = load_image_model(images, "cpu")
    scorer = Scorer(model, {config.name: load_judge(config, "cpu") for config in configs}, shared_cache())
    weights = {"pickscore": 1.0, "aesthetic": 0.5, "clipscore": 0.1}
    prefixes, completions = ["a castle tower", "a snowman"], [", oil painting", ", pixel art"]
    reward = gain_over_prefix(scorer, weights, seed=0)(prefixes, completions)
    pictures = model.render([prefix + rest for prefix, rest in zip(prefixes, completions)] + prefixes, [0] * 4)
    expected = torch.zeros(2)
    for name, weight in weights.items():
        scores = scorer.judges[name](prefixes * 2, prefixes * 2, pictures)
        expected += weight * (scores[:2] - scores[2:])
    assert torch.allclose(reward, expected, atol=1e-4) and reward.abs().min() > 1e-3
    again = Scorer(load_image_model(images, "cpu"), scorer.judges, shared_cache())
    again.image_model.render = None  # whoever asks the shared cache next, evaluation or an ablation, paints nothing
    assert torch.equal(gain_over_prefix(again, weights, seed=0)(prefixes, completions), reward)
