"""Decoding: constraints hold on the text, the best text is found, a batch changes nothing, errors come first."""
import itertools
import string

import numpy as np
import pytest
import torch
from datasets import Dataset
from test_neurologic_properties import PHRASES, policy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic import Constraints, any_of, decode, decode_best, find, neurologic_generate, prices
from npkit.neurologic.constraints import INVISIBLE
from npkit.neurologic.decoding import open_search, plan, search
from npkit.neurologic.plans import compile_constraints, shares
from npkit.neurologic.reader import BeamCache, phrase_costs
from npkit.neurologic.search import keep_slots, run_search, take_turns
from npkit.neurologic.toy import toy_policy
from npkit.neurologic.vocabulary import read_vocabulary, short_forms
from npkit.study.profiles import NeurologicConfig, PolicyConfig, SFTConfig, override
from npkit.text.policy import build_policy, load_policy, save_policy, sequence_logprobs, token_logprobs
from npkit.training.sft import train_sft

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
    (" red fox", "fox", (), ""), (" art", "arts", (), ", arts"), (" fox,", "art", (), " art"),
    (" fox art", "art fox", (), ", art fox")])
def test_the_whole_prompt_is_judged(prefix, wanted, excluded, completion):
    policy = toy_policy(TOKENS, {token: {"": 0.85, ",": 0.05} for token in TOKENS})
    config = NeurologicConfig(max_new_tokens=4, length_penalty=0.0)
    found = decode(*policy, [prefix], Constraints((("c", any_of(wanted)),), excluded), config)[0]
    assert found.completion == completion


