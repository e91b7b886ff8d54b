"""Decoding: constraints hold on the text, the best text is found, a batch changes nothing, errors come first."""
from functools import cache

import numpy as np
import pytest
import torch

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic import Constraints, any_of, decode, decode_best, neurologic_generate, prices
from npkit.neurologic.beam import keep_slots, take_turns
from npkit.neurologic.toy import toy_policy
from npkit.policy import build_policy, sequence_logprobs
from npkit.profiles import NeurologicConfig, PolicyConfig

PHRASES = ["art", "art nouveau", "concept art", "artstation", "trending on artstation", "4k", "8k", "14k", "text",
           "texture", "ukiyo-e", "highly detailed", "Greg Rutkowski", "greg", "rené magritte", "d&d", "🔥", "城", "a_b",
           "by van gogh", "oil painting", "painting", "dark oil painting", "e", "s", "a", "of", "(sic)", "Straße"]
PREFIXES = ["a fox", "Concept", "an oil", "the context,", "a 1", "a cat -", "straßen", "trending on", "a \"quote\""]


@cache
def policy():
    """A GPT-2 with random weights and a BPE of its own: it has no idea, so every rule is put to the test."""
    model, tokenizer = build_policy(PolicyConfig(num_layers=2, hidden_size=32, vocab_size=400), 3 * PHRASES, seed=0)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(8)  # far from uniform: some tokens are very likely
    return model.eval(), tokenizer


# The toy policy: every text can be written down ----------------------------------------------------------------------
TOKENS = [" red", " fox", " oil", " art", "s", ","]


def test_worked_example_with_and_without_a_clause():
    probs = {" fox": {",": 0.8, "": 0.2}, ",": {" red": 0.9, " oil": 0.1}, " red": {"": 0.7, ",": 0.3},
             " oil": {"": 1.0}}
    policy = toy_policy(TOKENS, probs)
    config = NeurologicConfig(max_new_tokens=6, beam_size=2, length_penalty=0.0)
    free, oil, no_red = (decode(*policy, [" fox"], constraints, config)[0] for constraints in (
        Constraints(), Constraints((("medium", any_of("oil")),)), Constraints((), ("red",))))
    assert (free.completion, oil.completion, no_red.completion) == (", red", ", oil", "")
    np.testing.assert_allclose(np.exp([free.logprob, oil.logprob, no_red.logprob]), [0.8 * 0.9 * 0.7, 0.8 * 0.1, 0.2],
                               rtol=1e-3)


def test_logprob_is_the_policys():
    model, tokenizer = toy_policy(TOKENS, {" fox": {",": 0.6}, ",": {" red": 0.5}})
    found = decode(model, tokenizer, [" fox"], Constraints((("c", any_of("art")),)),
                   NeurologicConfig(max_new_tokens=8, length_penalty=0.0))[0]
    (expected,) = sequence_logprobs(model, tokenizer, [" fox"], [found.completion])
    assert found.logprob == pytest.approx(expected, abs=1e-3)


# The border between prefix and completion ----------------------------------------------------------------------------
@pytest.mark.parametrize(("prefix", "wanted", "excluded", "completion"), [
    (" red", "red", (), ""), (" oil", "oil art", (), " art"), (" oil", "art", ("oil art",), ", art"),
    (" red fox", "fox", (), ""), (" art", "arts", (), " arts")])
def test_the_whole_prompt_is_judged(prefix, wanted, excluded, completion):
    policy = toy_policy(TOKENS, {token: {"": 0.85, ",": 0.05} for token in TOKENS})
    config = NeurologicConfig(max_new_tokens=4, length_penalty=0.0)
    found = decode(*policy, [prefix], Constraints((("c", any_of(wanted)),), excluded), config)[0]
    assert found.completion == completion


@pytest.mark.parametrize(("prefix", "constraints", "sentence"), [
    (" fox", Constraints((("c", any_of("red fox")), ("d", any_of("arts")))), "need 4 new tokens, max_new_tokens is 3"),
    (" fox", Constraints((("c", any_of("ink")),)), "no tokens that write any of .'ink'. .c."),
    (" red fox", Constraints((), ("fox",)), "the prefix itself contains the excluded 'fox'"),
    (" fox", Constraints((("c", any_of()),)), "is empty"),
    (" fox", Constraints((("c", any_of("oil")),), ("OIL",)), "both"),
    (" ", Constraints(), "prefix is empty"),
])
def test_errors_before_decoding(prefix, constraints, sentence):
    with pytest.raises(NpkitError, match=sentence):
        decode(*toy_policy(TOKENS, {}), [prefix], constraints, NeurologicConfig(max_new_tokens=3))


def test_a_prefix_without_room_is_refused():
    with pytest.raises(PrefixTooLong, match="31 tokens, the policy takes 28"):
        decode(*toy_policy(TOKENS, {}), [" fox" * 31], Constraints(), NeurologicConfig(max_new_tokens=4))


