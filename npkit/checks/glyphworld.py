"""Exercise checks of notebook 00_glyphworld: each names the likely slip in distances, sums, votes or prompts."""
from collections import Counter

import numpy as np

from npkit.checks import exercise
from npkit.glyphworld.corpus import parse
from npkit.glyphworld.painter import paint
from npkit.glyphworld.people.public import utility
from npkit.glyphworld.vocabulary import CATEGORY_OF

ASKED = ("a castle tower", "one golden cat", "a flower", "the moon", "a skull at night", "an umbrella in the desert")
ONE_FOR_ALL = ", pop art, piet mondrian, 3d render, lens flare, cinematic"  # the best that a search found for ASKED
MARGIN = 0.3  # utility that prompts made for each prefix gain beyond it; no constant suffix that a search found does


@exercise
def check_colour_distance(student) -> str:
    """Exercise 0.1. Return "0.1 to do" or "0.1 passed"; raise AssertionError with a hint."""
    pixels = np.array([[[0.1, 0.2, 0.3], [0.3, 0.4, 0.5], [0.4, 0.2, 0.7], [0.6, 0.4, 0.9], [0.9, 0.9, 0.9]]])
    inside, outside = np.array([[True, True, False, False, False]]), np.array([[False, False, True, True, False]])
    got = student(pixels, inside, outside)
    assert np.ndim(got) == 0, f"return one number, the length of the difference, got an array of {np.shape(got)}"
    everything_else = float(np.linalg.norm(pixels[inside].mean(0) - pixels[~inside].mean(0)))
    pixel_by_pixel = float(np.linalg.norm(pixels[inside][:, None] - pixels[outside][None], axis=-1).mean())
    slips = {0.7: "You added the channels' differences: take the root of the sum of their squares.",
             0.5 / 3 ** 0.5: "You took the root of the MEAN square: sum the squares of the three channels.",
             0.25: "That is the square of the distance: take the root.",
             everything_else: "You compared with everything that is not inside: use the pixels of `outside` alone.",
             pixel_by_pixel: "Average the colours of each side first, then take one distance between the two means."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 0.5), f"expected the length of (0.3, 0, 0.4), which is 0.5, got {got}"
    rng = np.random.default_rng(0)
    pixels, sides = rng.random((4, 6, 3)) ** 2, rng.permutation(24).reshape(4, 6)
    expected = np.linalg.norm(pixels[sides < 10].mean(0) - pixels[sides > 15].mean(0))
    got = student(pixels, sides < 10, sides > 15)
    assert np.isclose(got, expected), f"another picture, of 4 x 6 random pixels: expected {expected:.3f}, got {got:.3f}"
    return "0.1 passed"


@exercise
def check_weighted_utility(student) -> str:
    """Exercise 0.2. Return "0.2 to do" or "0.2 passed"; raise AssertionError with a hint."""
    terms, weights = {"a": np.array([1.0, 0.0, -4.0]), "b": np.array([1.0, 0.5, -4.0])}, {"b": 3.0, "a": 2.0}
    mean, deviation, floor = 1.0, 2.0, -4.0
    got = np.asarray(student(terms, weights, mean, deviation, floor), dtype=float)
    assert got.shape == (3,), f"three pictures have three utilities, an array (3,): got the shape {got.shape}"
    total, unweighted = np.array([5.0, 1.5, -20.0]), np.array([2.0, 0.5, -8.0])
    slips = {
        "The floor is missing: no utility is below u_min.": (total - mean) / deviation,
        "Apply the floor last: it is a bound of the utility, not of the sum.": (np.maximum(floor, total) - mean) / 2,
        "Multiply each term by its weight before you add.": np.maximum(floor, (unweighted - mean) / deviation),
        "Subtract the mean first, then divide all of it.": np.maximum(floor, total / deviation - mean),
        "Match terms and weights by NAME: their order differs.": np.array([2.0, 0.0, -4.0]),
        "Subtract the mean once, from the sum, not from every term.": np.maximum(floor, (total - 5 * mean) / deviation),
        "np.minimum is a ceiling: a floor is np.maximum.": np.minimum(floor, (total - mean) / deviation),
    }
    for hint, slip in slips.items():
        if np.allclose(got, slip):
            raise AssertionError(hint)
    expected = np.maximum(floor, (total - mean) / deviation)
    assert np.allclose(got, expected), f"expected {expected.tolist()} for the three pictures, got {got.tolist()}"
    terms = {"a": np.array([2.0, -1.0, 0.0]), "b": np.array([1.0, 0.0, 1.0]), "c": np.array([0.0, 0.0, -1.0])}
    got = student(terms, {"a": 1.0, "b": 5.0, "c": 4.0}, 3.0, 0.5, -6.0)
    assert np.allclose(got, [8.0, -6.0, -4.0]), ("for other terms and numbers expected [8, -6, -4], got "
                                                f"{np.asarray(got).tolist()}: use the arguments, no constants")
    return "0.2 passed"