@pytest.mark.parametrize(("prefix", "constraints", "sentence"), [
    (" fox", Constraints((("c", any_of("red fox")), ("d", any_of("arts")))), "need 6 new tokens, max_new_tokens is 3"),
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


@pytest.mark.parametrize("own_parts", [True, False])
def test_pruning_by_likelihood_begins_behind_the_users_last_word(own_parts):
    """A "k" would make "8k" of the prefix; as it may not be glued to it, whatever leads to another "8k" is nearer."""
    policy = toy_policy([" fox", " 8", "k", ",", " red"], {" 8": {" red": 0.9, "": 0.05}, " red": {" red": 0.9}})
    config = NeurologicConfig(max_new_tokens=2 + own_parts, beam_size=2, prune_factor=1)
    wanted = Constraints((("c", any_of("8k")),), own_parts=own_parts)
    found = decode(*policy, [" fox, 8"], wanted, config)[0]
    assert found.certificate.holds and found.completion.endswith(", 8k" if own_parts else " 8k")


# Parts of their own --------------------------------------------------------------------------------------------------
GLUED = {" fox": {" oil": 0.9, ",": 0.05}, " oil": {" art": 0.9, ",": 0.05}, " art": {" red": 0.9, "": 0.05},
         " red": {"": 0.9}, ",": {" oil": 0.5, " art": 0.3, " red": 0.1}}
FUSED = (("c", any_of("oil art")), ("d", any_of("art red")))


def test_two_clauses_are_not_met_by_one_fused_phrase_nor_by_words_glued_to_others():
    policy, config = toy_policy(TOKENS, GLUED), NeurologicConfig(max_new_tokens=8)
    own = decode(*policy, [" fox"], Constraints(FUSED), config)[0]
    assert {"art red", "oil art"} <= set(own.prompt.split(", ")) and own.certificate.holds
    words = decode(*policy, [" fox"], Constraints(FUSED), override(config, own_parts=False))[0]
    assert words.completion == " oil art red" and words.certificate.holds
    assert decode(*policy, [" fox"], Constraints(FUSED, own_parts=False), config)[0].completion == words.completion


@pytest.mark.parametrize(("prefix", "completion"), [
    (" fox", ", art"), (" fox,", " art"), (" fox, ", "art"), (" fox,art", ""), (" fox,oil", " art"),
    (" fox, ,", " art")])
def test_a_phrase_is_written_behind_a_comma_and_a_space(prefix, completion):
    """However much likelier the model holds it without: ",art", or a part with nothing in it."""
    probs = {" fox": {",": 0.9}, ",": {"art": 0.8, ",": 0.19, " art": 0.001}, " art": {"": 1.0}, "art": {"": 1.0},
             "oil": {" art": 0.5}, " ,": {"": 1.0}}
    policy = toy_policy([" fox", ",", " art", "art", "oil", " ,", " "], probs)
    wanted = Constraints((("c", any_of("oil art" if "oil" in prefix else "art")),))
    found = decode(*policy, [prefix], wanted, NeurologicConfig(max_new_tokens=6))[0]
    assert found.completion == completion and found.certificate.holds


def test_the_users_own_words_count_wherever_they_stand():
    policy, config = toy_policy(TOKENS, GLUED), NeurologicConfig(max_new_tokens=8)
    assert decode(*policy, [" fox oil art red"], Constraints(FUSED), config)[0].completion == ""


def test_what_one_token_left_cannot_write_is_refused():
    """The letter that would make "cats" of the user's "cat" may not be glued to it."""
    policy = toy_policy([" a", " cat", "s", " cats", ","], {})
    wanted = Constraints((("c", any_of("cats")),), own_parts=False)
    assert decode(*policy, [" a cat"], wanted, NeurologicConfig(max_new_tokens=1))[0].completion == " cats"
    policy = toy_policy([" a", " cat", "s", ","], {})
    with pytest.raises(NpkitError, match="need 2 new tokens, max_new_tokens is 1"):
        decode(*policy, [" a cat"], wanted, NeurologicConfig(max_new_tokens=1))
    assert decode(*policy, [" a cat"], wanted, NeurologicConfig(max_new_tokens=2))[0].completion == " cats"


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
    assert [found.completion for found in decode(*policy(), ["a fox", "a cat"], constraints, config)] == draws[0]


def test_the_price_of_a_clause_is_what_leaving_it_out_saves():
    config = NeurologicConfig(max_new_tokens=5, beam_size=9, sat_tolerance=9)
    wanted = Constraints((("free", any_of("fox")), ("dear", any_of("art"))), ("red",))
    free, dear = prices(*toy_policy(TOKENS, FOX), " fox", wanted, config)
    assert free == pytest.approx(0, abs=1e-4)
    assert dear == pytest.approx(np.log(0.8 * 0.3) - np.log(0.8 * 0.1), abs=1e-3)  # without red and art: oil


@pytest.mark.parametrize(("phrase", "banned"), [
    ("Pokémon", "mon"), ("café", "caf"), ("piñata", "pi"), ("Straße", "e"), ("naïve", "na"), ("красный é", "красны")])
def test_a_ban_that_is_a_piece_of_an_accented_word_lets_it_be_written(phrase, banned):
    found = decode(*policy(), ["a fox"], Constraints((("c", any_of(phrase)),), (banned,)),
                   NeurologicConfig(max_new_tokens=40))[0]
    assert found.certificate.holds and not find(banned, found.prompt)


# Counts, order, and input that is hard to write ----------------------------------------------------------------------
def decoded(constraints, max_new_tokens=40, prefix="a fox", **settings):
    return decode(*policy(), [prefix], constraints, NeurologicConfig(max_new_tokens=max_new_tokens, **settings))[0]


def test_a_clause_may_want_several_phrases_and_no_more():
    phrases = ("oil painting", "4k", "artstation", "greg")
    for least, most in ((2, 2), (3, None), (4, 4), (0, 1)):
        clause = any_of(*phrases, min_count=least, max_count=most)
        found = decoded(Constraints((("c", clause), ("d", any_of("texture")))))
        assert least <= sum(find(phrase, found.prompt) is not None for phrase in phrases) <= (most or 4)
        assert found.certificate.holds


def test_the_words_of_the_prefix_count_too():
    two = any_of("oil painting", "4k", "greg", min_count=2, max_count=2)
    found = decoded(Constraints((("c", two),)), prefix="greg, 4k and a fox")
    assert not find("oil painting", found.completion)
    with pytest.raises(NpkitError, match="or breaking the counts"):
        decoded(Constraints((("c", any_of("greg", "4k", max_count=1)),)), prefix="greg, 4k and a fox")


@pytest.mark.parametrize("order", list(itertools.permutations(("texture", "4k", "oil painting"))))
def test_ordered_clauses_are_met_in_their_order(order):
    wanted = tuple((phrase, any_of(phrase)) for phrase in order)
    found = decoded(Constraints(wanted, ordered=True), prefix="4k texture of a fox")
    results = found.certificate.clauses
    assert [result.satisfied_by.lower() for result in results] == list(order)
    assert all(first.end < second.end for first, second in itertools.pairwise(results))


def test_sets_of_every_kind_share_a_batch():
    sets = [Constraints((("c", any_of("4k")),), ("e",)), Constraints((("c", any_of("4k", "greg", min_count=2)),)),
            Constraints((("c", any_of("4k")), ("d", any_of("greg"))), ordered=True), Constraints()]
    config = NeurologicConfig(max_new_tokens=24, beam_size=3)
    together = decode(*policy(), ["a fox"] * 4, sets, config)
    alone = [decode(*policy(), ["a fox"], each, config)[0] for each in sets]
    assert [found.completion for found in together] == [found.completion for found in alone]
    assert all(found.certificate.holds for found in together)


@pytest.mark.parametrize("phrase", ["城", "大きな木", "красный", "مرحبا", "🔥", "👩‍🎨", "a 🔥 fox", "naïve café",
                                    "oil\npainting", "oil \t painting", "(((best)))", "c++", "50mm f/1.8", "--ar 16:9",
                                    "'quoted'"])
def test_hard_phrases_are_written_when_wanted_and_absent_when_banned(phrase):
    assert decoded(Constraints((("c", any_of(phrase)),)), 60).certificate.clauses[0].holds
    assert decoded(Constraints((("c", any_of("4k")),), (phrase,)), 16).certificate.holds


@pytest.mark.parametrize(("constraints", "sentence"), [
    (Constraints((("c", any_of("")),)), "at least one word"),
    (Constraints((("c", any_of("\n")),)), "at least one word"),
    (Constraints((), ("",)), "at least one word"),
    (Constraints((("c", any_of()),)), "the clause 'c' is empty"),
    (Constraints(tuple((f"c{number}", any_of(f"w{number}")) for number in range(100))),
     "100 clauses are too many: the decoder takes 60"),
    (Constraints((("c", any_of(*(f"w{number}" for number in range(61)), min_count=2)),)), "61 here"),
    (Constraints((("c", any_of(" ".join(["word"] * 200))),)), r"need \d+ new tokens, max_new_tokens is 40"),
    (Constraints((("c", any_of("art", "4k", min_count=3)),)), "wants 3 to 2 of 2 phrases"),
    (Constraints((("c", any_of("art", "4k", min_count=2, max_count=1)),)), "wants 2 to 1 of 2 phrases"),
    (Constraints((("c", any_of("art", "4k", min_count=0, max_count=0)),)), "wants 0 to 0 of 2 phrases"),
    (Constraints((("c", any_of("art", "Art ", "4k", min_count=2)),)), "lists one of them twice"),
    (Constraints((("c", any_of("art", "4k", min_count=2)),), ordered=True), "ordered clauses take no counts: 'c'"),
    (Constraints((("c", any_of("oil art")), ("d", any_of("art"))), ordered=True), "phrases of their own: 'art' .d."),
    (Constraints((("c", any_of("oil art")),), ("ART",)), "'oil art' is required .c. and contains the excluded 'ART'"),
])
def test_bad_constraints_are_one_sentence(constraints, sentence):
    with pytest.raises(NpkitError, match=sentence) as caught:
        decoded(constraints)
    assert "\n" not in str(caught.value)


def test_a_phrase_of_a_hundred_tokens_is_written_where_it_fits():
    constraints = Constraints((("c", any_of(" ".join(["oil art"] * 50))),))
    config = NeurologicConfig(max_new_tokens=101, beam_size=2)
    assert decode(*toy_policy(TOKENS, {}, max_tokens=128), [" fox"], constraints, config)[0].certificate.holds


# Ways to search ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("settings", [{"look_ahead": 1.0}, {"look_ahead": 4.0, "look_ahead_width": 3},
                                      {"sat_tolerance": 0}, {"prune_factor": 5}, {"beam_size": 1}])
