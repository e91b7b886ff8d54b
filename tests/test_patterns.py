"""Patterns: forbidden regular expressions and protected words, from the command line's and Python's side."""
import json
import re
import time

import fixtures_models as fixtures
import pytest

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.optimize import Refused, optimize
from npkit.patterns import (
    MAX_ROUNDS,
    check_protected,
    compile_pattern,
    forbid_patterns,
    optimize_each_without,
    optimize_without,
    place_of,
    search,
    written_words,
)
from npkit.study.profiles import load_profile
from npkit.text.policy import load_policy
from npkit.wishes import read_wishes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small random policy."""
    return fixtures.save_random_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(folder):
    model, tokenizer = load_policy(folder)
    return model.eval(), tokenizer


PROFILE = load_profile("tiny", {"neurologic.beam_size": 2, "neurologic.max_new_tokens": 24})
PROMPTS = ["a fox", "an owl at night", "a castle tower", "two cats", "a bottle of ink"]
LONG = load_profile("tiny", {"neurologic.beam_size": 2, "neurologic.max_new_tokens": 12,
                             "neurologic.length_penalty": 2.0})  # so that the random policy writes something


def wishes(*patterns, seed=None, **more):
    return forbid_patterns(read_wishes(PROFILE, seed=seed, **more), patterns)


# 1. Patterns ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "sentence"), [
    ("(", "'(' is no regular expression: missing )"), ("a{2,1}", "is no regular expression"),
    ("", "is empty"), ("  ", "is empty"), ("x*", "matches the empty text too"), ("a" * 501, "at most 500 characters"),
    ("*a", "is no regular expression"), ("[z-a]", "is no regular expression")])
def test_a_pattern_that_cannot_be_used_gets_a_sentence(text, sentence):
    with pytest.raises(NpkitError) as caught:
        compile_pattern(text)
    assert sentence in str(caught.value)


def test_catastrophic_backtracking_ends_with_a_sentence():
    start = time.monotonic()
    with pytest.raises(NpkitError, match=r"takes too long \(over 0.5 s on 41 characters\)"):
        search(compile_pattern(r"(a|aa|a?)+$x|^(\w+\s?)+!$"), "a" * 40 + "?")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(("pattern", "phrases"), [
    ("paint", ["oil painting"[4:]]), (r"l p", ["oil painting"]), (r"fox, oil", ["oil"]), (r"8\w", ["8k", "8x"]),
    (", 8k,", ["8k"]), ("O", ["oil"]), ("^a", []), (r"painting, 8", ["painting, 8k"])])
def test_words_that_a_pattern_finds_are_widened_to_whole_words(pattern, phrases):
    assert written_words(compile_pattern(pattern), "a fox, oil painting, 8k, 8x", "a fox") == phrases


def test_keywords_that_match_are_not_drawn_and_the_others_are():
    drawn = {literal.phrase for seed in range(30) for _, clause in wishes("art|mucha", seed=seed)("a fox").wanted
             for literal in clause}
    assert len(drawn) > 35 and not [phrase for phrase in drawn if "art" in phrase or "mucha" in phrase]


def test_without_patterns_nothing_changes(policy):
    plain = read_wishes(PROFILE, {"vibe": ["moody"]}, seed=None)
    assert optimize_without(["a fox"], policy, wishes(user={"vibe": ["moody"]}), PROFILE) == optimize(
        ["a fox"], policy, plain, PROFILE)


def test_what_a_pattern_finds_in_the_completion_is_excluded_and_decoded_again(policy):
    free = optimize(PROMPTS, policy, wishes(), LONG)
    found = [(each, word) for each in free for word in re.findall(r"\w+", each.optimized[len(each.prompt):])
             if not place_of(word, each.prompt)]
    written, word = found[0]
    wanted = wishes(rf"\b{word}\b")
    again = optimize_without([written.prompt], policy, wanted, LONG)[0]
    assert not place_of(word.lower(), again.optimized.lower())
    assert word in again.certificate.excluded and again.certificate.holds
    assert wanted("a bird").excluded == ()  # the excluded words belong to their prompt


def test_default_keywords_that_a_pattern_finds_behind_their_comma_step_aside(policy):
    profile = load_profile("tiny", {"neurologic.beam_size": 2, "neurologic.max_new_tokens": 100,
                                    "neurologic.keywords_per_category": 2})
    plain = read_wishes(profile, {"artist": ["dix"], "format": ["oil"]}, seed=3)
    style = optimize(["a fox"], policy, plain, profile)[0].certificate.clauses[0]
    found = optimize_without(["a fox"], policy, forbid_patterns(plain, [rf", {style.satisfied_by}"]), profile)[0]
    assert found.certificate.holds and found.certificate.clauses[0].category == style.category == "style"
    assert found.certificate.clauses[0].satisfied_by.lower() in set(style.any_of) - {style.satisfied_by.lower()}


def test_a_phrase_that_is_demanded_never_steps_aside(policy):
    with pytest.raises(NpkitError, match="'moody' is required and matches the forbidden pattern 'moo'"):
        wishes("moo", user={"vibe": ["moody", "calm"]})


@pytest.mark.parametrize(("pattern", "sentence"), [
    ("FOX", "the prompt itself matches the forbidden pattern 'FOX'"),
    (",", "matches no whole word"), (r"fox(?=,)", "matches no whole word"),
    (r", *moody", "nothing can be written"), (r"(a|aa)+$|^(\w+\s?)+!$", "takes too long")])
def test_a_pattern_that_cannot_be_avoided_gets_a_sentence(policy, pattern, sentence):
    prompt = "a fox" if "a|aa" not in pattern else "a" * 60 + "?"
    wanted = wishes(pattern, require=["moody"])
    with pytest.raises(NpkitError) as caught:
        optimize_without([prompt], policy, wanted, PROFILE)
    assert sentence in str(caught.value)
    (refused,) = optimize_each_without([prompt], policy, wanted, PROFILE)
    assert isinstance(refused, Refused) and sentence in refused.error


def test_the_rounds_end(policy, monkeypatch):
    monkeypatch.setattr("npkit.patterns.MAX_ROUNDS", 3)
    with pytest.raises(NpkitError, match=r"still matches after 3 decodings|nothing can be written"):
        optimize_without(["a fox"], policy, wishes(r"(?<=fox).*moody", require=["moody"]), PROFILE)
    assert MAX_ROUNDS == 20


def test_a_category_without_a_keyword_left_is_named():
    with pytest.raises(NpkitError, match="match every keyword of category 'style'"):
        wishes(r"^(?!greg|8k).+$", seed=0)
    assert wishes(r"^\w+$", seed=None, user={"style": ["pop art"]}).user == {"style": ["pop art"]}


# 2. Protected words --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("prompt", "word", "excluded", "sentence"), [
    ("a red fox", "blue", [], "'blue' does not stand in the prompt"),
    ("a red fox", "Fox", [], "'Fox' does not stand in the prompt, letter for letter"),
    ("a red foxtail", "fox", [], "does not stand"),
    ("a red fox", "fox", ["FOX"], "'fox' is both protected and excluded"),
    ("a ｒｅｄ fox", "ｒｅｄ", [], "cannot stay as typed: the policy reads the prompt as 'a red fox'")])
def test_a_word_that_cannot_be_protected_gets_a_sentence(prompt, word, excluded, sentence):
    with pytest.raises(NpkitError) as caught:
        check_protected(prompt, [word], excluded)
    assert sentence in str(caught.value)


def test_words_that_stay_are_found():
    check_protected("a Red fox, (C++)", ["Red", "Red fox", "(C++)"], ["blue"])
    assert place_of("red", "a redder red") == (9, 12)
    with pytest.raises(NpkitError, match="protected and matches the forbidden pattern"):
        check_protected("a fox", ["fox"], [], [compile_pattern("f.x")])


# 3. The command line -------------------------------------------------------------------------------------------------
def command(folder, *words):
    return main(["optimize", *words, "--policy", folder, "--beam", "2", "--no-defaults", "--max-new-tokens", "24"])


def test_the_command_line_takes_patterns_and_protected_words(folder, capsys):
    words = ["a Red fox", "--vibe", "calm", "--exclude-pattern", "moo", "--protect", "Red, fox"]
    assert command(folder, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protected"] == [{"phrase": "Red", "start": 2, "end": 5}, {"phrase": "fox", "start": 6, "end": 9}]
    assert found["clauses"][0]["satisfied_by"].lower() == "calm"
    assert command(folder, *words) == 0
    assert "  protected    'Red' stands as typed\n" in capsys.readouterr().out
    assert command(folder, "a red fox", "--protect", "blue") == 2
    assert "npkit: the protected 'blue' does not stand" in capsys.readouterr().err
    assert command(folder, "a red fox", "--exclude-pattern", "(") == 2
    assert "is no regular expression" in capsys.readouterr().err


def test_each_line_answers_for_its_protected_words(folder, capsys, monkeypatch):
    import io
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a fox\nan owl\na bad fox\n"), encoding="utf-8"))
    assert command(folder, "-", "--protect", "fox", "--exclude-pattern", "bad", "--require", "moody", "--json") == 1
    fox, owl, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert fox["protected"] == [{"phrase": "fox", "start": 2, "end": 5}]
    assert "'fox' does not stand in the prompt" in owl["error"]
    assert "matches the forbidden pattern 'bad'" in bad["error"]


def test_a_setting_without_an_option_of_its_own_holds(folder, capsys):
    """An option that is not given leaves `--set` alone."""
    words = ["optimize", "a fox", "--policy", folder, "--no-defaults", "--require", "moody"]
    assert main([*words, "--set", "neurologic.max_new_tokens=1"]) == 2
    assert "max_new_tokens is 1" in capsys.readouterr().err
    assert main([*words, "--image-model", "npkit.text.keywords:load", "--scores"]) == 2
    assert "npkit.text.keywords:load" in capsys.readouterr().err
