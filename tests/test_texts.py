"""Text-side measures: each against a case that is worked by hand."""
import numpy as np
import pytest
from fixtures_toy import toy_policy, toy_tokenizer

from npkit.errors import NpkitError
from npkit.findings import texts
from npkit.text.keywords import Keyword

WORDS = {"format": (Keyword(phrase="oil painting", count=9), Keyword(phrase="painting", count=2)),
         "artist": (Keyword(phrase="greg rutkowski", count=5, living_artist=True), Keyword(phrase="monet", count=1))}
PREFIXES = ["a cat", "a dog", "a fox"]


@pytest.fixture(scope="module")
def uniform():
    """A policy to which every one of its tokens is equally likely."""
    tokenizer = toy_tokenizer()
    model = toy_policy(tokenizer)
    model.get_input_embeddings().weight.data.zero_()  # tied with the output: all logits are 0
    return model, tokenizer


def test_a_completion_is_what_follows_the_prefix():
    assert texts.completions(["a cat, oil", "a dog", "the fox, ink"], PREFIXES) == [", oil", "", "the fox, ink"]


def test_a_prefix_is_kept_as_whole_words_side_by_side_whatever_stands_between():
    prompts = ["A Cat, oil", "oil, a: dog!", "a red fox"]
    assert texts.prefix_retained(prompts, PREFIXES) == pytest.approx(2 / 3)
    assert texts.prefix_retained(["a catalogue"], ["a cat"]) == 0


def test_the_longer_keyword_hides_the_one_inside_it():
    found = texts.modifiers_in([", Oil Painting, by Monet", ", painting, painting", ""], WORDS)
    assert found == [["oil painting", "monet"], ["painting", "painting"], []]


def test_distinct_counts_ngrams_within_texts():
    said = [["oil", "oil", "8k"], ["8k"], []]
    assert texts.distinct(said, 1) == 2 / 4
    assert texts.distinct(said, 2) == 1  # oil oil, oil 8k: none across two texts
    assert texts.distinct([[]], 2) == 0


def test_bleu_by_hand():
    # a b c against a b d: 2 of 3 words, 1 of 2 pairs, none of 1 triple, which 0.1 stands for; equally long
    assert texts.bleu("abc", ["abd"]) == pytest.approx((2 / 3 * 1 / 2 * 0.1) ** (1 / 3))
    # a a against a: an n-gram counts as often as the reference has it; no reference has the pair
    assert texts.bleu("aa", ["a"]) == pytest.approx((1 / 2 * 0.1) ** 0.5)
    # a b against a b c: all n-grams are there, but the text is short by 3 to 2
    assert texts.bleu("ab", ["abc"]) == pytest.approx(np.exp(1 - 3 / 2))
    assert texts.bleu("abcde", ["xxxxx", "abcde"]) == pytest.approx(1)
    assert (texts.bleu("", ["", "a"]), texts.bleu("", ["a"])) == (1, 0)


def test_self_bleu_is_1_of_equal_texts_and_compares_each_with_the_others():
    assert texts.self_bleu(["abcd"] * 5) == pytest.approx(1)
    assert texts.self_bleu(["abc", "abd"]) == pytest.approx((2 / 3 * 1 / 2 * 0.1) ** (1 / 3))
    assert texts.self_bleu(["ab"] * texts.BLEU_TEXTS + ["xy"]) == pytest.approx(1), "of more texts the first ones"


def test_entropy_counts_modifiers_of_all_texts_together():
    assert texts.modifier_entropy([["a", "b"], ["c", "d"]]) == pytest.approx(2)  # bits of four equals
    assert texts.modifier_entropy([["a", "a"], ["a"], ["b"]]) == pytest.approx(0.811, abs=1e-3)
    assert texts.modifier_entropy([[], []]) == 0
    assert texts.top_share([["a", "a", "b"], ["c"]], 1) == 0.5
    assert texts.top_share([[]]) == 0


def test_the_jackknife_gives_the_usual_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=50)
    found = texts.jackknife(values, lambda chosen: float(np.mean(chosen)))
    half = 2.0096 * values.std(ddof=1) / np.sqrt(50)  # Student's t with 49 degrees of freedom
    assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half, 50), abs=1e-4)


def test_perplexity_of_a_policy_without_preferences_is_its_number_of_tokens(uniform):
    assert texts.perplexity(uniform, PREFIXES, [", oil", "", ", 8k, ink"]) == pytest.approx((len(uniform[1]), 0))


def test_prompts_that_the_policy_cannot_read_are_left_out_and_counted(uniform):
    long = ", oil painting" * 40  # 48 positions
    found = texts.perplexity(uniform, PREFIXES, [", oil", long, ""])
    assert found == pytest.approx((len(uniform[1]), 1 / 3))
    with pytest.raises(NpkitError, match="all 1 prompts are longer than the policy's 48 tokens"):
        texts.perplexity(uniform, ["a cat"], [long])


def test_the_table_has_a_row_a_variant_and_every_measure(uniform):
    prompts = {"prefix": PREFIXES, "ppo": [f"{prefix}, oil painting, greg rutkowski" for prefix in PREFIXES]}
    table = texts.text_table(prompts, PREFIXES, WORDS, uniform).set_index("variant")
    plain, ppo = table.loc["prefix"], table.loc["ppo"]
    assert plain[["words", "modifiers", "distinct_1", "modifier_entropy", "top_10", "too_long"]].tolist() == [0] * 6
    assert plain[["prefix_retained", "self_bleu", "commonest"]].tolist() == [1, 1, 1]
    assert ppo[["words", "modifiers", "living_artists", "modifier_entropy", "entropy_low"]].tolist() == [4, 2, 1, 1, 1]
    assert ppo["distinct_1"] == 4 / 12 and ppo["commonest"] == 1
    metrics = texts.flat_metrics(table.reset_index())
    assert len(metrics) == 2 * len(texts.MEASURES) and metrics["text_words/ppo"] == 4
