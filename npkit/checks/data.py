"""Exercise checks of notebook 01_data_and_prefixes: each names the likely slip in matching, cutting or splitting."""
from collections import Counter
from collections.abc import Sequence

import numpy as np

from npkit.checks import exercise
from npkit.text.corpus import fold


@exercise
def check_modifier_pattern(student) -> str:
    """Exercise 1.1. Return "1.1 to do" or "1.1 passed"; raise AssertionError with a hint."""
    pattern = student(["oil", "oil painting", "emo", "8k", "c++"])
    assert hasattr(pattern, "findall"), "Return a compiled pattern: re.compile(...)."
    wrong = first_wrong(pattern)
    if wrong and pattern.groups and all([found.group() for found in pattern.finditer(prompt)] == expected
                                        for prompt, expected in FOUND.items()):
        raise AssertionError(f"findall returns what CAPTURE GROUPS hold, here {pattern.findall(wrong)}: make none of "
                             "each phrase, group with (?:...) instead.")
    if wrong == "a demo of a fox":
        raise AssertionError("'emo' is found inside 'demo': a modifier must stand between word boundaries.")
    if wrong == "EMO, a fox":
        raise AssertionError("'EMO' is missed: compare without regard to case (re.IGNORECASE).")
    if wrong == "oil painting of a fox":
        raise AssertionError(f"'oil painting' must be found whole, got {pattern.findall(wrong)}: of phrases that "
                             "begin alike a pattern takes the first one it lists, so list the longest first.")
    if wrong == "a fox, 8k":
        raise AssertionError("'8k' at the very end is missed: the end of the prompt is a word boundary as well.")
    if wrong == "a fox, c++":
        raise AssertionError("'c++' is missed, whose signs mean something in a pattern: use re.escape for each "
                             r"phrase, and (?<!\w) and (?!\w), since \b wants a letter beside it.")
    assert not wrong, f"in {wrong!r} the pattern finds {pattern.findall(wrong)}, expected {FOUND[wrong]}"
    return "1.1 passed"


FOUND = {"a fox": [], "a demo of a fox": [], "EMO, a fox": ["EMO"], "oil painting of a fox": ["oil painting"],
         "a fox, 8k": ["8k"], "a fox, c++": ["c++"], "emo": ["emo"], "a fox, 8 k": [], "oil, 8k": ["oil", "8k"],
         "(oil), a fox: 8k!": ["oil", "8k"]}


def first_wrong(pattern) -> str:
    """The first prompt of `FOUND` in which the pattern finds anything else than it should, "" if there is none."""
    return next((prompt for prompt, expected in FOUND.items() if pattern.findall(prompt) != expected), "")


@exercise
def check_count_modifiers(student) -> str:
    """Exercise 1.2. Return "1.2 to do" or "1.2 passed"; raise AssertionError with a hint."""
    import re
    prompts = ["a fox, vivid, 8k", "Vivid fox, 8K", "a fox, vivid, very vivid", "a fox"]
    got = student(prompts, re.compile(r"(?<!\w)(?:vivid|8k)(?!\w)", re.IGNORECASE))
    assert isinstance(got, dict), f"return a Counter, or another dictionary, not {type(got).__name__}"
    slips = [({"vivid": 4, "8k": 2}, "You counted uses: a prompt that says 'vivid' twice is one prompt."),
             ({"vivid": 2, "Vivid": 1, "8k": 1, "8K": 1}, "'Vivid' and 'vivid' are one modifier: use lower case."),
             ({"vivid": 3, "Vivid": 1, "8k": 1, "8K": 1}, "'Vivid' and 'vivid' are one modifier: use lower case."),
             ({"vivid": 2, "8k": 1}, "'Vivid' and '8K' are missing: words in capitals count as well."),
             ({"vivid": 3}, "You took the first modifier of each prompt: findall finds all of them.")]
    for slip, hint in slips:
        if dict(got) == slip:
            raise AssertionError(hint)
    assert dict(got) == {"vivid": 3, "8k": 2}, f"expected vivid in 3 prompts and 8k in 2, got {dict(got)}"
    got = student(["Vivid, vivid, VIVID", "8k"], re.compile("vivid|8k", re.IGNORECASE))
    if dict(got) != {"vivid": 1, "8k": 1}:
        raise AssertionError(f"'Vivid, vivid, VIVID' is one prompt with one modifier, you count {dict(got)}: lower "
                             "case first, then the set.")
    return "1.2 passed"