def test_every_way_to_search_keeps_the_promise(settings):
    constraints = Constraints((("c", any_of("oil painting", "greg")), ("d", any_of("4k"))), ("e", "art"))
    assert decoded(constraints, 24, **settings).certificate.holds


def test_looking_ahead_prefers_the_word_after_which_the_wanted_one_is_likely():
    """After " red" nothing wanted follows; " oil" is less likely, but " art" comes after it."""
    probs = {" fox": {" red": 0.6, " oil": 0.4}, " red": {" red": 0.98, " art": 0.01}, " oil": {" art": 1.0},
             " art": {"": 1.0}}
    wanted = Constraints((("c", any_of("art")),), own_parts=False)
    narrow = NeurologicConfig(max_new_tokens=3, beam_size=1, partial_weight=0.0, look_ahead_width=3)
    found = [decode(*toy_policy(TOKENS, probs), [" fox"], wanted, override(narrow, look_ahead=weight))[0]
             for weight in (0.0, 2.0)]
    assert found[1].completion == " oil art" and found[1].logprob > found[0].logprob


class NoWaiting(TorchDispatchMode):
    """Counts what would make an accelerator's host wait: values read back, sizes that hang on values."""
    WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.unique", "aten.equal")

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if str(function).startswith(self.WAITS):
            self.waits.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("prefixes", [["a fox"], ["a fox", "trending on a cat"]])
