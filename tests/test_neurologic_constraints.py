"""Constraints: word boundaries, contradictions, the user's wishes over the defaults, certificates."""
import numpy as np
import pytest

from npkit.errors import NpkitError
from npkit.neurologic import (
    Clause,
    Constraints,
    Literal,
    absent,
    any_of,
    certify,
    default_clauses,
    find,
    merge,
    satisfied,
)
from npkit.neurologic.constraints import checked, find_part
from npkit.text import keywords


@pytest.mark.parametrize(("phrase", "text", "span"), [
    ("text", "some Text, here", (5, 9)), ("text", "texture", None), ("text", "context", None),
    ("text", "a text", (2, 6)), ("4k", "14k", None), ("4k", "4kids", None),
    ("4k", "uhd 4k.", (4, 6)), ("ukiyo-e", "a ukiyo-e", (2, 9)),
    ("art", "art nouveau", (0, 3)), ("oil painting", "Oil  Painting", (0, 13)), ("rené", "RENÉ MAGRITTE", (0, 4)),
    ("caf", "café", None), ("城", "大城市", (1, 2)), ("🔥", "fire🔥", (4, 5)), ("(sic)", "so(sic)so", (2, 7)),
    ("oil\npainting", "oil painting", (0, 12)), ("a_b", "a_b_c", None)])
def test_find_respects_word_boundaries(phrase, text, span):
    assert find(phrase, text) == span


def test_clause_states():
    cnf = (any_of("oil painting", "watercolor"), absent("text"))
    assert satisfied(cnf, "a fox, watercolor") == [True, True]
    assert satisfied(cnf, "a fox, watercolor, text") == [True, False]
    assert satisfied(cnf, "a fox, context") == [False, True]
    assert satisfied((), "anything") == []


def test_constraints_of_a_cnf():
    constraints = Constraints.from_cnf((any_of("oil", "ink"), absent("text")))
    assert constraints.wanted == (("clause 1", any_of("oil", "ink")),) and constraints.excluded == ("text",)
    assert satisfied(constraints.cnf, "ink") == [True, True]
    with pytest.raises(NpkitError, match="negative literal"):
        Constraints.from_cnf((Clause((Literal("oil"), Literal("text", positive=False))),))


@pytest.mark.parametrize(("user", "require", "exclude", "sentence"), [
    ({}, ["8k"], ["8k"], "'8k' is both required .require. and excluded"),
    ({"style": ["Pop  Art"]}, [], ["pop art"], "both required"),
    ({"style": ["dark oil painting", "ink"]}, [], ["oil"], "contains the excluded 'oil'"),
    ({}, [""], [], "at least one word"), ({}, [], ["  "], "at least one word"), ({"style": ["\n"]}, [], [], "one word"),
    ({"mood": ["calm"]}, [], [], "unknown category 'mood'"),
    ({}, [f"word{number}" for number in range(61)], [], "61 clauses are too many"),
])
def test_contradictions_are_one_sentence(user, require, exclude, sentence):
    with pytest.raises(NpkitError, match=sentence) as caught:
        merge({}, user, require, exclude)
    assert "\n" not in str(caught.value)


def test_a_ban_inside_another_word_is_no_contradiction():
    assert merge({}, {"style": ["texture"]}, ["context"], ["text"]).excluded == ("text",)


def test_user_words_replace_only_their_category():
    defaults = {"style": any_of("anime", "8k anime"), "booster": any_of("8k", "sharp focus")}
    merged = merge(defaults, {"style": ["pixel art", "my own style", "pixel art"]}, ["fog"], ["8k"])
    assert merged.wanted == (("style", any_of("pixel art", "my own style")), ("booster", any_of("sharp focus")),
                             ("require", any_of("fog")))
    with pytest.raises(NpkitError, match="every keyword of category 'booster' is excluded"):
        merge(defaults, {}, [], ["8k", "sharp focus"])


def test_each_default_clause_has_words_of_its_own():
    """The user's "Pixel Art" is written once and meets the style; the other categories still get a word each."""
    defaults = {"format": any_of("oil painting", "Pixel  art"), "vibe": any_of("pixel art", "art"),
                "booster": any_of("sharp focus", "fog", "8k"), "perspective": any_of("8k", "oil Painting", "close-up")}
    merged = merge(defaults, {"style": ["pixel art"]}, ["a thick fog", "8k"])
    assert dict(merged.wanted) == {
        "format": any_of("oil painting"), "style": any_of("pixel art"), "perspective": any_of("close-up"),
        "booster": any_of("sharp focus"), "vibe": any_of("pixel art", "art"), "require": any_of("8k")}
    assert merged.wanted[-2:] == (("require", any_of("a thick fog")), ("require", any_of("8k")))
    two = any_of("8k", "fog", "sharp focus", min_count=2)
    assert dict(merge({"booster": two}, {}, ["8k"]).wanted)["booster"].literals == two.literals[1:]
    assert dict(merge({"booster": two}, {}, ["8k", "fog"]).wanted)["booster"] == two  # one is too few
    asked = merge({}, {"style": ["ink"], "format": ["ink"]})
    assert dict(asked.wanted) == {"style": any_of("ink"), "format": any_of("ink")}  # as the user says


def test_default_clauses_draw_no_word_that_is_written_anyway():
    words = keywords.load()
    first = default_clauses(words, 1, np.random.default_rng(0))
    (drawn,) = (literal.phrase for literal in first["format"])
    again = default_clauses(words, 1, np.random.default_rng(0), asked=[f"a {drawn.upper()}"])
    assert len(again["format"]) == 1 and again["format"] != first["format"]
    assert [again[category] for category in again if category != "format"] == [
        first[category] for category in first if category != "format"]
    every = [keyword.phrase for keyword in words["format"]]  # all of them are asked for: any of them will do
    assert default_clauses(words, 1, np.random.default_rng(0), asked=every) == first