@exercise
def check_distinct(student) -> str:
    """Exercise 1.3. Return "1.3 to do" or "1.3 passed"; raise AssertionError with a hint."""
    prompts = ["a fox, oil", "an owl", "a cat", "A Fox  oil!", "an owl", "a castle"]
    got = list(student(list(prompts)))
    expected = ["a fox, oil", "an owl", "a cat", "a castle"]
    if got == list(dict.fromkeys(prompts)):
        raise AssertionError("'A Fox  oil!' is 'a fox, oil' again: compare FOLDS (corpus.fold).")
    if set(got) == {fold(prompt) for prompt in prompts}:
        raise AssertionError("Return the prompts as they were written: the fold is only for comparing.")
    if got != expected and sorted(map(fold, got)) == sorted(map(fold, expected)):
        raise AssertionError("Keep the FIRST of each and keep the order of the corpus: a set, or a dictionary that is "
                             "overwritten, gives others.")
    assert got == expected, f"expected {expected}, got {got}"
    prompts = ["a fox 1", "a fox 2", "c", "c++", "butter fly", "butterfly"]
    got = list(student(list(prompts)))
    assert got == prompts, f"these are six distinct prompts by corpus.fold: {prompts}, you keep {got}"
    return "1.3 passed"


@exercise
def check_first_comma(student) -> str:
    """Exercise 1.4. Return "1.4 to do" or "1.4 passed"; raise AssertionError with a hint."""
    got = {prompt: tuple(student(prompt)) for prompt in ("a castle, oil, 8k", "a castle", "a castle , oil",
                                                         " a castle  , oil")}
    if got["a castle"][0] == "a castl":
        raise AssertionError("find() gives -1 where there is no comma, and [:-1] eats the last letter.")
    if got["a castle, oil, 8k"][0] == "a castle, oil":
        raise AssertionError("You cut at the last comma: the prefix ends at the FIRST one.")
    assert all(len(each) == 2 for each in got.values()), f"return two texts, prefix and completion: got {got}"
    for prompt, (prefix, completion) in got.items():
        if prefix + completion != prompt:
            raise AssertionError(f"prefix + completion must be the prompt again: {prefix!r} + {completion!r} is not "
                                 f"{prompt!r}. Does the comma belong to the completion?")
    assert got["a castle"] == ("a castle", ""), "without a comma all of the prompt is prefix"
    if any(prefix.endswith(" ") for prefix, _ in got.values()):
        raise AssertionError("The prefix ends in a space, which a tokenizer sees: give it to the completion.")
    assert got["a castle, oil, 8k"] == ("a castle", ", oil, 8k"), f"got {got['a castle, oil, 8k']}"
    return "1.4 passed"


PREFIXES = ["a castle"] * 30 + ["A Castle!"] * 30 + [f"a fox {number}" for number in range(38)] + ["A fox 7", "A fox 9"]


@exercise
def check_deal_out(student) -> str:
    """Exercise 1.5. Return "1.5 to do" or "1.5 passed"; raise AssertionError with a hint."""
    dealt = [np.asarray(student(PREFIXES, 0.25, np.random.default_rng(seed))) for seed in range(4)]
    assert dealt[0].shape == (len(PREFIXES),), f"return a value for each of the {len(PREFIXES)} prefixes"
    dealt = [each.astype(bool) for each in dealt]
    if any(is_on_both_sides(PREFIXES, each) for each in dealt):
        raise AssertionError("You dealt out prompts: the same prefix lies on both sides. Deal out DISTINCT prefixes.")
    if any(is_on_both_sides(list(map(fold, PREFIXES)), each) for each in dealt):
        raise AssertionError("'a castle' and 'A Castle!' lie on two sides: deal out FOLDED prefixes (corpus.fold).")
    if all((each == dealt[0]).all() for each in dealt):
        raise AssertionError("Every seed deals alike: draw the test prefixes with `rng`, do not take the first ones.")
    again = np.asarray(student(PREFIXES, 0.25, np.random.default_rng(0))).astype(bool)
    if (again != dealt[0]).any():
        raise AssertionError("The same seed deals differently each time: draw with `rng` alone.")
    in_test = {len({fold(prefix) for prefix, tested in zip(PREFIXES, each) if tested}) for each in dealt}
    if in_test == {29}:
        raise AssertionError("True means test, and `test_share` of the prefixes is to be True: yours is turned.")
    assert in_test == {10}, (f"a quarter of the 39 distinct prefixes is 10 (rounded), got {sorted(in_test)}: is the "
                             "share one of prompts, or is every prefix tossed for?")
    return "1.5 passed"


def is_on_both_sides(prefixes: Sequence[str], tested: np.ndarray) -> bool:
    """Say whether a prefix is in the test at one place and not at another."""
    sides = Counter(prefix for prefix, _ in set(zip(prefixes, tested.tolist())))
    return max(sides.values()) > 1