def test_a_step_waits_for_the_device_once(prefixes, monkeypatch):
    monkeypatch.setattr(BeamCache, "on_cpu", False)  # what an accelerator runs
    constraints = [Constraints((("c", any_of("4k", "greg", min_count=2, max_count=2)),), ("e",))] * len(prefixes)
    config = NeurologicConfig(max_new_tokens=12, beam_size=3, length_penalty=1.0)
    vocabulary, jobs = plan(*policy(), prefixes, constraints, config)
    rules, beam, reader = open_search(policy()[0], vocabulary, jobs, config)
    with torch.no_grad(), NoWaiting() as mode:
        run_search(rules, beam, reader, torch.Generator())
    assert len(mode.waits) == beam.length - 1 > 5  # the end check; the last step needs none
    monkeypatch.undo()
    assert torch.equal(search(policy()[0], vocabulary, jobs, config).best_tokens, beam.best_tokens)


def other_policy(kind):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    _, tokenizer = policy()
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), max_position_embeddings=128, **sizes,
        **({"num_key_value_heads": 1} if kind != "gpt_neox" else {}))).eval(), tokenizer


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "mistral"])
def test_other_architectures_decode_alike_alone_and_in_a_batch(kind):
    model, tokenizer = other_policy(kind)
    constraints = Constraints((("c", any_of("oil painting", "4k")),), ("e",))
    config = NeurologicConfig(max_new_tokens=16, beam_size=3)
    together = decode(model, tokenizer, ["a fox", "trending on a cat"], constraints, config)
    alone = [decode(model, tokenizer, [found.prefix], constraints, config)[0] for found in together]
    assert [found.completion for found in together] == [found.completion for found in alone]
    for found in together:
        assert found.certificate.holds
        assert found.num_tokens <= 16 and np.isfinite(found.logprob)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "mistral"])