def test_default_clauses_draw_five_keywords_by_seed():
    words = keywords.load()
    first, again, other = (default_clauses(words, 5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert list(first) == list(keywords.CATEGORIES)
    for category, clause in first.items():
        phrases = [keyword.phrase for keyword in words[category]]
        assert len(set(clause)) == 5 and all(literal.phrase in phrases for literal in clause)


def test_certificate_names_words_and_places():
    constraints = Constraints((("style", any_of("art", "Pop Art")), ("vibe", any_of("moody"))), ("text", "8k"))
    certificate = certify(constraints, "a cat, pop art, context")
    style, vibe = certificate.clauses
    assert (style.satisfied_by, style.start, style.end) == ("pop art", 7, 14)
    assert (vibe.satisfied_by, vibe.start, vibe.end) == (None, None, None)
    assert certificate.excluded == ("text", "8k") and certificate.violations == () and not certificate.holds
    assert certify(constraints, "moody, pop art").holds and not certify(constraints, "moody pop art").holds
    assert certify(constraints, "moody pop art", prefix="moody pop art").holds
    assert certify(constraints, "moody pop art, 8K").violations == ("8k",)
    assert certificate.to_dict()["clauses"][0] == {
        "category": "style", "any_of": ("art", "Pop Art"), "holds": True, "count": 1,
        "satisfied_by": "pop art", "start": 7, "end": 14}


# What is given in another form ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: Constraints(excluded="8k"), "excluded takes a sequence of phrases, got '8k'"),
    (lambda: Constraints(excluded=("fog")), "excluded takes a sequence of phrases, got 'fog'"),
    (lambda: Constraints(excluded=(8,)), "excluded takes phrases, which are texts, got 8"),
    (lambda: Constraints(any_of("ink")), "wanted takes pairs of a name and a clause"),
    (lambda: Constraints((("style", "ink"),)), "wanted takes pairs of a name and a clause"),
    (lambda: Constraints(ordered="yes"), "ordered is True or False, got 'yes'"),
    (lambda: any_of(["ink", "oil"]), "any_of takes phrases one by one"),
    (lambda: any_of(None), "any_of takes phrases one by one"),
    (lambda: Clause((None,)), "a clause takes literals or phrases, got None"),
    (lambda: any_of("ink", min_count=1.5), "min_count is a whole number, got 1.5"),
    (lambda: Clause("ink"), "a clause takes a sequence of literals, got 'ink'"),
    (lambda: Clause((Literal("ink"), 3)), "a clause takes literals or phrases, got 3"),
    (lambda: merge({}, {"style": "ink"}), "style takes a sequence of phrases, got 'ink'"),
    (lambda: merge({}, {}, require="ink"), "require takes a sequence of phrases, got 'ink'"),
    (lambda: merge({}, {}, exclude="8k"), "exclude takes a sequence of phrases, got '8k'"),
])
def test_a_lone_text_or_another_kind_is_refused_in_one_sentence(make, sentence):
    with pytest.raises(NpkitError, match=sentence):
        make()


def test_lists_sets_and_mappings_are_taken_as_what_they_mean():
    expected = Constraints((("style", any_of("ink", "oil")),), ("8k", "fog"))
    assert Constraints([["style", Clause(["ink", "oil"])]], ["8k", "fog"]) == expected
    assert Constraints({"style": any_of("ink", "oil")}, {"fog", "8k"}) == expected
    assert hash(Constraints([("style", any_of("ink", "oil"))], ["8k", "fog"])) == hash(expected)


def test_a_default_clause_whose_words_are_all_excluded_draws_others():
    words = keywords.load()
    first = default_clauses(words, 5, np.random.default_rng(0))
    exclude = [literal.phrase for literal in first["style"]]
    again = default_clauses(words, 5, np.random.default_rng(0), exclude)
    assert len(again["style"]) == 5 and not {literal.phrase for literal in again["style"]} & set(exclude)
    others = [category for category in first if category != "style"]
    assert [again[category] for category in others] == [first[category] for category in others]
    assert merge(again, {}, exclude=exclude).wanted[0] == ("style", again["style"])
    every = [keyword.phrase for keyword in words["style"]]
    with pytest.raises(NpkitError, match="every keyword of category 'style' is excluded"):
        merge(default_clauses(words, 5, np.random.default_rng(0), every), {}, exclude=every)


@pytest.mark.parametrize(("text", "found"), [
    ("a fox, Oil  painting, 8k", True), ("oil painting", True), ("a fox,oil painting ,", True),
    ("a fox\uff0coil painting\u30018k", True), ("a fox, oil painting of a fox", False), ("a fox oil painting", False),
    ("a fox, oil paintings", False)])
def test_a_part_of_its_own(text, found):
    assert (find_part("oil painting", text) is not None) == found


@pytest.mark.parametrize(("wanted", "sentence"), [
    ((("c", any_of("art,")),), "'art,' .c. has nothing on one side of a comma"),
    ((("c", any_of("oil, art")), ("d", any_of("art"))), "'art' .d. is a part of 'oil, art' .c.")])
def test_commas_inside_phrases(wanted, sentence):
    with pytest.raises(NpkitError, match=sentence):
        checked(Constraints(wanted))


@pytest.mark.parametrize("blank", ["\u2800", "\u200b", "\u00ad", "\u3000"])
def test_what_cannot_be_seen_between_comma_and_phrase_is_a_space(blank):
    wanted = Constraints((("s", any_of("oil painting")),))
    prefix = f"a fox,{blank}"
    assert certify(wanted, f"{prefix}oil painting{blank}, 8k", prefix).holds
