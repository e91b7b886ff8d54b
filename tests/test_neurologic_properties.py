"""What NeuroLogic decoding promises, on thousands of random constraint sets: judged on the text, by other code."""
import itertools
import re
from functools import cache

import numpy as np
import pytest
import torch

from npkit.errors import NpkitError
from npkit.neurologic import Clause, Constraints, any_of, decode, find
from npkit.neurologic.decoding import plan
from npkit.neurologic.goals import FAR
from npkit.neurologic.machine import BAN, START
from npkit.neurologic.plans import compile_constraints
from npkit.neurologic.toy import toy_policy
from npkit.neurologic.vocabulary import read_vocabulary
from npkit.study.profiles import NeurologicConfig, PolicyConfig, override
from npkit.text.policy import build_policy

PHRASES = ["art", "art nouveau", "concept art", "artstation", "trending on artstation", "4k", "8k", "14k", "text",
           "texture", "ukiyo-e", "highly detailed", "Greg Rutkowski", "greg", "rené magritte", "d&d", "🔥", "城", "a_b",
           "by van gogh", "oil painting", "painting", "dark oil painting", "e", "s", "a", "of", "(sic)", "Straße"]
PREFIXES = ["a fox", "Concept", "an oil", "the context,", "a 1", "a cat -", "straßen", "trending on", "a \"quote\""]
BARE = ("🔥", "城", "(sic)", ",")  # no letters of an alphabet at the edges: found anywhere


@cache
def policy():
    """A GPT-2 with random weights and a BPE of its own: it has no idea, so every rule is put to the test."""
    model, tokenizer = build_policy(PolicyConfig(num_layers=2, hidden_size=32, vocab_size=400), 3 * PHRASES, seed=0)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(8)  # far from uniform: some tokens are very likely
    return model.eval(), tokenizer


def ends(phrase, text):
    """Return where `phrase` ends in `text` as whole words: an independent reading of "occurs"."""
    edges = ("", "") if phrase in BARE else (r"(?<!\w)", r"(?!\w)")
    pattern = re.compile("(?=" + edges[0] + f"({re.escape(phrase)})" + edges[1] + ")", re.IGNORECASE)
    return [match.end(1) for match in pattern.finditer(text)]


def part_ends(phrase, text):
    """Return where `phrase` ends in `text` as a part of its own between commas: an independent reading."""
    found, end = [], -1
    for part in text.split(","):
        start, end = end + 1, end + 1 + len(part)
        if part.strip().lower() == phrase.lower():
            found.append(start + len(part.rstrip()))
    return found


def counted_ends(phrase, text, prefix, own_parts):
    """Return where `phrase` ends in `text` where it counts as wanted: words of the prefix, and parts behind it."""
    if not own_parts:
        return ends(phrase, text)
    own = [end for end in ends(phrase, text) if end <= len(prefix)]
    return own + [end for end in part_ends(phrase, text) if end > len(prefix)]


def holds(constraints, text, prefix):
    """Say whether `text`, which begins with the user's `prefix`, meets `constraints`: clauses, counts, order, bans."""
    found = [[counted_ends(literal.phrase, text, prefix, constraints.own_parts) for literal in clause]
             for _, clause in constraints.wanted]
    for places, (_, clause) in zip(found, constraints.wanted):
        words = sum(bool(ends(literal.phrase, text)) for literal in clause)
        if sum(map(bool, places)) < clause.min_count or clause.max_count is not None and words > clause.max_count:
            return False
    behind = 0
    for places in found if constraints.ordered else ():
        later = [end for end in itertools.chain(*places) if end > behind]
        if not later:
            return False
        behind = min(later)
    return not any(ends(phrase, text) for phrase in constraints.excluded)


def well_spaced(prefix, completion):
    """Say whether each comma of the completion, and one at the end of the prefix, has a space and a part behind it."""
    return not re.search(r",[^ ]|, *,", prefix[len(prefix.rstrip(", ")):] + completion)