def test_phrases_read_as_one_tree_cost_what_each_costs_alone(kind):
    model, tokenizer = policy() if kind == "gpt2" else other_policy(kind)
    costs = phrase_costs(model, tokenizer, 3 * PHRASES + [f"{phrase} {number}" for phrase in PHRASES
                                                          for number in range(3)])
    assert len(costs) == 4 * len(PHRASES)  # more than one tree
    for phrase, cost in costs.items():
        ids = [*tokenizer.encode(","), *tokenizer.encode(f" {phrase}")]
        expected = -float(token_logprobs(model, [ids])[0].sum())
        assert sum(loss for _, loss in cost[:-1]) == pytest.approx(expected, rel=1e-4), phrase


def test_a_model_without_keys_and_values_is_refused():
    _, tokenizer = policy()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        "mamba", vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4))
    constraints = Constraints((("c", any_of("oil painting")),))
    with pytest.raises(NpkitError, match="MambaForCausalLM keeps no keys and values"):
        decode(model, tokenizer, ["a fox"], constraints, NeurologicConfig(max_new_tokens=9))


# transformers' own door ----------------------------------------------------------------------------------------------
def test_generate_gives_what_decode_gives():
    model, tokenizer = policy()
    constraints = Constraints((("c", any_of("oil painting", "4k")), ("d", any_of("artstation"))), ("e",))
    texts = ["a fox", "trending on a cat"]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    output = model.generate(**inputs, num_beams=6, max_new_tokens=16, num_return_sequences=2, length_penalty=0.0,
                            custom_generate=neurologic_generate(tokenizer, constraints), return_dict_in_generate=True)
    assert output.sequences.shape == (4, inputs["input_ids"].shape[1] + 16)
    config = NeurologicConfig(max_new_tokens=16, beam_size=6)
    expected = [each for row in decode_best(model, tokenizer, texts, constraints, config, 2) for each in row]
    assert tokenizer.batch_decode(output.sequences, skip_special_tokens=True) == [each.prompt for each in expected]
    np.testing.assert_allclose(output.sequences_scores, [each.logprob for each in expected], rtol=1e-4)
    plain = model.generate(**tokenizer("a fox", return_tensors="pt"), num_beams=6, max_new_tokens=16,
                           length_penalty=0.0, custom_generate=neurologic_generate(tokenizer, constraints))
    assert tokenizer.decode(plain[0], skip_special_tokens=True) == expected[0].prompt


def test_generate_takes_policies_as_training_writes_them(tmp_path):
    sizes = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=320, max_prompt_tokens=64)
    model, tokenizer = build_policy(sizes, PHRASES, seed=0)
    data = Dataset.from_dict({"prompt": ["a fox, pixel art", "a cat, 8k"] * 4, "split": ["sft", "validation"] * 4})
    train_sft(model, tokenizer, data, SFTConfig(max_steps=1, batch_size=4), seed=0, folder=tmp_path / "scratch",
              max_prompt_tokens=64)
    save_policy(model, tokenizer, tmp_path / "model")
    model, tokenizer = load_policy(tmp_path / "model")
    assert model.generation_config.suppress_tokens == [tokenizer.pad_token_id]
    wanted = Constraints((("format", any_of("pixel art", "oil painting")),), excluded=("8k",))
    output = model.generate(**tokenizer(["a fox"], return_tensors="pt"), num_beams=5, max_new_tokens=40,
                            length_penalty=0.0, custom_generate=neurologic_generate(tokenizer, wanted))
    (expected,) = decode(model, tokenizer, ["a fox"], wanted, NeurologicConfig(max_new_tokens=40, beam_size=5))
    assert tokenizer.decode(output[0], skip_special_tokens=True) == expected.prompt


