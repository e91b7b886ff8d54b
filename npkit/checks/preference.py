"""Exercise checks of notebook 09_human_preference: each names the likely slip in sides, intervals or clusters."""
import numpy as np

from npkit.checks import exercise


@exercise
def check_points(student) -> str:
    """Exercise 9.1. Return "9.1 to do" or "9.1 passed"; raise AssertionError with a hint."""
    cases = [("left", "ppo"), ("right", "ppo"), ("left", "sft"), ("right", "sft"), ("tie", "ppo"), ("tie", "sft")]
    got = [student(choice, left, "ppo") for choice, left in cases]
    slips = {(1, 0, 1, 0, 0.5, 0.5): "You count left as a win whoever stands there: on which side was `first`?",
             (0, 1, 1, 0, 0.5, 0.5): "Turned round: these are the points of the other variant.",
             (1, 0, 0, 1, 0, 0): "A tie is not a loss: two equal pictures share the point.",
             (1, 0, 0, 1, 0, 1): "A tie is no win and no loss, on whichever side: it is half a point.",
             (1, 0, 0, 1, 1, 0): "A tie is no win and no loss, on whichever side: it is half a point.",
             (1, 0, 0, 1, 1, 1): "A tie is not a win: two equal pictures share the point."}
    if (hint := slips.get(tuple(float(each) for each in got))) is not None:
        raise AssertionError(hint)
    expected = [1, 0, 0, 1, 0.5, 0.5]
    assert got == expected, f"for (choice, left) in {cases} and first ppo expected {expected}, got {got}"
    return "9.1 passed"


@exercise
def check_wilson(student) -> str:
    """Exercise 9.2. Return "9.2 to do" or "9.2 passed"; raise AssertionError with a hint."""
    share, n, z = 0.9, 20, 1.96
    got = tuple(student(share, n, z))
    assert len(got) == 2, f"return two numbers, the low end and the high end, not {len(got)}"
    error = z * np.sqrt(share * (1 - share) / n)
    centre, spread = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    slips = {(share - error, share + error):
                 "This is share plus or minus z standard errors: its high end lies above 1. Move the centre, too.",
             (centre - spread, centre + spread): "Both ends are divided by 1 + z^2 / n at last.",
             (share - spread, share + spread): "The centre is not the share: it moves by z^2 / (2 n).",
             ((centre + spread) / (1 + z**2 / n), (centre - spread) / (1 + z**2 / n)): "First low, then high."}
    for slip, hint in slips.items():
        if np.allclose(got, slip):
            raise AssertionError(hint)
    expected = ((centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n))
    assert np.allclose(got, expected), f"for share 0.9, n 20, z 1.96 expected {np.round(expected, 3)}, got {got}"
    other = tuple(student(1.0, 10, 1.0))
    assert np.allclose(other, (10 / 11, 1)), f"for share 1, n 10, z 1 expected (0.909, 1), got {other}"
    return "9.2 passed"


@exercise
def check_cluster_variance(student) -> str:
    """Exercise 9.3. Return "9.3 to do" or "9.3 passed"; raise AssertionError with a hint."""
    points, clusters = np.array([1.0, 1, 1, 1, 0, 0, 1, 0]), np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
    got = student(points, clusters)
    assert np.ndim(got) == 0, f"return one number, the variance of the mean, not shape {np.shape(got)}"
    off = points - points.mean()
    sums = np.array([off[clusters == name].sum() for name in "abcd"])
    right = (sums**2).sum() * 4 / 3 / 64
    single = "These are the squares of single votes: add up a cluster's deviations BEFORE squaring."
    slips = {(off**2).sum() / 64: single, (off**2).sum() / 56: single,
             right * 3 / 4: "Nearly: the factor C / (C - 1) is missing.",
             right * 64: "Divide by the square of the number of votes.",
             right * 8: "Divide by the SQUARE of the number of votes.",
             right * 64 / 16: "Divide by the square of the number of votes, not of clusters.",
             right**0.5: "This is the standard error: the variance is its square."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, right), f"expected {right:.5f}, got {got:.5f}"
    uneven = student(np.array([1.0, 0.5, 0, 0, 1]), np.array([3, 1, 3, 1, 1]))
    assert np.isclose(uneven, 0.0), f"where the deviations of every cluster cancel it is 0, got {uneven:.5f}"
    return "9.3 passed"


@exercise
def check_bradley_terry(student) -> str:
    """Exercise 9.4. Return "9.4 to do" or "9.4 passed"; raise AssertionError with a hint."""
    wins = np.array([[0.0, 30], [10, 0]])
    got = np.asarray(student(wins), float)
    assert got.shape == (2,), f"return one strength a variant, shape (2,), not {got.shape}"
    gap = float(got[0] - got[1])
    slips = {-np.log(3): "Turned round: `wins[i, j]` says how often i beat j, so row sums are wins.",
             3.0: "These are the worths, not their logarithms.", 0.5: "These are the worths, not their logarithms.",
             np.log10(3): "Take the natural logarithm."}
    for slip, hint in slips.items():
        if np.isclose(gap, slip, atol=1e-3):
            raise AssertionError(hint)
    assert np.isclose(gap, np.log(3), atol=1e-3), f"30 wins to 10 are log odds of {np.log(3):.3f}, got {gap:.3f}"
    assert np.isclose(got.sum(), 0, atol=1e-6), f"shift the strengths so that their mean is 0, it is {got.mean():.3f}"
    wins = np.array([[0.0, 12, 3], [8, 0, 10], [1, 9, 0]])
    got, right = np.asarray(student(wins), float), checked_strengths(wins)
    assert np.allclose(got, right, atol=1e-2), (
        f"three variants that met unequally often: expected {np.round(right, 2)}, got {np.round(got, 2)}; does the sum "
        "run over every other variant, and is every step made from the worths of the step before?")
    return "9.4 passed"


def checked_strengths(wins: np.ndarray) -> np.ndarray:
    """Return the strengths that Newton's steps find for a small matrix of wins."""
    strengths, games = np.zeros(len(wins)), wins + wins.T
    for _ in range(50):
        chances = 1 / (1 + np.exp(strengths - strengths[:, None]))
        gradient = (wins - games * chances).sum(1)
        weights = games * chances * (1 - chances)
        strengths = strengths + np.linalg.lstsq(np.diag(weights.sum(1)) - weights, gradient, rcond=None)[0]
    return strengths - strengths.mean()


@exercise
def check_votes_needed(student) -> str:
    """Exercise 9.5. Return "9.5 to do" or "9.5 passed"; raise AssertionError with a hint."""
    got = student(0.6, 0.24, 2.8)
    assert np.ndim(got) == 0, f"return one number of votes, not shape {np.shape(got)}"
    slips = {0.24 * 2.8 / 0.1: "Solve for n: the number of votes grows with the SQUARE of z over the distance.",
             0.24 * (2.8 / 0.6) ** 2: "The distance is that of the rate from one half, not the rate itself.",
             (2.8 / 0.1) ** 2: "The variance of one vote is missing.",
             0.24**0.5 * 2.8 / 0.1: "Nearly: this is the square root of the number."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 188.16), f"for rate 0.6, variance 0.24 and z 2.8 expected 188.16 votes, got {got:.2f}"
    got = student(0.45, 0.2, 2.8)
    assert np.isclose(got, 627.2), f"a rate below one half needs votes as well: expected 627.2, got {got:.2f}"
    return "9.5 passed"
