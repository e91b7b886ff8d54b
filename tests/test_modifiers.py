"""Modifiers: what counts as one that the policy added, and the prompt without it."""
import pytest

from npkit.text import keywords
from npkit.text.modifiers import added_modifiers, without

WORDS = keywords.load("npkit/glyphworld/keywords.toml")


def taken_apart(prefix: str, completion: str) -> list[tuple[str, str, str]]:
    """Return the label and category of each modifier, and what stands behind the prefix without it."""
    prompt = prefix + completion
    return [(each.label, each.category, without(prefix, prompt, WORDS, each).removeprefix(prefix))
            for each in added_modifiers(prefix, prompt, WORDS)]


@pytest.mark.parametrize(("prefix", "completion", "found"), [
    ("a castle", ", oil painting, moody", [("oil painting", "format", ", moody"), ("moody", "vibe", ", oil painting")]),
    ("a castle", " by the sea, moody", [("... by the sea", "", ", moody"), ("moody", "vibe", " by the sea")]),
    ("a cat", "s,moody,  8k", [("... s", "", ",moody,  8k"), ("moody", "vibe", "s,  8k"),
                               ("8k", "booster", "s,moody")]),
    ("a castle,", " moody, 8k", [("moody", "vibe", " 8k"), ("8k", "booster", " moody")]),
    ("a castle, oil", " painting, 8k", [("... painting", "format", ", 8k"), ("8k", "booster", " painting")]),
    ("a fox", ", moody, 8k, Moody", [("moody x2", "vibe", ", 8k"), ("8k", "booster", ", moody, Moody")]),
    ("a moody fox", ", moody", [("moody", "vibe", "")]),
    ("a fox", ", best quality, (a, b:1.2)，1,000 stars", [
        ("best quality", "", ", (a, b:1.2)，1,000 stars"), ("(a, b:1.2)", "", ", best quality，1,000 stars"),
        ("1,000 stars", "", ", best quality, (a, b:1.2)")])])
def test_parts_between_commas_are_modifiers(prefix, completion, found):
    assert taken_apart(prefix, completion) == found


def test_keywords_without_a_comma_between_them_are_modifiers_of_their_own():
    assert taken_apart("a fox", ", oil painting by claude monet pixel art, cinematic lights moody") == [
        ("oil painting", "format", ", by claude monet pixel art, cinematic lights moody"),
        ("by claude monet", "artist", ", oil painting pixel art, cinematic lights moody"),
        ("pixel art", "format", ", oil painting by claude monet, cinematic lights moody"),
        ("cinematic lights", "vibe", ", oil painting by claude monet pixel art, moody"),
        ("moody", "vibe", ", oil painting by claude monet pixel art, cinematic lights")]


@pytest.mark.parametrize("completion", ["", ", ", ",,", " "])
def test_blanks_are_no_modifiers(completion):
    assert added_modifiers("a fox", f"a fox{completion}", WORDS) == []


def test_a_phrase_of_two_categories_has_both():
    words = {"style": WORDS["style"], "vibe": (*WORDS["vibe"], WORDS["style"][0])}
    assert added_modifiers("a fox", "a fox, Anime", words)[0].category == "style/vibe"