@pytest.mark.parametrize(("settings", "said"), [
    ({"repetition_penalty": 1.2}, "takes no logits processor, got RepetitionPenaltyLogitsProcessor"),
    ({"suppress_tokens": [0, 1]}, "cannot suppress the token 0, which writes '<.endoftext.>'"),
    ({"suppress_tokens": [1, 9]}, "cannot suppress the token 9, which writes '.': list phrases in `excluded` instead")])
def test_generate_refuses_what_would_undo_the_promise(settings, said):
    model, tokenizer = policy()
    with pytest.raises(NpkitError, match=said):
        model.generate(**tokenizer("a fox", return_tensors="pt"), num_beams=2, max_new_tokens=4, **settings,
                       custom_generate=neurologic_generate(tokenizer, Constraints()))


def test_generate_refuses_the_published_behaviours():
    with pytest.raises(NpkitError, match="compat lu2021 is for npkit's own decode"):
        neurologic_generate(policy()[1], Constraints(), NeurologicConfig(max_new_tokens=4, compat="lu2021"))


# Letters of several tokens -------------------------------------------------------------------------------------------
def test_a_space_that_is_a_token_of_its_own_is_paid_for():
    """The space before "🔥" costs 6 of 10 nats: not credited, it would be put off to the last tokens."""
    compiled = compile_constraints(Constraints((("c", any_of("🔥")), ("d", any_of("oil")))),
                                   read_vocabulary(policy()[1], policy()[0].config.vocab_size)).compiled
    costs = {"🔥": [(1, 6.0), *[(1, 1.0)] * 4], "oil": [(4, 10.0)]}
    share = shares(compiled, costs, 2)
    comma, space, half = (share[compiled.machine.read_text(text)[0]].tolist()
                          for text in ("a fox,", "a fox, ", "a fox, oi"))
    assert comma == [0, 0] and space == pytest.approx([0.6, 0]) and half == pytest.approx([0, 0.75])


@pytest.mark.parametrize("phrase", ["rené magritte", "zdzisław beksiński", "l’été", "水彩画", "красный", "👩‍🎨",
                                    "🔥 城", "émile",
                                    "dvořák"])
def test_letters_of_several_tokens_are_written_at_once(phrase):
    model, tokenizer = policy()
    found = decode(model, tokenizer, ["a fox"], Constraints((("c", any_of(phrase)),)),
                   NeurologicConfig(max_new_tokens=60))[0]
    (at_once,) = sequence_logprobs(model, tokenizer, ["a fox"], [f", {phrase}"])
    assert found.logprob > at_once - 10 and found.certificate.holds
    assert found.prompt.lower().count(phrase.lower()) == 1


def test_a_form_in_fewer_tokens_is_proposed_and_costs_what_it_costs():
    texts = ["a fox, Zdzisław Beksiński, by René Magritte", "an old man, Józef Chełmoński"] * 20
    model, tokenizer = build_policy(PolicyConfig(num_layers=2, hidden_size=32, vocab_size=600), texts, seed=0)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(8)  # each token is dear, and three times as many are dearer
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    for phrase in ("zdzisław beksiński", "rené magritte", "józef chełmoński", "chełmoński"):
        assert short_forms(phrase, vocabulary) == (phrase, string.capwords(phrase))
        assert short_forms(string.capwords(phrase), vocabulary) == (string.capwords(phrase),)
        (found,) = decode(model, tokenizer, ["a fox"], Constraints((("c", any_of(phrase)),)),
                          NeurologicConfig(max_new_tokens=40))
        at_once = sequence_logprobs(model, tokenizer, ["a fox"] * 2, [f", {phrase}", f", {string.capwords(phrase)}"])
        assert found.logprob > max(at_once) - 10 and max(at_once) == at_once[1]


