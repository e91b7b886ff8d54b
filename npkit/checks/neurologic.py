"""Exercise checks of notebook 05_neurologic_decoding: word boundaries, states, turns, and the tokens still needed."""


def check_contains(student) -> str:
    """Exercise 5.1. Return "5.1 to do" or "5.1 passed"; raise AssertionError with a hint."""
    try:
        substring = student("text", "a fox, context")
    except NotImplementedError:
        return "5.1 to do"
    if substring:
        raise AssertionError('"text" is not in "context": the letters around a phrase count too.')
    assert not student("4k", "14k, sharp"), "A digit before the phrase makes another word: 14k is not 4k."
    if not student("Text", "some TEXT"):
        raise AssertionError("People write in any case: compare without it.")
    if not student("text", "a text, blurry"):
        raise AssertionError('A comma is no part of a word: "a text, blurry" holds "text".')
    if not student("oil painting", "an oil painting"):
        raise AssertionError("A phrase may have several words: look for all of it at once.")
    assert not student("oil painting", "oil on a painting"), "The words of a phrase stand side by side, in order."
    assert student("c++", "in c++, c"), "Escape the phrase: + means something to a regular expression."
    return "5.1 passed"


def check_next_state(student) -> str:
    """Exercise 5.2. Return "5.2 to do" or "5.2 passed"; raise AssertionError with a hint."""
    phrases = [("concept", "art"), ("art", "nouveau"), ("concept", "concept", "art")]
    try:
        got = student((), "art", phrases)
    except NotImplementedError:
        return "5.2 to do"
    assert got == ("art",), f'from nothing, "art" begins a phrase: expected ("art",), got {got}'
    assert student(("art",), "nouveau", phrases) == ("art", "nouveau"), "a word that continues the phrase extends it"
    if student(("concept",), "fox", phrases) != ():
        raise AssertionError("What is written must stand side by side: an old word does not wait for its partner.")
    if student(("art",), "art", phrases) != ("art",):
        raise AssertionError("The word that breaks a phrase may begin another one: do not drop it.")
    if student(("concept", "concept"), "concept", phrases) != ("concept", "concept"):
        raise AssertionError("Keep the LONGEST end that begins a phrase: of three concepts, two still count.")
    assert student(("concept", "art"), "nouveau", phrases) == ("art", "nouveau"), "one phrase ends where another begins"
    return "5.2 passed"


def check_take_turns(student) -> str:
    """Exercise 5.3. Return "5.3 to do" or "5.3 passed"; raise AssertionError with a hint."""
    candidates = [(-3.0, "none"), (-1.0, "none"), (-8.0, "style"), (-2.0, "none"), (-5.0, "vibe"), (-9.0, "style")]
    try:
        got = list(student(candidates, 4))
    except NotImplementedError:
        return "5.3 to do"
    slips = {(-1.0, -2.0, -3.0, -5.0): "That is plain beam search: one group takes all the places.",
             (-1.0, -8.0, -5.0, -2.0): "Within a round, groups go by rank: -5 comes before -8.",
             (-3.0, -5.0, -8.0, -1.0): "Sort inside a group first: its best goes in the first round.",
             (-1.0, -5.0, -8.0): "Places are left: begin a second round with every group's second best."}
    ranks = tuple(rank for rank, _ in got)
    if ranks in slips:
        raise AssertionError(slips[ranks])
    assert ranks == (-1.0, -5.0, -8.0, -2.0), f"expected ranks -1, -5, -8, -2, got {ranks}"
    return "5.3 passed"


def check_tokens_needed(student) -> str:
    """Exercise 5.4. Return "5.4 to do" or "5.4 passed"; raise AssertionError with a hint."""
    try:
        got = student({"style": 3, "vibe": 2}, {})
    except NotImplementedError:
        return "5.4 to do"
    if got == 3:
        raise AssertionError("Every unmet clause must be written, not only the longest: add them up.")
    assert got == 5, f"with nothing in hand, 3 + 2 tokens are needed, got {got}"
    got = student({"style": 3, "vibe": 2}, {"style": 1})
    if got == 6:
        raise AssertionError("What is left of the phrase in hand replaces its clause's length, it is not added.")
    assert got == 3, f"one token of style is left, then two of vibe: expected 3, got {got}"
    if student({"style": 3, "vibe": 2}, {"style": 1, "vibe": 1}) == 2:
        raise AssertionError("Only ONE phrase is finished first, the other one begins again: take the largest saving.")
    assert student({"style": 3, "vibe": 2}, {"style": 1, "vibe": 1}) == 3
    if student({"style": 1, "vibe": 2}, {"style": 4}) != 3:
        raise AssertionError("A long phrase begun can be dropped for the shortest one: a saving is never negative.")
    assert student({}, {}) == 0, "nothing unmet, nothing to write"
    return "5.4 passed"
