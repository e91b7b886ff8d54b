"""Published behaviours: token for token what a plain reference gives, defects included, and where ours differs."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_neurologic import Reference, decode_one
from test_neurologic_properties import PREFIXES, policy, random_constraints

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic import Constraints, any_of, certify, decode, decode_best
from npkit.neurologic.published import BEHAVIOURS, Beam, Candidates, Rules, decode_as_set, decode_published, spell
from npkit.neurologic.token_automaton import compile_phrases, join
from npkit.neurologic.toy import toy_policy
from npkit.study.profiles import COMPAT, NeurologicConfig, load_profile

NEW_TOKENS = 14


def reference(tokenizer, constraints, behaviour, beam_size):
    """Return the plain reference of one prefix's constraints."""
    vocab = tokenizer.get_vocab()
    clauses, banned = spell(tokenizer, constraints, behaviour)
    eos = {tokenizer.eos_token_id, *(vocab[token] for token in behaviour.end_tokens if token in vocab)}
    never = {vocab[token] for token in behaviour.bad_tokens if token in vocab}
    never |= set(tokenizer.all_special_ids) - {tokenizer.eos_token_id}
    return Reference(list(clauses), list(banned), behaviour, eos, never, beam_size)


def often_ending(behaviour, rng):
    """Return `behaviour` with so many end tokens that texts do end, early and unsatisfied ones too."""
    tokens = rng.choice(sorted(policy()[1].get_vocab()), rng.integers(10, 200), replace=False)
    return replace(behaviour, end_tokens=(".", *map(str, tokens)), min_new_tokens=int(rng.integers(0, 6)),
                   sat_tolerance=int(rng.integers(0, 3)))


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_equals_the_reference_token_for_token(name):
    model, tokenizer = policy()
    rng = np.random.default_rng(0)
    lengths, satisfied = [], []
    for number in range(30):
        behaviour = often_ending(BEHAVIOURS[name], rng) if number % 2 else BEHAVIOURS[name]
        beam_size = int(rng.integers(2, 7))
        prefixes = [str(prefix) for prefix in rng.choice(PREFIXES, 2, replace=False)]
        sets = [random_constraints(rng, prefix, plain=True) for prefix in prefixes]
        ids = [tokenizer.encode(prefix) for prefix in prefixes]
        found = decode_published(model, tokenizer, ids, sets, behaviour, beam_size, NEW_TOKENS)
        for prefix, constraints, tokens, length, logprob in zip(ids, sets, found[0].tolist(), *found[1:]):
            rules = reference(tokenizer, constraints, behaviour, beam_size)
            expected, expected_logprob = decode_one(model, rules, prefix, NEW_TOKENS)
            assert tokens == expected + [tokenizer.eos_token_id] * (NEW_TOKENS - len(expected))
            assert logprob == pytest.approx(expected_logprob, abs=1e-3)
            assert length == len(expected)
            lengths.append(len(expected))
            text = tokenizer.decode([*prefix, *expected])
            satisfied.append(certify(replace(constraints, own_parts=False), text).holds)
    assert len(lengths) == 60 and len(set(lengths)) > 4 and NEW_TOKENS in lengths  # both ends are put to the test
    assert 0 < sum(satisfied) < len(satisfied)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_batch_gives_what_each_prefix_gives_alone(name):
    model, tokenizer = policy()
    rng = np.random.default_rng(1)
    sets = [random_constraints(rng, prefix, plain=True) for prefix in PREFIXES]
    ids = [tokenizer.encode(prefix) for prefix in PREFIXES]
    together, _, logprobs = decode_published(model, tokenizer, ids, sets, BEHAVIOURS[name], 3, NEW_TOKENS)
    for prefix, constraints, tokens, logprob in zip(ids, sets, together, logprobs):
        alone = decode_published(model, tokenizer, [prefix], [constraints], BEHAVIOURS[name], 3, NEW_TOKENS)
        assert torch.equal(alone[0][0], tokens)
        assert logprob == pytest.approx(alone[2][0], rel=1e-4)


# The defects, on texts that can be written down ----------------------------------------------------------------------
CONCEPT = [" fox", " concept", " art", "station", ","]
STATION = {" fox": {",": 0.9, "": 0.1}, ",": {" concept": 0.9}, " concept": {" art": 0.9}, " art": {"station": 0.9},
           "station": {"": 0.9}}
TEXT = [" fox", " text", " te", "xt", " Text", ",", "ure"]
ENDS = {",": {"": 0.9}, " text": {"": 0.9}, " te": {"xt": 0.9}, "xt": {"": 0.9}, " Text": {"": 0.9}, "ure": {"": 0.9}}
NO_TEXT = Constraints(excluded=("text",))