def random_clause(rng, phrases, plain):
    """Return a clause of some of `phrases`; one in three counts, unless all are to be `plain`."""
    chosen = [str(phrase) for phrase in rng.choice(phrases, rng.integers(1, min(4, len(phrases)) + 1), replace=False)]
    if plain or rng.random() < 0.67:
        return any_of(*chosen)
    least = int(rng.integers(0, min(2, len(chosen)) + 1))
    most = int(rng.integers(max(1, least), len(chosen) + 1))
    return any_of(*chosen, min_count=least, max_count=most if rng.random() < 0.7 else None)


def random_constraints(rng, prefix, phrases=PHRASES, most_excluded=5, most_clauses=4, plain=False):
    """Return random clauses, counts, order (not if `plain`) and bans without a contradiction."""
    excluded = [str(phrase) for phrase in rng.choice(phrases, rng.integers(0, most_excluded + 1), replace=False)]
    excluded = [phrase for phrase in excluded if not find(phrase, prefix)]
    left = [phrase for phrase in phrases if not any(find(banned, phrase) for banned in excluded)]
    own_parts = bool(rng.random() < 0.7)
    left = [phrase for phrase in left if phrase != "," or not own_parts]
    clauses = [random_clause(rng, left, plain) for _ in range(rng.integers(0, most_clauses + 1))] if left else []
    wanted = tuple((f"clause {number}", clause) for number, clause in enumerate(clauses))
    if not plain and rng.random() < 0.3:
        own = [Clause(clause.literals[:1]) for clause in clauses]
        own = [clause for number, clause in enumerate(own) if not any(
            find(clause.literals[0].phrase, other.literals[0].phrase) or
            find(other.literals[0].phrase, clause.literals[0].phrase) for other in own[:number])]
        wanted = tuple((f"step {number}", clause) for number, clause in enumerate(own))
        return Constraints(wanted, tuple(excluded), ordered=True, own_parts=own_parts)
    return Constraints(wanted, tuple(excluded), own_parts=own_parts)


def test_two_thousand_random_constraint_sets_hold_on_the_text():
    rng = np.random.default_rng(0)
    config = NeurologicConfig(max_new_tokens=40, beam_size=2)
    jobs, refused, kinds = [], [], np.zeros(4)
    while len(jobs) < 2_000:
        prefix = PREFIXES[len(jobs) % len(PREFIXES)]
        constraints = random_constraints(rng, prefix)
        try:
            plan(*policy(), [prefix], [constraints], config)
        except NpkitError as error:
            refused.append((prefix, constraints, str(error)))
        else:
            jobs.append((prefix, constraints))
    for (prefix, constraints), found in zip(jobs, decode(*policy(), *zip(*jobs), config, batch_size=250)):
        assert found.prompt == prefix + found.completion and "\n" not in found.prompt  # the user's words to the letter
        assert not prefix[-1].isalnum() or not found.completion[:1].isalnum()
        assert holds(constraints, found.prompt, prefix), (found.prompt, constraints)
        assert not constraints.own_parts or well_spaced(prefix, found.completion), found.prompt
        assert found.certificate.holds and np.isfinite(found.logprob)
        kinds += [len(constraints.wanted), len(constraints.excluded), constraints.ordered,
                  any(clause.capped for _, clause in constraints.wanted)]
    assert (kinds > [2_000, 2_000, 300, 200]).all()
    assert 0 < len(refused) < 8
    for prefix, constraints, error in refused:
        text = simple_text(constraints, prefix)
        if "no way is known" in error:  # which is said where plans collide and the sets of bits are too many only
            bits = sum(clause.bits for _, clause in constraints.wanted)
            assert bits > 14 and any(clause.capped for _, clause in constraints.wanted)
        else:  # "e" and "s" are avoided beside letters beyond ASCII too, on the safe side
            assert "Straße" in (text or "Straße"), constraints
    assert sum("no way is known" in error for *_, error in refused) < 3


def simple_text(constraints, prefix):
    """Return a text that meets `constraints` with as few phrases as they ask for, or None."""
    choices = [itertools.combinations([literal.phrase for literal in clause], clause.min_count)
               for _, clause in constraints.wanted]
    texts = (", ".join([prefix, *itertools.chain(*chosen)]) for chosen in itertools.product(*choices))
    return next((text for text in texts if holds(constraints, text, prefix)), None)