@exercise
def check_preference(student) -> str:
    """Exercise 0.3. Return "0.3 to do" or "0.3 passed"; raise AssertionError with a hint."""
    got, even = student(2.0, 1.0, 0.5), student(1.0, 1.0, 0.5)
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
    got, expected = student(1.0, 2.5, 0.75), 1 / (1 + np.exp(2.0))
    assert np.isclose(got, expected), f"expected {expected:.3f} for utilities 1 and 2.5 and noise 0.75, got {got}"
    try:
        got = student(np.array([2.0, 1.0]), np.array([1.0, 1.0]), 0.5)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"Arrays of utilities must work as well: np.exp, not math.exp, no if. {error}") from None
    assert np.allclose(got, [sigmoid[2.0], 0.5]), f"arrays must work as well, pair by pair: got {got}"
    return "0.3 passed"


@exercise
def check_improve(student) -> str:
    """Exercise 0.4. Return "0.4 to do" or "0.4 passed"; raise AssertionError with a hint."""
    prompts = {prefix: student(prefix) for prefix in ASKED}
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


@exercise
def check_unmix(student) -> str:
    """Exercise 0.5. Return "0.5 to do" or "0.5 passed"; raise AssertionError with a hint."""
    picture, noise, alpha, sigma = np.array([1.0, -0.5]), np.array([-2.0, 0.3]), 0.8, 0.6
    mixture, velocity = alpha * picture + sigma * noise, alpha * noise - sigma * picture
    got = student(mixture, velocity, alpha, sigma)
    is_pair = hasattr(got, "__len__") and len(got) == 2 and np.shape(got[0]) == (2,)
    assert is_pair, "Return two things, the picture and the noise: a tuple of both."
    found, other = (np.asarray(each, dtype=float) for each in got)
    slips = {
        "The sign is turned: the velocity contains MINUS sigma times the picture.": alpha * mixture + sigma * velocity,
        "You return the noise first: the picture comes first.": noise,
        "You left the velocity out: divided by alpha, the mixture still contains noise.": mixture / alpha,
        "Do not divide by alpha at the end: alpha squared and sigma squared already add up to 1.": picture / alpha,
    }
    for hint, slip in slips.items():
        if np.allclose(found, slip):
            raise AssertionError(hint)
    assert np.allclose(found, picture), f"the picture was {picture.tolist()}, got {found.tolist()}"
    if np.allclose(other, alpha * velocity - sigma * mixture):
        raise AssertionError("The noise has a wrong sign: both mixture and velocity contain it with a plus.")
    assert np.allclose(other, noise), f"the noise was {noise.tolist()}, got {other.tolist()}"
    return "0.5 passed"


def worth(prompt: str, prefix: str, num_pictures: int = 4) -> float:
    """The public's mean utility of the prompt's pictures to those who asked for `prefix`."""
    pictures = np.stack([paint(prompt, seed) for seed in range(num_pictures)])
    return float(utility(pictures, [prefix] * num_pictures).mean())
