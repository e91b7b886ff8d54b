"""The evaluation's prompts, pairing, tables and metrics, on a scorer whose every score is known by hand."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from npkit.errors import NpkitError
from npkit.findings import evaluation, stats, variants
from npkit.study.profiles import load_profile
from npkit.wishes import read_wishes

PREFIXES = ["a cat", "a dog", "a fox", "an owl"]
ADDED = {"prefix": "", "human": ", moody", "sft": ", oil, 8k", "sft+beam": ", oil", "sft+nl": ", a, b",
         "ppo": ", a, b, c", "ppo+beam": ", a, b", "ppo+nl": ", a"}


class WordCount:
    """A scorer without pictures: `words` counts the words of the prompt, `aesthetic` adds a part of prefix and seed."""

    def scores(self, prefixes: list[str], prompts: list[str], seed: int) -> dict[str, torch.Tensor]:
        words = torch.tensor([len(prompt.split()) for prompt in prompts], dtype=torch.float64)
        return {"words": words, "aesthetic": words / 10 + torch.tensor([ord(p[2]) for p in prefixes]) + seed}


@pytest.fixture
def prompts() -> dict[str, list[str]]:
    return {variant: [prefix + added for prefix in PREFIXES] for variant, added in ADDED.items()}


@pytest.fixture
def rows(prompts) -> pd.DataFrame:
    return evaluation.evaluate(prompts, PREFIXES, WordCount(), seeds=[0, 1])


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_list([
        {"prompt": f"{prefix}, {word}", "prefix": prefix, "split": split} for split, prefix, word in [
            ("test", "a cat", "moody"), ("test", "a cat", "8k"), ("sft", "a hen", "8k"), ("test", "a dog", "oil"),
            ("test", "a fox", "ink"), ("ppo", "a pig", "8k")]])


def test_prefixes_are_different_and_of_the_test_split(dataset):
    assert sorted(variants.test_prefixes(dataset, 3, seed=0)) == ["a cat", "a dog", "a fox"]
    twice = Dataset.from_list([*dataset, {"prompt": "A Cat, ink", "prefix": "A Cat", "split": "test"}])
    assert len(variants.test_prefixes(twice, 3, seed=0)) == 3  # a fourth would be the cat again
    with pytest.raises(NpkitError, match="has 3 different"):
        variants.test_prefixes(twice, 4, seed=0)
    orders = {tuple(variants.test_prefixes(dataset, 3, seed)) for seed in range(20)}
    assert len(orders) > 1
    assert variants.test_prefixes(dataset, 2, seed=5) == variants.test_prefixes(dataset, 3, seed=5)[:2]


def test_prefixes_ignore_the_order_of_the_corpus(dataset):
    turned = dataset.select(range(len(dataset) - 1, -1, -1))
    assert variants.test_prefixes(turned, 3, seed=1) == variants.test_prefixes(dataset, 3, seed=1)


def test_prefixes_that_the_policy_cannot_read_are_left_out(dataset):
    def short(prefixes: list[str]) -> list[bool]:
        return [prefix != "a dog" for prefix in prefixes]

    assert sorted(variants.test_prefixes(dataset, 2, seed=0, fits=short)) == ["a cat", "a fox"]


def test_too_few_prefixes_say_what_to_change(dataset):
    with pytest.raises(NpkitError, match="num_prefixes is 4, but the test split has 3"):
        variants.test_prefixes(dataset, 4, seed=0)


def test_prompts_of_all_variants(dataset):
    decoded = pd.DataFrame([(prefix, f"{name}+{way}", f", {name} {way} {number}") for name in ("sft", "ppo")
                            for way in ("beam", "nl") for number, prefix in enumerate(("a fox", "a cat"), 1)],
                           columns=["prefix", "variant", "completion"])
    samplers = {"sft": lambda prefixes: [", x"] * len(prefixes), "ppo": lambda prefixes: [""] * len(prefixes)}
    prompts = variants.prompts_for_variants(["a cat", "a fox"], dataset, samplers, decoded)
    assert tuple(prompts) == variants.VARIANTS
    assert prompts == {"prefix": ["a cat", "a fox"], "human": ["a cat, moody", "a fox, ink"],
                       "sft": ["a cat, x", "a fox, x"],
                       "sft+beam": ["a cat, sft beam 2", "a fox, sft beam 1"],
                       "sft+nl": ["a cat, sft nl 2", "a fox, sft nl 1"],
                       "ppo": ["a cat", "a fox"], "ppo+beam": ["a cat, ppo beam 2", "a fox, ppo beam 1"],
                       "ppo+nl": ["a cat, ppo nl 2", "a fox, ppo nl 1"]}


def test_a_prefix_that_was_not_decoded_names_the_notebook():
    decoded = pd.DataFrame({"prefix": ["a fox"], "variant": ["ppo+nl"], "completion": [", p"]})
    with pytest.raises(NpkitError, match=r"no ppo\+nl prompt for 1 of 2 test prefixes .*'a cat'.* 05_neurologic"):
        variants.decoded_prompts(decoded, "ppo+nl", ["a fox", "a cat"])


def test_one_row_per_prefix_variant_seed_and_judge(rows):
    assert list(rows) == ["prefix", "variant", "prompt", "seed", "judge", "score"]
    assert len(rows) == 4 * 8 * 2 * 2
    assert not rows.duplicated(["prefix", "variant", "seed", "judge"]).any()
    one = rows.query("prefix == 'a fox' and variant == 'sft' and judge == 'aesthetic' and seed == 1")
    assert one["score"].item() == pytest.approx(0.4 + ord("f") + 1)
    assert one["prompt"].item() == "a fox, oil, 8k"


def test_variants_of_a_prefix_share_a_seed_and_groups_of_prefixes_do_not(prompts, monkeypatch):
    monkeypatch.setattr(evaluation, "GROUP", 3)
    rows = evaluation.evaluate(prompts, PREFIXES, WordCount(), seeds=[10, 20])
    seeds = rows.groupby("prefix")["seed"].agg(lambda seeds: sorted(set(seeds)))
    assert seeds.to_dict() == {"a cat": [10, 20], "a dog": [10, 20], "a fox": [10, 20], "an owl": [11, 21]}
    assert (rows.groupby(["prefix", "seed"]).size() == 8 * 2).all()


def test_picture_seeds_of_different_studies_never_meet():
    firsts = sorted(seed for study in range(3) for seed in evaluation.picture_seeds(study, num_seeds=100))
    groups = 100_000 // evaluation.GROUP  # of the paper's number of prefixes
    assert min(np.diff(firsts)) >= groups
    assert firsts[0] >= 1_000_000


def test_truncated_prompts_are_a_share_of_each_variant():
    model = SimpleNamespace(max_tokens=3, num_tokens=lambda prompts: [len(prompt.split()) for prompt in prompts])
    shares = evaluation.truncated({"prefix": ["a b c", "a"], "ppo": ["a b c d", "a b c"]}, model)
    assert shares == {"truncated/prefix": 0, "truncated/ppo": 0.5}


def test_scores_are_paired_by_prefix_and_averaged_over_seeds(rows):
    shuffled = rows.sample(frac=1, random_state=0)
    scores = evaluation.paired_scores(shuffled, "aesthetic")
    assert scores.loc["a dog", "human"] == pytest.approx(0.3 + ord("d") + 0.5)
    assert tuple(evaluation.paired_scores(rows, "aesthetic")) == variants.VARIANTS
    with pytest.raises(NpkitError, match="no scores of judge 'oracle'; judges: words, aesthetic"):
        evaluation.paired_scores(rows, "oracle")


def test_gains_are_differences_of_the_same_prefix(rows):
    # Unpaired, the letters of the prefixes would spread the aesthetic differences by tens.
    assert np.allclose(evaluation.gains(rows, "aesthetic"), [[0.1, 0.2, 0.1, 0.2, 0.3, 0.2, 0.1]] * 4)
    assert np.allclose(evaluation.gains(rows, "words", baseline="sft")["ppo"], 1)
    chosen = rows[rows["judge"] == "aesthetic"].set_index(["prefix", "seed"])
    scores = {variant: part["score"].to_dict() for variant, part in chosen.groupby("variant")}
    assert stats.paired_gains(scores["ppo"], scores["prefix"]) == pytest.approx(dict.fromkeys(PREFIXES, 0.3))


def test_results_table_counts_prefixes_not_pictures(rows):
    table = evaluation.results_table(rows, np.random.default_rng(0), samples=200).set_index(["judge", "variant"])
    words = table.loc[("words", "ppo")]
    assert (words["mean"], words["gain"], words["gain_low"], words["gain_high"], words["n"]) == (5, 3, 3, 3, 4)
    assert table.loc[("aesthetic", "human"), "gain"] == pytest.approx(0.1)
    assert table.loc[("aesthetic", "prefix"), "paper"] == 5.64
    assert table.loc["words", "paper"].isna().all()
    wide = table.loc[("aesthetic", "ppo")]
    assert wide["mean_high"] - wide["mean_low"] > 5  # means vary with the prefix, gains do not


def test_contrasts_hold_differences_win_rates_and_the_papers_gaps(rows):
    table = evaluation.contrast_table(rows, np.random.default_rng(0), samples=100).set_index(["judge", "contrast"])
    assert table.loc[("words", "ppo - sft"), ["difference", "win_rate", "n"]].tolist() == [1, 1, 4]
    assert table.loc[("aesthetic", "ppo+nl - ppo"), "win_rate"] == 0
    assert table.loc[("aesthetic", "ppo+nl - human"), "paper"] == 0.35
    assert table["paper"].notna().sum() == 2


def test_the_papers_gaps_are_differences_of_its_row():
    for (variant, baseline), gap in evaluation.PAPER_GAPS.items():
        assert evaluation.PAPER_AESTHETIC[variant] - evaluation.PAPER_AESTHETIC[baseline] == pytest.approx(gap)


def test_reward_hacking_counts_prefixes_where_the_judge_is_fooled():
    judged, true = [1, 1, 1, -1], [-1, 1, -1, -1]  # two of four: the judge up, the oracle down
    rows = pd.DataFrame([(f"p{i}", variant, "", 0, judge, value * (variant == "ppo"))
                         for judge, values in {"pickscore": judged, "oracle": true}.items()
                         for i, value in enumerate(values) for variant in ("prefix", "ppo")],
                        columns=["prefix", "variant", "prompt", "seed", "judge", "score"])
    found = evaluation.reward_hacking(rows, "ppo")
    assert (found.share, found.n) == (0.5, 4)
    assert found.correlation == pytest.approx(1 / 3)  # by hand: Pearson of the ranks (3, 3, 3, 1) and (2, 4, 2, 2)


def test_the_alarm_rings_where_the_paid_judge_rises_and_one_of_the_others_falls():
    paid, unpaid = [1, 1, 1, -1], [[-1, 1, 1, -1], [1, 1, -1, -1]]
    assert evaluation.alarm(paid, unpaid) == 0.5


@pytest.mark.filterwarnings("error")
def test_a_policy_that_adds_nothing_has_no_rank_correlation():
    rows = pd.DataFrame([(f"p{i}", variant, "", 0, judge, float(i)) for judge in ("pickscore", "oracle")
                         for i in range(4) for variant in ("prefix", "sft+beam")],
                        columns=["prefix", "variant", "prompt", "seed", "judge", "score"])
    found = evaluation.reward_hacking(rows, "sft+beam")
    assert (found.share, found.n) == (0, 4) and np.isnan(found.correlation)


def test_lengths_count_the_words_added(rows):
    found = evaluation.lengths(rows, "words")
    assert len(found) == 4 * 7
    assert (found["words_added"] == found["gain"]).all()


def length_rows(extra: list[int]) -> pd.DataFrame:
    """Four prefixes: sft adds a word for 0.25, ppo as many `extra` words for 0.25 each, and 0.5 besides."""
    words = {"prefix": [0] * 4, "sft": [1] * 4, "ppo": [1 + more for more in extra]}
    return pd.DataFrame([(f"p{i}", variant, f"p{i}" + " w" * words[variant][i], 0, "pickscore",
                          0.25 * words[variant][i] + 0.5 * (variant == "ppo")) for i in range(4) for variant in words],
                        columns=["prefix", "variant", "prompt", "seed", "judge", "score"])


def test_the_gain_at_equal_length_is_what_words_do_not_explain():
    found = evaluation.at_equal_length(length_rows([0, 1, 2, 3]), "pickscore")
    assert found == pytest.approx((0.5, 0.5, 0.5, 4))


def test_one_difference_in_length_cannot_be_told_from_the_policy():
    assert np.isnan(evaluation.at_equal_length(length_rows([2, 2, 2, 2]), "pickscore").mean)


def test_metrics_are_flat_and_named_by_judge_and_variant(rows, tmp_path):
    metrics = evaluation.save_results(rows, tmp_path, np.random.default_rng(0), samples=100)
    assert metrics["aesthetic_gain/ppo"] == pytest.approx(0.3)
    assert metrics["words/sft+nl"] == 4
    assert metrics["words_gain_low/human"] == metrics["words_gain_high/human"] == 1
    assert metrics["ppo_minus_sft/words_low"] == metrics["ppo_minus_sft/words"] == 1
    assert metrics["ppo_minus_human/words_win_rate"] == 1
    assert "words_gain/prefix" not in metrics
    assert pd.read_parquet(tmp_path / "scores.parquet").equals(rows)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.parquet" for name in (
        "scores", "faithfulness", "table", "contrasts")}


def twelve_rows() -> pd.DataFrame:
    """Scores of every variant that is evaluated, by four judges; people add a word to two of four prefixes."""
    prompts = {variant: [f"{prefix}, {variant}, w" for prefix in PREFIXES] for variant in evaluation.EVALUATED}
    prompts |= {"prefix": PREFIXES, "human": ["a cat, oil", "a dog, ink", "A Fox,", "an owl"]}
    one = evaluation.evaluate(prompts, PREFIXES, WordCount(), seeds=[0])
    names = {"words": "pickscore", "aesthetic": "aesthetic"}
    first = one.replace({"judge": names})
    return pd.concat([first, one.replace({"judge": {"words": "heldout", "aesthetic": "oracle"}})], ignore_index=True)


def test_the_table_prints_within_120_columns():
    table = evaluation.results_table(twelve_rows(), np.random.default_rng(0), samples=100)
    lines = evaluation.text_table(table).splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split("  ")[0] for line in lines[1:14]] == [
        "prefix", "human", evaluation.WITH_COMPLETION, *evaluation.EVALUATED[2:]]
    assert "n: how many test prefixes each number rests on." in lines
    assert "+2.00 [2.00, 2.00]" in next(line for line in lines if line.startswith("ppo "))
    assert evaluation.readable(table).loc["prefix", "pickscore"] == "-"
    beside = evaluation.beside_paper(table)["paper (to confirm)"]
    assert beside["ppo+nl"] == "6.27" and "ppo+beam" not in beside


def test_people_who_added_words_are_compared_on_their_own_prefixes():
    rows, name = twelve_rows(), evaluation.WITH_COMPLETION
    table = evaluation.results_table(rows, np.random.default_rng(0), samples=100).set_index(["judge", "variant"])
    assert table.loc[("pickscore", "human"), ["gain", "n"]].tolist() == [0.5, 4]  # two words for four prefixes
    assert table.loc[("pickscore", name), ["gain", "gain_low", "n"]].tolist() == [1, 1, 2]
    assert table.loc[("pickscore", name), "mean"] == 3  # "a cat, oil" and "a dog, ink": three words
    contrasts = evaluation.contrast_table(rows, np.random.default_rng(0), samples=100)
    one = contrasts.set_index(["judge", "contrast"]).loc[("pickscore", f"ppo - {name}")]
    assert (one["difference"], one["n"]) == (1, 2)
    assert len(contrasts) == 4 * len(evaluation.CONTRASTS)
    metrics = evaluation.flat_metrics(table.reset_index(), contrasts)
    assert metrics[f"num_prefixes/{name}"] == 2 and f"pickscore_gain/{name}" in metrics
    assert not [metric for metric in metrics if metric.startswith("num_prefixes") and name not in metric]


def test_where_nobody_added_a_word_there_is_no_line_for_it(rows):
    rows.loc[rows["variant"] == "human", "prompt"] = rows["prefix"] + ","
    table = evaluation.results_table(rows, np.random.default_rng(0), samples=100)
    assert evaluation.WITH_COMPLETION not in set(table["variant"])


def test_every_variant_that_the_readme_shows_is_evaluated():
    assert len(evaluation.EVALUATED) == len(set(evaluation.EVALUATED)) == 12
    assert set(evaluation.EVALUATED) == {*variants.VARIANTS, *evaluation.BASELINES}
    assert set(evaluation.SHOWN) < set(evaluation.EVALUATED)


def test_faithfulness_is_a_judges_or_whether_the_prefix_is_kept(rows, tmp_path):
    told = evaluation.faithfulness_rows(rows, "words")
    assert set(told["judge"]) == {"words"} and len(told) == len(rows) / 2
    rows.loc[(rows["variant"] == "ppo") & (rows["prefix"] == "a cat"), "prompt"] = "a dog, moody"
    kept = evaluation.faithfulness_rows(rows)
    assert set(kept["judge"]) == {"prefix retained"}
    assert kept.groupby("variant")["score"].mean()[["ppo", "sft"]].tolist() == [0.75, 1]
    metrics = evaluation.save_results(rows, tmp_path, np.random.default_rng(0), 100, faithful="words", extra=["words"])
    assert metrics["faithfulness/sft"] == 4  # words
    assert not [name for name in metrics if "words" in name]
    assert set(pd.read_parquet(tmp_path / "scores.parquet")["judge"]) == {"aesthetic"}


def test_tradeoffs_hold_gain_faithfulness_and_variety(rows):
    texts = pd.DataFrame({"variant": variants.VARIANTS, "modifier_entropy": 2.0, "entropy_low": 1.5,
                          "entropy_high": 2.5})
    chosen = rows[rows["judge"] == "aesthetic"]
    found = evaluation.tradeoffs(chosen, evaluation.faithfulness_rows(rows), texts, np.random.default_rng(0), 100)
    ppo = found.set_index("variant").loc["ppo"]
    assert ppo[["gain", "gain_low", "faithfulness", "entropy", "entropy_high"]].tolist() == pytest.approx(
        [0.3, 0.3, 1, 2, 2.5])


def test_examples_are_the_best_the_median_and_the_worst():
    gain = pd.Series({f"p{number}": number for number in (3, 0, 4, 1, 2, 5, 6)})
    assert evaluation.extremes(gain) == {"best": ["p6", "p5"], "median": ["p4", "p3"], "worst": ["p1", "p0"]}
    assert evaluation.extremes(gain, 1) == {"best": ["p6"], "median": ["p3"], "worst": ["p0"]}


def test_each_prefix_has_clauses_of_its_own_draw():
    wishes = read_wishes(load_profile("tiny"), seed=0)
    prefixes = [f"a cat {number}" for number in range(300)]
    drawn = [wishes(prefix) for prefix in prefixes]
    assert len({clauses.wanted for clauses in drawn}) == 300  # of C(8, 5) = 56 draws in each of six categories
    assert wishes("a cat 7") == drawn[7], "a prefix has the same clauses whatever stands beside it"
    assert read_wishes(load_profile("tiny"), seed=1)("a cat 7") != drawn[7]


def test_a_judge_that_sees_no_difference_is_called_constant(rows):
    rows.loc[rows["judge"] == "words", "score"] = 7.0
    text = evaluation.text_table(evaluation.results_table(rows, np.random.default_rng(0), samples=100))
    assert text.count("constant") == 8  # seven variants, and people where they added words
    assert "Constant: the judge scores every variant alike." in text
    assert "+0.0000" not in text