def both(tokens, probs, constraints, name, beam_size=3, max_new_tokens=6, **changes):
    """Return what a published behaviour, free to end at once, and ours make of " fox"."""
    model, tokenizer = toy_policy(tokens, probs)
    behaviour = replace(BEHAVIOURS[name], **{"min_new_tokens": 0, **changes})
    ids = [tokenizer.encode(" fox")]
    found, _, _ = decode_published(model, tokenizer, ids, [constraints], behaviour, beam_size, max_new_tokens)
    config = NeurologicConfig(max_new_tokens=max_new_tokens, beam_size=beam_size)
    ours = decode(model, tokenizer, [" fox"], constraints, config)[0]
    assert ours.certificate.holds
    return " fox" + tokenizer.decode(found[0], skip_special_tokens=True), ours.prompt


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_word_boundary_is_ignored(name):
    constraints = Constraints((("style", any_of("concept art")),), own_parts=False)
    published, ours = both(CONCEPT, STATION, constraints, name)
    assert (published, ours) == (" fox, concept artstation", " fox, concept art")
    assert not certify(constraints, published).holds


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_banned_phrase_slips_through_in_other_tokens(name):
    probs = {" fox": {" text": 0.6, " te": 0.3, " Text": 0.05}, **ENDS}
    published, ours = both(TEXT, probs, NO_TEXT, name)
    assert (published, ours) == (" fox text", " fox")
    assert certify(NO_TEXT, published).violations == ("text",)


def test_a_banned_phrase_slips_through_in_other_capitals():
    probs = {" fox": {" Text": 0.6, " text": 0.2, ",": 0.1}, **ENDS}
    assert both(TEXT, probs, NO_TEXT, "lu2021") == (" fox Text", " fox,")
    assert both(TEXT, probs, NO_TEXT, "neuroprompts") == (" fox,", " fox,")  # the fork bans Title Case as well
    capitals = [" TEXT" if token == " Text" else token for token in TEXT]
    probs = {" fox": {" TEXT": 0.6, " text": 0.2, ",": 0.1}, **ENDS, " TEXT": {"": 0.9}}
    assert both(capitals, probs, NO_TEXT, "neuroprompts") == (" fox TEXT", " fox,")


def test_a_banned_phrase_forbids_longer_words():
    probs = {" fox": {" text": 0.9, ",": 0.05}, **ENDS, " text": {"ure": 0.9}}
    # ours lets "texture" begin only where some token is sure to turn "text" into another word: "s"
    assert both([*TEXT, "s"], probs, NO_TEXT, "lu2021") == (" fox,", " fox texture")


def test_an_unsatisfied_text_ends_and_wins():
    probs = {" fox": {"": 0.9, " red": 0.05, ",": 0.05}, " red": {"": 0.9, ",": 0.1}, ",": {" red": 0.9, "": 0.1},
             " oil": {"": 0.9}}
    constraints = Constraints((("medium", any_of("oil")),), own_parts=False)
    assert both([" fox", " red", " oil", ","], probs, constraints, "lu2021", 2, 8) == (" fox", " fox oil")


def test_a_phrase_just_begun_ranks_above_one_nearly_written():
    model, tokenizer = toy_policy(TEXT, {})
    machine = join([compile_phrases((((1, 2, 3, 4),),), ())])
    rules = Rules.of(machine, BEHAVIOURS["lu2021"], model, tokenizer)
    beam = Beam.start(rules, [[0]], 2, 4)
    zeros = torch.zeros(1, 5, dtype=torch.long)
    node = torch.arange(5)[None]  # nothing in hand, then one, two, three, four of the four tokens
    candidates = Candidates(zeros, zeros, zeros.float(), node, zeros, zeros, zeros)
    rank = rules.rank(beam, candidates, machine.full[:, None] & ~zeros)
    expected = [[0, 1.25 * np.log(4), 1.25 * np.log(2), 1.25 * np.log(4 / 3), 0]]
    np.testing.assert_allclose(rank, expected, atol=1e-9)


def test_the_fork_writes_one_phrase_of_a_clause_and_no_hyphen():
    tokens = [" fox", " oil", " ink", ",", " close", "-", "up"]
    probs = {" fox": {" oil": 0.9}, " oil": {" ink": 0.9, ",": 0.05}, " ink": {"": 0.9}, ",": {"": 0.9}}
    clause = Constraints((("medium", any_of("oil", "ink")),))
    assert both(tokens, probs, clause, "neuroprompts")[0] == " fox oil,"
    assert both(tokens, probs, clause, "neuroprompts", once=False)[0] == " fox oil ink"
    model, tokenizer = toy_policy(tokens, {" fox": {" close": 0.9}, " close": {"-": 0.9}, "-": {"up": 0.9}})
    for bad_tokens, written in ((BEHAVIOURS["neuroprompts"].bad_tokens, False), ((), True)):
        behaviour = replace(BEHAVIOURS["neuroprompts"], bad_tokens=bad_tokens)
        found, _, _ = decode_published(model, tokenizer, [[0]], [Constraints()], behaviour, 3, 6)
        assert (tokenizer.encode("-")[0] in found[0].tolist()) == written