@pytest.mark.parametrize(("wanted", "excluded", "limit", "completion", "probability"), [
    ((), (), 9, ",é", 0.9 * 0.2), ((), (), 2, ",", 0.06),  # likelier: half a character, and then the end
    ((), ("é",), 9, ",è", 0.9 * 0.1), ((), ("é", "è"), 9, ",", 0.06), ((), (",é", ",è"), 2, ",", 0.06),
    ((("c", any_of("é")),), (",é",), 4, ", é", 0.04 * 0.01 * 0.2), ((("c", any_of("è")),), ("é",), 3, ",è", 0.9 * 0.1)])
def test_a_character_that_is_begun_is_completed(wanted, excluded, limit, completion, probability):
    first, *last = bytes_to_unicode()[0xC3], bytes_to_unicode()[0xA9], bytes_to_unicode()[0xA8]  # of "é" and "è"
    tokens = [" fox", ",", " ", first, *last]
    model, tokenizer = toy_policy(tokens, {
        " fox": {",": 1.0}, ",": {first: 0.9, "": 0.06, " ": 0.04}, " ": {first: 0.01, "": 0.99},
        first: {"": 0.7, last[0]: 0.2, last[1]: 0.1}, last[0]: {"": 1.0}, last[1]: {"": 1.0}})
    config = NeurologicConfig(max_new_tokens=limit, own_parts=False)
    found = decode(model, tokenizer, [" fox"], Constraints(wanted, excluded), config)[0]
    assert found.completion == completion and found.logprob == pytest.approx(np.log(probability), abs=1e-4)


# What a user may hand in by mistake ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("prefixes", "changes", "options", "said"), [
    ("a fox", {}, {}, "prefixes are a list of texts"), ([None], {}, {}, "prefixes are a list of texts"),
    (["\ud800"], {}, {}, "prefixes are a list of texts"), (["fox"], {"beam_size": 0}, {}, "are at least 1, got 0 and"),
    (["fox"], {"max_new_tokens": 0}, {}, "are at least 1, got 5 and 0"),
    (["fox"], {}, {"batch_size": 0}, "are at least 1, got 1 and 0"),
])
def test_wrong_arguments_are_one_sentence(prefixes, changes, options, said):
    config = override(NeurologicConfig(max_new_tokens=4), **changes)
    with pytest.raises(NpkitError, match=said):
        decode(*toy_policy(TOKENS, {}), prefixes, Constraints(), config, **options)


@pytest.mark.parametrize("constraints", [None, [Constraints()] * 2, ["8k"]])
def test_constraints_are_one_for_all_or_one_each(constraints):
    with pytest.raises(NpkitError, match="one Constraints for all 1 prefixes or one for each"):
        decode(*toy_policy(TOKENS, {}), ["fox"], constraints, NeurologicConfig(max_new_tokens=4))


@pytest.mark.parametrize("blank", list(INVISIBLE))
def test_no_ban_begins_before_an_invisible_character(blank):
    """A ban that the prefix has begun goes on behind it: what would complete it is refused or avoided."""
    policy = toy_policy((" art", " oil", ","), {" art": {"": 0.9}})
    wanted = Constraints((("a", any_of("art")),), ("oil art",), own_parts=False)
    found, = decode(*policy, [f" oil{blank}"], wanted, NeurologicConfig(max_new_tokens=3))
    assert found.certificate.holds and found.completion.startswith(","), found.completion
    with pytest.raises(NpkitError, match="need 2 new tokens"):
        decode(*policy, [f" oil{blank}"], wanted, NeurologicConfig(max_new_tokens=1))


def test_a_ban_with_a_full_width_comma_is_met_in_the_prefix_as_well():
    policy = toy_policy((" oil", ","), {" oil": {"": 0.9}})
    found, = decode(*policy, [" oil，"], Constraints((("a", any_of("oil")),), ("oil， oil",), own_parts=False),
                    NeurologicConfig(max_new_tokens=4))
    assert found.certificate.holds and "oil" not in found.completion  # the user's own word meets the clause
