"""Exercise checks of notebook 05_neurologic_decoding: clauses, states, a ban by letters, rank, bound, and step."""
import math

from npkit.checks import exercise
from npkit.neurologic import Clause, Literal, absent, any_of
from npkit.neurologic.toy import Hypothesis, next_state


@exercise
def check_clauses_hold(student) -> str:
    """Exercise 5.1. Return "5.1 to do" or "5.1 passed"; raise AssertionError with a hint."""
    cnf = (any_of("oil painting", "watercolor"), absent("text"))
    got = student(cnf, "a fox, watercolor")
    assert not isinstance(got, bool), "One answer for each clause: return a list."
    got = list(got)
    if got == [False, True]:
        raise AssertionError("A clause holds when ANY of its literals holds: did you use all()?")
    if got == [True, False]:
        raise AssertionError("A negative literal holds where its phrase is NOT there: compare with literal.positive.")
    assert got == [True, True], f"expected [True, True], got {got}"
    assert list(student(cnf, "a fox, watercolor, text")) == [True, False], "the second clause forbids text"
    if list(student(cnf, "a fox, watercolor, context")) != [True, True]:
        raise AssertionError('"text" is no word of "context": use find, which knows where words begin and end.')
    if list(student((any_of("c++"),), "a fox, c++")) != [True]:
        raise AssertionError('"c++" stands in "a fox, c++": use find, which knows where words begin and end.')
    assert list(student((any_of("c++"),), "a fox, c")) == [False], '"c++" is not "c": use find'
    mixed = (Clause((Literal("red"), Literal("blurry", positive=False))),)
    assert list(student(mixed, "a red fox, blurry")) == [True], "OR: one literal that holds is enough"
    return "5.1 passed"


@exercise
def check_next_state(student) -> str:
    """Exercise 5.2. Return "5.2 to do" or "5.2 passed"; raise AssertionError with a hint."""
    phrases = [("concept", "art"), ("art", "nouveau"), ("concept", "concept", "art")]
    got = student((), ("art",), phrases)
    assert got == ("art",), f'from nothing, "art" begins a phrase: expected ("art",), got {got}'
    assert student(("art",), ("nouveau",), phrases) == ("art", "nouveau"), "a word that continues the phrase extends it"
    if student(("concept",), ("fox",), phrases) != ():
        raise AssertionError("What is written must stand side by side: an old word does not wait for its partner.")
    if student(("art",), ("art",), phrases) != ("art",):
        raise AssertionError("The word that breaks a phrase may begin another one: do not drop it.")
    if student(("concept", "concept"), ("concept",), phrases) != ("concept", "concept"):
        raise AssertionError("Keep the LONGEST end that begins a phrase: of three concepts, two still count.")
    assert student(("concept", "art"), ("nouveau",), phrases) == ("art", "nouveau"), "one ends, another begins"
    if student("te", "a", ["text"]) != "":
        raise AssertionError('By letters, the state is a text: where nothing is begun return "", as longer[:0] does.')
    return "5.2 passed"


@exercise
def check_read_token(student) -> str:
    """Exercise 5.3. Return "5.3 to do" or "5.3 passed"; raise AssertionError with a hint."""
    def read(state, token, *banned):
        got = student(state, token, list(banned), next_state)
        assert isinstance(got, (tuple, list)) and len(got) == 2, f"return the state and True or False, got {got!r}"
        return got[0], bool(got[1])

    got = read("", " watermark", "watermark")
    assert got[1], "All letters of the banned phrase stand in this token: it completes the phrase."
    if not read("", " watermarks", "watermark")[1]:
        raise AssertionError("The phrase may be complete in the MIDDLE of a token: ask after every letter.")
    if not read("water", "mark", "watermark")[1]:
        raise AssertionError("A phrase goes on from token to token: begin at the state that was given.")
    assert read("", " wate", "watermark") == ("wate", False), "the state is what is written of the phrase"
    assert read("water", "fall", "watermark") == ("", False), "a letter that breaks the phrase leaves no state"
    if not read("", " neon text", "on", "text")[1]:
        raise AssertionError("Each of several phrases may be the one that is complete: try them all.")
    if not read("", " cat", "at", "cats")[1]:
        raise AssertionError('The state may be longer than the phrase: "cat" begins "cats" and ends with "at".')
    got = read("", " textw", "text", "watermark")
    assert got == ("w", True), f"read all letters, also those behind the phrase: expected ('w', True), got {got}"
    got = read("text", " fox", "text")
    assert got == ("", False), f"only letters of THIS token complete a phrase: expected ('', False), got {got}"
    return "5.3 passed"


@exercise
def check_rank(student) -> str:
    """Exercise 5.4. Return "5.4 to do" or "5.4 passed"; raise AssertionError with a hint."""
    price = {"oil": 2.0, "painting": 1.0, "pop": 6.0, "art": 2.0, "neon": 4.0}
    clauses = ((("oil", "painting"), ("pop", "art")), (("neon",),), (("art", "neon"),))

    def cost(words):
        return sum(price[word] for word in words)

    def of(state, met=(), bonus=1.0, clauses=clauses):
        return student(Hypothesis(("fox",), -5.0, state, frozenset(met)), clauses, cost, bonus)

    got = of(())
    assert got == -5.0, f"nothing met and nothing begun: the rank is the score, -5, got {got}"
    got = of((), [0])
    if got == 3.0:
        raise AssertionError("A clause is worth its CHEAPEST phrase: oil painting costs 3, pop art 8.")
    assert got == -2.0, f"clause 0 is met and worth 3: expected -5 + 3, got {got}"
    assert of((), [0], 2.0) == 1.0, "the bonus multiplies what clauses are worth"
    got = of(("oil",))
    if math.isclose(got, -5 + 1.5):
        raise AssertionError("Measure the share written in cost, not in words: oil has paid 2 of 3.")
    if got == -5.0:
        raise AssertionError("A phrase in hand counts as well: the share that is written, times its clause's worth.")
    assert math.isclose(got, -3.0), f"oil has paid 2 of the 3 that clause 0 is worth: expected -5 + 2, got {got}"
    if of(("oil",), [0]) != -2.0:
        raise AssertionError("Only clauses that are NOT met have a phrase in hand: nobody is paid twice.")
    got = of(("pop", "art"), [0])
    if got == -2.0:
        raise AssertionError('A shorter end of the state may have begun another phrase: "art" of "art neon".')
    assert math.isclose(got, -5 + 3 + 2), f"clause 0 is met, and art has paid 2 of 6: expected 0, got {got}"
    judge_in_hand(of)
    return "5.4 passed"


