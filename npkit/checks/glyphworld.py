"""Exercise checks of notebook 00_glyphworld: each names the likely slip in distances, votes or prompt writing."""
from collections import Counter

import numpy as np

from npkit.glyphworld.corpus import parse
from npkit.glyphworld.painter import paint
from npkit.glyphworld.people.public import utility
from npkit.glyphworld.vocabulary import CATEGORY_OF

ASKED = ("a castle tower", "one golden cat", "a flower", "the moon", "a skull at night", "an umbrella in the desert")
ONE_FOR_ALL = ", pop art, piet mondrian, 3d render, lens flare, cinematic"  # the best that a search found for ASKED
MARGIN = 0.3  # utility that prompts made for each prefix gain beyond it; no constant suffix that a search found does


def check_colour_distance(student) -> str:
    """Exercise 0.1. Return "0.1 to do" or "0.1 passed"; raise AssertionError with a hint."""
    pixels = np.array([[[70, 20, 100], [90, 40, 140], [10, 20, 30], [30, 40, 50]]], np.uint8)
    try:
        got = student(pixels, np.array([[0.0, 0.1, 1.0, 0.9]]))
    except NotImplementedError:
        return "0.1 to do"
    slips = {100.0: "Divide by 255: the distance is a share of the scale of one channel.",
             140 / 255: "You added the channels' differences: take the root of the sum of their squares.",
             100 / 255 / 3 ** 0.5: "You took the root of the MEAN square: sum the squares of the three channels."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    if got > 0.5:
        raise AssertionError("Too far: subtract MEAN colours, since differences of uint8 wrap around at 256.")
    assert np.isclose(got, 100 / 255), f"expected a distance of (60, 0, 80) / 255, which is {100 / 255:.3f}, got {got}"
    return "0.1 passed"


def check_preference(student) -> str:
    """Exercise 0.2. Return "0.2 to do" or "0.2 passed"; raise AssertionError with a hint."""
    try:
        got, even = student(2.0, 1.0, 0.5), student(1.0, 1.0, 0.5)
    except NotImplementedError:
        return "0.2 to do"
    sigmoid = {x: 1 / (1 + np.exp(-x)) for x in (2.0, 1.0, 0.5)}
    slips = {1 - sigmoid[2.0]: "The better picture loses: the exponent is -(a - b) / noise.",
             sigmoid[1.0]: "You left the noise out: divide the difference by it.",
             sigmoid[0.5]: "You multiplied by the noise: much noise must bring the share nearer to one half.",
             2 / 3: "The strengths of Bradley and Terry are exp(utility / noise), not the utilities themselves."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(even, 0.5), f"two equal pictures share the votes, got {even}"
    assert np.isclose(got, sigmoid[2.0]), f"expected {sigmoid[2.0]:.3f} for utilities 2 and 1 and noise 0.5, got {got}"
    return "0.2 passed"


def check_agreement(student) -> str:
    """Exercise 0.3. Return "0.3 to do" or "0.3 passed"; raise AssertionError with a hint."""
    shares = np.array([0.9, 0.6])
    try:
        got = student(shares)
    except NotImplementedError:
        return "0.3 to do"
    slips = {(0.81 + 0.36) / 2: "Both may also agree on the OTHER picture: add that case.",
             0.75: "That is how often a perfect judge agrees with a rater. Here both are raters, and both are noisy.",
             0.75 ** 2 + 0.25 ** 2: "Average over the pairs last: the mean of squares is not the square of the mean.",
             (0.18 + 0.48) / 2: "That is how often they disagree."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 0.67), f"expected the mean of 0.9² + 0.1² and 0.6² + 0.4², which is 0.67, got {got}"
    return "0.3 passed"


def check_improve(student) -> str:
    """Exercise 0.4. Return "0.4 to do" or "0.4 passed"; raise AssertionError with a hint."""
    try:
        prompts = {prefix: student(prefix) for prefix in ASKED}
    except NotImplementedError:
        return "0.4 to do"
    for prefix, prompt in prompts.items():
        assert prompt.startswith(prefix), f"{prompt!r} does not begin with the prefix: you may only add to it"
        kinds = Counter(CATEGORY_OF[name] for name in parse(prompt).modifiers)
        assert kinds, f"no modifier of GlyphWorld stands in {prompt!r}: spell them as in the sheet"
        assert max(kinds.values()) == 1, f"{prompt!r} has two modifiers of one category: only the first one is painted"
    gains = {prefix: worth(prompt, prefix) - worth(prefix + ONE_FOR_ALL, prefix) for prefix, prompt in prompts.items()}
    gain, worst = np.mean(list(gains.values())), min(gains, key=gains.get)
    is_constant = len({prompt.removeprefix(prefix) for prefix, prompt in prompts.items()}) == 1
    hint = "no suffix suits them all" if is_constant else "which words are worth most in the pictures themselves?"
    assert gain >= MARGIN, (f"on average {gain:+.2f} beyond the suffix for all, wanted {MARGIN:+.1f}: {hint}. "
                            f"The least is {worst!r} ({gains[worst]:+.2f})")
    return "0.4 passed"


def worth(prompt: str, prefix: str, num_pictures: int = 4) -> float:
    """The public's mean utility of the prompt's pictures to those who asked for `prefix`."""
    pictures = np.stack([paint(prompt, seed) for seed in range(num_pictures)])
    return float(utility(pictures, [prefix] * num_pictures).mean())