def test_pruning_by_likelihood_keeps_the_promise():
    config = NeurologicConfig(max_new_tokens=16, beam_size=3, prune_factor=1)
    constraints = Constraints((("c", any_of("oil painting")), ("d", any_of("4k"))), ("s", "a"))
    assert all(found.certificate.holds for found in decode(*policy(), ["the fox", "one cat"], constraints, config))


# The parts of a step -------------------------------------------------------------------------------------------------
def test_groups_take_turns():
    rank = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0, -torch.inf]])
    group = torch.tensor([[0, 0, 0, 1, 2, 3]])
    assert take_turns(rank, group, 6).tolist() == [[0, 3, 4, 1, 2, 5]]


def test_slots_are_kept():
    parent = torch.tensor([[2, 2, 0], [1, 1, 1], [0, 1, 2]])
    moved = parent.gather(1, keep_slots(parent))
    assert moved.tolist() == [[0, 2, 2], [1, 1, 1], [0, 1, 2]]


# More than the best one ----------------------------------------------------------------------------------------------
FOX = {" fox": {",": 0.8, "": 0.2}, ",": {" red": 0.6, " oil": 0.3, " art": 0.1}, " red": {"": 1.0}, " oil": {"": 1.0},
       " art": {"": 1.0}}


def test_the_best_three_in_order():
    config = NeurologicConfig(max_new_tokens=3, beam_size=9, sat_tolerance=9)
    (found,) = decode_best(*toy_policy(TOKENS, FOX), [" fox"], Constraints(), config, 3)
    assert [each.completion for each in found] == [", red", ", oil", ""]
    np.testing.assert_allclose(np.exp([each.logprob for each in found]), [0.48, 0.24, 0.2], rtol=1e-3)
    (wanted,) = decode_best(*toy_policy(TOKENS, FOX), [" fox"], Constraints((("c", any_of("oil")),)), config, 3)
    assert wanted[0].completion == ", oil" and all(each.certificate.holds for each in wanted)
    assert len({each.completion for each in wanted}) == len(wanted)


def test_a_sampled_beam_keeps_the_promise_and_follows_its_generator():
    constraints = Constraints((("c", any_of("oil painting", "4k")),), ("e",))
    config = NeurologicConfig(max_new_tokens=16, beam_size=3, beam_temperature=5.0)

    def sampled(seed):
        return decode(*policy(), ["a fox", "a cat"], constraints, config, generator=torch.Generator().manual_seed(seed))

    draws = [[found.completion for found in sampled(seed)] for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1] and len(set(map(tuple, draws))) > 1
    assert all(found.certificate.holds for seed in range(4) for found in sampled(seed))
    with pytest.raises(NpkitError, match="pass a generator"):
        decode(*policy(), ["a fox"], constraints, config)


def test_the_price_of_a_clause_is_what_leaving_it_out_saves():
    config = NeurologicConfig(max_new_tokens=5, beam_size=9, sat_tolerance=9)
    wanted = Constraints((("free", any_of("fox")), ("dear", any_of("art"))), ("red",))
    free, dear = prices(*toy_policy(TOKENS, FOX), " fox", wanted, config)
    assert free == pytest.approx(0, abs=1e-4)
    assert dear == pytest.approx(np.log(0.8 * 0.3) - np.log(0.8 * 0.1), abs=1e-3)  # without red and art: oil


# transformers' own door ----------------------------------------------------------------------------------------------
def test_generate_gives_what_decode_gives():
    model, tokenizer = policy()
    constraints = Constraints((("c", any_of("oil painting", "4k")), ("d", any_of("artstation"))), ("e",))
    texts = ["a fox", "trending on a cat"]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    output = model.generate(**inputs, num_beams=4, max_new_tokens=16, num_return_sequences=2, length_penalty=0.0,
                            custom_generate=neurologic_generate(tokenizer, constraints), return_dict_in_generate=True)
    assert output.sequences.shape == (4, inputs["input_ids"].shape[1] + 16)
    config = NeurologicConfig(max_new_tokens=16, beam_size=4)
    expected = [each for row in decode_best(model, tokenizer, texts, constraints, config, 2) for each in row]
    assert tokenizer.batch_decode(output.sequences, skip_special_tokens=True) == [each.prompt for each in expected]
    np.testing.assert_allclose(output.sequences_scores, [each.logprob for each in expected], rtol=1e-4)
    plain = model.generate(**tokenizer("a fox", return_tensors="pt"), num_beams=4, max_new_tokens=16,
                           length_penalty=0.0, custom_generate=neurologic_generate(tokenizer, constraints))
    assert tokenizer.decode(plain[0], skip_special_tokens=True) == expected[0].prompt


def test_generate_refuses_what_would_undo_the_promise():
    model, tokenizer = policy()
    with pytest.raises(NpkitError, match="takes no logits processor, got RepetitionPenaltyLogitsProcessor"):
        model.generate(**tokenizer("a fox", return_tensors="pt"), num_beams=2, max_new_tokens=4, repetition_penalty=1.2,
                       custom_generate=neurologic_generate(tokenizer, Constraints()))