def judge_in_hand(of) -> None:
    """Raise the hint for a slip in the best phrase in hand; `of` gives the student's rank of a state."""
    got = of(("oil",), bonus=2.0)
    assert math.isclose(got, -1.0), f"the bonus multiplies what is in hand, too: expected -5 + 2 x 2 = -1, got {got}"
    got = of(("pop",))
    assert math.isclose(got, -5 + 3 * 6 / 8), (
        f"pop has paid 6 of the 8 of pop art, the dearer phrase of a clause worth 3: expected -2.75, got {got}")
    two = ((("oil", "pop", "art"),), (("pop", "neon"),))  # worth 10 each; oil pop has paid 8 of one, pop 6 of the other
    for got in (of(("oil", "pop"), clauses=two), of(("oil", "pop"), clauses=two[::-1])):
        if math.isclose(got, -5 + 8 + 6):
            raise AssertionError("Of several phrases in hand only the BEST one counts: take the largest, not the sum.")
        assert math.isclose(got, 3.0), f"two phrases are in hand, worth 8 and 6: expected -5 + 8 = 3, got {got}"


@exercise
def check_words_needed(student) -> str:
    """Exercise 5.5. Return "5.5 to do" or "5.5 passed"; raise AssertionError with a hint."""
    roads = {"start": ["swamp", "hill"], "swamp": ["swamp"], "hill": ["start", "ford"], "ford": ["goal"], "goal": []}
    got = student("start", roads.get, "goal".__eq__, 5)
    if got == 4:
        raise AssertionError("Ask before you go on: the places reached by no word at all need 0 words.")
    if got == 6:
        raise AssertionError("Go on from ALL places, not only from the first one: the way over the hill leads there.")
    assert got == 3, f"start, hill, ford, goal: expected 3, got {got}"
    assert student("goal", roads.get, "goal".__eq__, 5) == 0, "nothing is needed where all is done"
    try:
        got = student("start", roads.get, "goal".__eq__, 2)
    except AssertionError as error:
        raise AssertionError(f"{error} Where no way is short enough, return most + 1: it is more than any number of "
                             "words left.") from None
    assert got == 3, f"two words are not enough: expected most + 1 = 3, got {got}"
    assert student("start", roads.get, "goal".__eq__, 3) == 3, "exactly as many as there may be is soon enough"
    return "5.5 passed"


@exercise
def check_step(student) -> str:
    """Exercise 5.6. Return "5.6 to do" or "5.6 passed"; raise AssertionError with a hint."""
    def candidate(rank, met="", banned=False, needed=0):
        return Hypothesis((f"{rank:g}",), rank, (), frozenset(met), banned, needed, rank)

    groups = [candidate(-3.0), candidate(-1.0), candidate(-8.0, "s"), candidate(-2.0), candidate(-5.0, "v"),
              candidate(-9.0, "s")]
    got = tuple(each.rank for each in student(groups, 3, 2, 4))
    slips = {(-1.0, -2.0, -3.0, -5.0): "That is plain beam search: one group takes all the places.",
             (-1.0, -8.0, -5.0, -2.0): "Within a round, groups go by rank: -5 comes before -8.",
             (-3.0, -5.0, -8.0, -1.0): "Sort inside a group first: its best goes in the first round.",
             (-1.0, -5.0, -8.0): "Places are left: begin a second round with every group's second best."}
    if got in slips:
        raise AssertionError(slips[got])
    assert got == (-1.0, -5.0, -8.0, -2.0), f"expected ranks -1, -5, -8, -2, got {got}"

    def ranks(*candidates):
        return [each.rank for each in student(candidates, 3, 1, 4)]

    assert ranks(candidate(-1.0, banned=True), candidate(-2.0)) == [-2.0], "what writes a banned phrase is dropped"
    if ranks(candidate(-1.0, needed=3)) != [-1.0]:
        raise AssertionError("Whoever needs exactly the words that are left is in time: drop those who need more.")
    assert ranks(candidate(-1.0, needed=4), candidate(-2.0)) == [-2.0], "four words are needed and three left: dropped"
    assert ranks(candidate(-1.0), candidate(-2.0, "sv")) == [-2.0], "two clauses behind, tolerance 1: dropped"
    if ranks(candidate(-1.0), candidate(-2.0, "s")) != [-1.0, -2.0]:
        raise AssertionError("Whoever is behind by exactly `tolerance` stays: drop those further behind.")
    if ranks(candidate(-1.0), candidate(-2.0, "sv", needed=4)) != [-1.0]:
        raise AssertionError("The foremost is looked for among those that are still POSSIBLE: drop these first.")
    return "5.6 passed"