def test_one_more_token_always_brings_the_end_one_token_nearer():
    """From every state that any text leads to, a proposed token lowers the need: the promise, by induction."""
    rng = np.random.default_rng(1)
    vocabulary = read_vocabulary(policy()[1], policy()[0].config.vocab_size)
    tried = 0
    while tried < 40:
        tracker = compile_constraints(random_constraints(rng, "a fox", most_clauses=3), vocabulary).tracker
        machine, goals = tracker.machine, tracker.goals
        if len(goals.bit) > 6:
            continue
        tried += 1
        node, met = torch.tensor(sorted(reached(machine, goals))).T[:, None]
        need = needed(tracker, node, met)
        width = machine.next_node.shape[1]
        many, gained = met.repeat_interleave(width, 1), machine.next_gains[node].flatten(1)
        met_after = goals.gain(many, gained, machine.pending[node].repeat_interleave(width, 1))
        after = needed(tracker, machine.next_node[node].flatten(1), met_after).masked_fill(gained & BAN != 0, FAR)
        after = after.view(-1, width).amin(1)
        open_states = (need[0] > 0) & (need[0] < FAR)
        assert (after < need[0])[open_states].all()
        assert goals.done(goals.at_end(met, machine.pending[node]))[need == 0].all()


LETTERS = ["é", "É", "è", "rené", "ren", "Hervé", "by Hervé", "par hervé", "łódź", "ł", "城", "城市", "油絵", "🔥",
           "🔥🔥", "👩‍🎨", "’", "l’été", "ren é", "été", "красный", "水彩画 🔥", "Straße", "¿"]


def test_no_character_is_left_half_written():
    """Wanted and banned phrases share the first bytes of their letters, with and without the comma before them."""
    rng = np.random.default_rng(5)
    config = NeurologicConfig(max_new_tokens=24, beam_size=2)
    banned = [before + phrase for before in ("", ",", ", ") for phrase in LETTERS]
    jobs, refused = [], 0
    while len(jobs) < 600:
        prefix = ("a fox", "a fox,", "rené", "a 城", "l’")[len(jobs) % 5]
        excluded = tuple(each for each in map(str, rng.choice(banned, rng.integers(0, 5))) if not find(each, prefix))
        left = [phrase for phrase in LETTERS if not any(find(each, phrase) for each in excluded)]
        wanted = tuple((str(number), random_clause(rng, left, plain=True)) for number in range(rng.integers(0, 3)))
        constraints = Constraints(wanted, excluded, own_parts=bool(rng.random() < 0.7))
        limited = override(config, max_new_tokens=int(rng.choice([8, 14, 24])))
        try:
            plan(*policy(), [prefix], [constraints], limited)
        except NpkitError:
            refused += 1
        else:
            jobs.append((prefix, constraints, limited))
    assert refused < 250
    for limited in dict.fromkeys(limited for *_, limited in jobs):
        prefixes, sets, _ = zip(*(job for job in jobs if job[2] == limited))
        for found, constraints in zip(decode(*policy(), prefixes, sets, limited), sets):
            assert "\ufffd" not in found.completion and found.certificate.holds, (found.prompt, constraints)


def needed(tracker, node, met):
    return tracker.plans.assess(tracker.goals, tracker.machine.pending[node], node, met)[0]


def reached(machine, goals):
    """Return the states (node, bits met) of all texts without a banned phrase or one phrase too many."""
    states, new = set(), {(START, 0)}
    while new:
        states |= new
        node, met = (torch.tensor(each)[None].repeat_interleave(256, 1) for each in zip(*new))
        byte = torch.arange(256).repeat(len(new))[None]
        gained = machine.gains[node, byte]
        met_after = goals.gain(met, gained, machine.pending[node])
        at_end = goals.at_end(met_after, machine.pending[machine.delta[node, byte]])
        over = torch.as_tensor(goals.over(met_after)) & torch.as_tensor(goals.over(at_end))
        fine = ((gained & BAN == 0) & ~over)[0]
        new = set(zip(machine.delta[node, byte][0, fine].tolist(), met_after[0, fine].tolist())) - states
    return states


