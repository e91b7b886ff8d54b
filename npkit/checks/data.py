"""Exercise checks of notebook 01_data_and_prefixes: each names the likely slip in matching, cutting or splitting."""
from collections import Counter


def check_has_modifier(student) -> str:
    """Exercise 1.1. Return "1.1 to do" or "1.1 passed"; raise AssertionError with a hint."""
    cases = {"a fox, oil painting": True, "a demo of a fox": False, "a fox, EMO": True, "a fox, 8k": True,
             "emo": True, "a fox, 8 k": False, "a fox": False}
    try:
        got = {prompt: student(prompt, ["oil painting", "emo", "8k"]) for prompt in cases}
    except NotImplementedError:
        return "1.1 to do"
    if got["a demo of a fox"]:
        raise AssertionError("'emo' is found inside 'demo': a modifier must stand between word boundaries.")
    if not got["a fox, EMO"]:
        raise AssertionError("'EMO' is missed: compare without regard to case.")
    if not got["a fox, oil painting"]:
        raise AssertionError("'oil painting' is missed: a modifier may be several words, so do not split at spaces.")
    if not got["a fox, 8k"]:
        raise AssertionError("'8k' at the very end is missed: the end of the prompt is a word boundary as well.")
    wrong = [prompt for prompt, expected in cases.items() if bool(got[prompt]) != expected]
    assert not wrong, f"wrong answer for {wrong[0]!r}: expected {cases[wrong[0]]}"
    return "1.1 passed"


def check_top_share(student) -> str:
    """Exercise 1.2. Return "1.2 to do" or "1.2 passed"; raise AssertionError with a hint."""
    counts = Counter({"vivid": 1, "detailed": 6, "8k": 3})
    try:
        got = student(counts, 2)
    except NotImplementedError:
        return "1.2 to do"
    slips = {0.7: "You took the first two as they stand: sort by count, the most used first.",
             2 / 3: "That is a share of the different modifiers: count every use of one.",
             9: "That is a number of uses: divide by all uses to make it a share."}
    for slip, hint in slips.items():
        if abs(got - slip) < 1e-9:
            raise AssertionError(hint)
    assert abs(got - 0.9) < 1e-9, f"expected (6 + 3) / 10, got {got}"
    return "1.2 passed"


def check_first_comma(student) -> str:
    """Exercise 1.3. Return "1.3 to do" or "1.3 passed"; raise AssertionError with a hint."""
    try:
        got = {prompt: student(prompt) for prompt in ("a castle, oil, 8k", "a castle", "a castle , oil")}
    except NotImplementedError:
        return "1.3 to do"
    if got["a castle"][0] == "a castl":
        raise AssertionError("find() gives -1 where there is no comma, and [:-1] eats the last letter.")
    if got["a castle, oil, 8k"][0] == "a castle, oil":
        raise AssertionError("You cut at the last comma: the prefix ends at the FIRST one.")
    for prompt, (prefix, completion) in got.items():
        if prefix + completion != prompt:
            raise AssertionError(f"prefix + completion must be the prompt again: {prefix!r} + {completion!r} is not "
                                 f"{prompt!r}. Does the comma belong to the completion?")
    assert got["a castle"] == ("a castle", ""), "without a comma all of the prompt is prefix"
    if got["a castle , oil"][0].endswith(" "):
        raise AssertionError("The prefix ends in a space, which a tokenizer sees: give it to the completion.")
    assert got["a castle, oil, 8k"] == ("a castle", ", oil, 8k"), f"got {got['a castle, oil, 8k']}"
    return "1.3 passed"


def check_leaked_share(student) -> str:
    """Exercise 1.4. Return "1.4 to do" or "1.4 passed"; raise AssertionError with a hint."""
    train, test = ["a cat", "a dog", "a fox", "an owl", "a cow"], ["A Cat", "A  cat!", "a hen", "a dog"]
    try:
        got = student(train, test)
    except NotImplementedError:
        return "1.4 to do"
    slips = {1 / 4: "Compare FOLDED prefixes: 'A Cat' and 'A  cat!' are the cat of the training set.",
             3 / 5: "Divide by the number of TEST prefixes: the question is how much of the test is spoilt.",
             2 / 5: "Divide by the number of TEST prefixes, and count each of them.",
             2 / 3: "Count every test prefix, also those that are the same when folded: no set() for the test.",
             2 / 4: "Count every test prefix, also those that are the same when folded: no set() for the test."}
    for slip, hint in slips.items():
        if abs(got - slip) < 1e-9:
            raise AssertionError(hint)
    assert abs(got - 3 / 4) < 1e-9, f"three of four test prefixes were seen in training, got {got}"
    return "1.4 passed"
