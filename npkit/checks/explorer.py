"""Exercise checks of notebook 08_constraint_explorer: each names the likely slip in quoting, word borders or steps."""
import csv

from npkit.checks import exercise


@exercise
def check_as_list(student) -> str:
    """Exercise 8.1. Return "8.1 to do" or "8.1 passed"; raise AssertionError with a hint."""
    got = student(["8k", "oil, on canvas", "soft light"])
    assert isinstance(got, str), f"return one text for the command line, not a {type(got).__name__}"
    if got in ("8k, oil, on canvas, soft light", "8k,oil, on canvas,soft light"):
        raise AssertionError("Read at its commas, this holds four phrases: 'oil, on canvas' has a comma of its own, so "
                             "it needs double quotes around it.")
    if "'" in got:
        raise AssertionError("Single quotes are for the shell. Inside the list, double quotes hold a phrase together.")
    read = next(csv.reader([got], skipinitialspace=True))
    assert read == ["8k", "oil, on canvas", "soft light"], f"read as CSV, your text holds the phrases {read}"
    return "8.1 passed"


@exercise
def check_whole_words(student) -> str:
    """Exercise 8.2. Return "8.2 to do" or "8.2 passed"; raise AssertionError with a hint."""
    text = "a fox, oil painting, 8k"
    got = student(text, text.index("paint"), text.index("paint") + 3)
    if got == "pai":
        raise AssertionError("'pai' is what was found, and the decoder bans whole words: go left and right while a "
                             "letter or digit stands on both sides of the border.")
    if got == "paintin":
        raise AssertionError("The last letter of the word is missing: text[start:end] stops before `end`.")
    assert got == "painting", f"the word around 'pai' is 'painting', got {got!r}"
    got = student(text, 5, 12)
    if got == ", oil p" or got == ", oil painting":
        raise AssertionError("The comma belongs to no phrase: strip commas and blanks at both ends.")
    assert got == "oil painting", f"of ', oil p' the whole words are 'oil painting', got {got!r}"
    got = student(text, len(text) - 1, len(text))
    assert got == "8k", f"at the end of the text, of 'k' the whole word is '8k', got {got!r}"
    return "8.2 passed"


@exercise
def check_first_met(student) -> str:
    """Exercise 8.3. Return "8.3 to do" or "8.3 passed"; raise AssertionError with a hint."""
    steps = [set(), set(), {2}, {2}, {0, 2}, {0, 1, 2}]
    got, right = student(steps), {2: 2, 0: 4, 1: 5}
    assert isinstance(got, dict), f"return a dictionary, clause -> step, not a {type(got).__name__}"
    if got == {clause: 5 for clause in right}:
        raise AssertionError("Each later step overwrites the first: keep the step at which a clause is met for the "
                             "first time.")
    if got == {clause: step + 1 for clause, step in right.items()}:
        raise AssertionError("Step 0 is the beam before the first token: count from 0, as enumerate does.")
    assert got == right, f"clause 2 is met at step 2, clause 0 at 4, clause 1 at 5; got {got}"
    return "8.3 passed"