# The parts -----------------------------------------------------------------------------------------------------------
def test_phrases_are_spelled_as_published():
    _, tokenizer = policy()
    constraints = Constraints((("artist", any_of("Greg Rutkowski")),), ("text",))
    given, small, title = (tuple(tokenizer.encode(text)) for text in (" Greg Rutkowski", " greg rutkowski", " Text"))
    assert spell(tokenizer, constraints, BEHAVIOURS["lu2021"]) == (((given,),), (tuple(tokenizer.encode(" text")),))
    assert spell(tokenizer, constraints, BEHAVIOURS["neuroprompts"]) == (
        ((small, given),), (tuple(tokenizer.encode(" text")), title))


def test_automaton_reads_phrases_inside_phrases():
    one = compile_phrases((((5, 6, 7),), ((6, 7), (6, 7, 8, 9))), ((7, 9),))
    machine = join([one, compile_phrases((), ()), one])
    node, ends, begun, share = machine.root, [], [], []
    for token in (5, 6, 7, 8, 9, 5, 7, 9):
        node = machine.read(node[:, None], torch.full((3, 1), token))[:, 0]
        assert node[1] == machine.root[1] and node[0] == node[2]  # no phrases: always the root
        ends.append(int(machine.ends[node[0]]))
        begun.append(int(machine.begun[node[0]]))
        share.append(machine.progress[node[0]].tolist())
    assert ends == [0, 0, 0b11, 0, 0b10, 0, 0, 1 << 62]  # the banned phrase has the bit above all clauses
    assert begun == [0b01, 0b11, 0b11, 0b10, 0b10, 0b01, 0, 0]
    assert share[:4] == [[1 / 3, 0], [2 / 3, 1 / 2], [1, 1], [0, 3 / 4]]


@pytest.mark.parametrize(("ids", "beam_size", "error", "sentence"), [
    ([[0]], 1, NpkitError, "beam of 2 or more, got 1"), ([[0], []], 2, NpkitError, "prefix is empty"),
    ([[0] * 31], 2, PrefixTooLong, "31 tokens, the policy takes 28")])
def test_errors_before_decoding(ids, beam_size, error, sentence):
    model, tokenizer = toy_policy(TEXT, {})
    with pytest.raises(error, match=sentence):
        decode_published(model, tokenizer, ids, [Constraints()] * len(ids), BEHAVIOURS["lu2021"], beam_size, 4)


# As settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_setting_chooses_the_published_behaviour(name):
    model, tokenizer = policy()
    config = NeurologicConfig(max_new_tokens=NEW_TOKENS, beam_size=3, compat=name)
    wanted = Constraints((("c", any_of("art")),), ("4k",))
    found = decode_as_set(model, tokenizer, ["a fox", "a cat -"], wanted, config)
    for each, tokens in zip(found, [tokenizer.encode(each.prefix) for each in found]):
        expected, _, (logprob,) = decode_published(model, tokenizer, [tokens], [wanted], BEHAVIOURS[name], 3,
                                                   NEW_TOKENS)
        assert each.completion == tokenizer.decode(expected[0], skip_special_tokens=True)
        assert each.logprob == pytest.approx(logprob, rel=1e-4)
        assert each.certificate == certify(wanted, each.prompt, each.prefix)
    assert set(COMPAT) == {"", *BEHAVIOURS}
    ours = replace(config, compat="")
    assert decode_as_set(model, tokenizer, ["a fox"], wanted, ours) == decode(model, tokenizer, ["a fox"], wanted, ours)


@pytest.mark.parametrize("constraints", [
    Constraints((("c", any_of("art", "4k", min_count=2)),)), Constraints((("c", any_of("art")),), ordered=True)])
def test_what_the_published_code_cannot_do_is_refused(constraints):
    config = NeurologicConfig(max_new_tokens=4, beam_size=3, compat="lu2021")
    with pytest.raises(NpkitError, match="neither counts nor an order"):
        decode_as_set(*policy(), ["a fox"], constraints, config)
    with pytest.raises(NpkitError, match="compat lu2021 decodes as published, which promises nothing"):
        decode_best(*policy(), ["a fox"], Constraints(), config, 1)


def test_an_unknown_behaviour_is_refused():
    with pytest.raises(NpkitError, match="compat is empty or one of lu2021, neuroprompts, got 'lu2022'"):
        load_profile("tiny", {"neurologic.compat": "lu2022"})