def test_a_batch_gives_what_each_prefix_gives_alone():
    rng = np.random.default_rng(1)
    sets = [random_constraints(rng, prefix) for prefix in PREFIXES]
    config = NeurologicConfig(max_new_tokens=32, beam_size=3)
    together = decode(*policy(), PREFIXES, sets, config)
    alone = [decode(*policy(), [prefix], constraints, config)[0] for prefix, constraints in zip(PREFIXES, sets)]
    assert [found.completion for found in together] == [found.completion for found in alone]
    np.testing.assert_allclose([found.logprob for found in together], [found.logprob for found in alone], rtol=1e-4)


# Exhaustive search ---------------------------------------------------------------------------------------------------
TOKENS = [" red", " fox", " oil", " art", "s", ","]
TOY_PHRASES = ["red", "reds", "fox", "red fox", "oil", "art", "arts", "oil art", "fox oil", "red red", ","]

@cache
def every_text(most_tokens):
    """Return every completion of " fox", as tokens: no search, no automaton."""
    every = itertools.chain(*(itertools.product(range(len(TOKENS)), repeat=length)
                              for length in range(most_tokens + 1)))
    texts = {tokens: "".join(TOKENS[token] for token in tokens) for tokens in every}
    return {tokens: text for tokens, text in texts.items() if not text.startswith("s")}


def best_text(model, constraints, length_penalty, most_tokens):
    """Return log-probability and text of the best completion of " fox"; minus infinity where none holds."""
    logprobs = model.lm_head.weight.T.log_softmax(-1).tolist()
    best = (-np.inf, -np.inf, "")
    for tokens, text in every_text(most_tokens).items():
        path = [1, *tokens, *([len(TOKENS)] if len(tokens) < most_tokens else [])]
        logprob = sum(logprobs[before][after] for before, after in itertools.pairwise(path))
        value = logprob / max(1, len(path) - 1) ** length_penalty
        spaced = not constraints.own_parts or well_spaced(" fox", text)
        if value > best[0] and spaced and holds(constraints, " fox" + text, " fox"):
            best = (value, logprob, text)
    return best[1:]


@pytest.mark.parametrize(("seeds", "most_tokens"), [(range(380), 4), (range(380, 400), 6)])
def test_a_wide_beam_finds_the_best_of_all_texts_and_refuses_only_where_there_is_none(seeds, most_tokens):
    refused = [seed for seed in seeds if not found_best(np.random.default_rng(seed), most_tokens, seed % 2 / 1)]
    assert len(refused) < len(seeds) / 3 and (refused or most_tokens > 4)


def found_best(rng, most_tokens, length_penalty):
    """Assert that decoding a random set finds the best text; return False where there is none and it says so."""
    rows = rng.dirichlet(np.full(len(TOKENS) + 1, 0.5), len(TOKENS))
    model, tokenizer = toy_policy(TOKENS, {token: dict(zip([*TOKENS, ""], row)) for token, row in zip(TOKENS, rows)})
    constraints = random_constraints(rng, " fox", TOY_PHRASES, most_excluded=2, most_clauses=2)
    config = NeurologicConfig(max_new_tokens=most_tokens, beam_size=300, sat_tolerance=9, length_penalty=length_penalty)
    logprob, text = best_text(model, constraints, length_penalty, most_tokens)
    if logprob == -np.inf:
        with pytest.raises(NpkitError, match="new tokens|cannot all be written"):
            decode(model, tokenizer, [" fox"], constraints, config)
        return False
    found = decode(model, tokenizer, [" fox"], constraints, config)[0]
    assert holds(constraints, found.prompt, " fox")
    assert sorted(found.completion) == sorted(text)  # the same, or as likely in another order
    assert found.logprob == pytest.approx(logprob, abs=1e-3)
    return True


def test_phrases_that_share_words_fit_where_they_would_not_one_by_one():
    policy = toy_policy(TOKENS, {})
    wanted = Constraints((("c", any_of("oil art")), ("d", any_of("art red"))), (), own_parts=False)
    found = decode(*policy, [" fox"], wanted, NeurologicConfig(max_new_tokens=3))[0]
    assert found.completion == " oil art red"
    with pytest.raises(NpkitError, match="need 3 new tokens, max_new_tokens is 2"):
        decode(*policy, [" fox"], wanted, NeurologicConfig(max_new_tokens=2))
