"""Voting panel: what it asks, keeps and says, pressed from the kernel's side; names and prompts are text."""
import re

import numpy as np
import pytest

from npkit.preferences import votes
from npkit.preferences.pairs import QUESTIONS, Pair, pairs_for
from npkit.widgets.voting import BUTTONS, QUICKEST, VotingPanel, picture_uri

EVIL = '<img src=x onerror="alert(1)">$x$'
PAIRS = [Pair(f"a fox {number} {EVIL}", number, "sft", "ppo", f"a fox {number}", f"a fox {number}, vivid")
         for number in range(6)]


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def paint(pair: Pair) -> list[np.ndarray]:
    """Return two pictures that tell the first prompt (dark) from the second one (light)."""
    return [np.full((4, 4, 3), value, np.uint8) for value in (10, 240)]


@pytest.fixture
def file(tmp_path) -> votes.VoteFile:
    return votes.open_votes(tmp_path / "votes.sqlite", PAIRS)


@pytest.fixture
def panel(file) -> VotingPanel:
    return VotingPanel(file, paint, versions="v1", clock=Clock())


def press(panel: VotingPanel, choice: str, seconds: float = 2.0) -> None:
    panel.clock.now += seconds
    panel.buttons[choice].click()


def start(panel: VotingPanel, name: str = "Ada") -> None:
    panel.name.value = name
    panel.begin.click()


def test_a_rater_answers_everything_and_is_thanked(panel, file):
    start(panel)
    for number in range(12):
        assert f"{number + 1} of 12" in panel.question.value
        press(panel, list(BUTTONS)[number % 3])
    table = file.table()
    assert "Thank you, Ada: all 12" in panel.question.value
    assert all(button.disabled for button in panel.buttons.values())
    assert table["choice"].tolist() == ["left", "tie", "right"] * 4
    assert set(table["seconds"]) == {2.0} and set(table["versions"]) == {"v1"}
    assert set(table["question"]) == set(QUESTIONS)


def test_what_was_answered_is_not_asked_again(panel, file):
    start(panel)
    for _ in range(5):
        press(panel, "left")
    again = VotingPanel(file, paint, clock=Clock())
    start(again)
    assert "6 of 12" in again.question.value
    assert again.rest == panel.rest
    start(again, "Bob")
    assert "1 of 12" in again.question.value


def test_the_picture_on_the_left_is_the_one_that_is_kept(panel, file):
    start(panel)
    for _ in range(12):
        shown = re.findall(r'alt="(\w+) picture" src="([^"]+)"', panel.pictures.value)
        assert [side for side, _ in shown] == ["Left", "Right"]
        is_first_left = shown[0][1] == picture_uri(paint(PAIRS[0])[0])
        assert panel.rest[0].left == ("sft" if is_first_left else "ppo")
        press(panel, "left")
    assert set(file.table()["left"]) == {"sft", "ppo"}


def test_the_prompt_is_shown_for_one_question_alone_and_no_variant_ever(panel):
    start(panel)
    for _ in range(12):
        assert ("The prompt:" in panel.question.value) == (panel.rest[0].asked == "shows")
        assert not re.search(r"sft|ppo", panel.question.value + panel.pictures.value.partition("base64")[0])
        press(panel, "tie")


def test_names_and_prompts_are_text(panel):
    start(panel, EVIL)
    for _ in range(12):
        assert "<img src=x" not in panel.question.value
        press(panel, "tie")
    assert "Thank you, &lt;img src=x onerror=&quot;alert(1)&quot;&gt;$x$" in panel.question.value
    start(panel, "<script>alert(1)</script>" * 9)
    assert "<script>" not in panel.message.value and "&lt;script&gt;" in panel.message.value


def test_errors_are_words_in_the_panel(panel, file, monkeypatch):
    start(panel, "  ")
    assert "a rater&#x27;s name has 1 to 80 characters" in panel.message.value and 'role="alert"' in panel.message.value
    start(panel)
    assert panel.message.value == ""
    press(panel, "left", QUICKEST / 3)
    assert "choose again" in panel.message.value and file.table().empty
    press(panel, "left")
    assert panel.message.value == "" and len(file.table()) == 1
    monkeypatch.setattr(panel, "paint", lambda pair: 1 / 0)
    press(panel, "left")
    assert "ZeroDivisionError" in panel.message.value
    press(panel, "left")
    assert "no question is shown: press Next rater" in panel.message.value and len(file.table()) == 2
    monkeypatch.setattr(panel, "paint", paint)
    start(panel)
    assert "3 of 12" in panel.question.value and panel.message.value == ""


def test_a_vote_given_in_another_window_is_said_and_passed_over(panel, file):
    other = VotingPanel(file, paint, clock=Clock())
    for each in (panel, other):
        start(each)
    press(other, "left")
    press(panel, "right")
    assert "has already answered" in panel.message.value
    assert "2 of 12" in panel.question.value
    press(panel, "right")
    assert file.table()["choice"].tolist() == ["left", "right"]


def test_fewer_pairs_a_rater(file):
    panel = VotingPanel(file, paint, num_pairs=2, clock=Clock())
    start(panel)
    assert "1 of 4" in panel.question.value
    assert {each.pair for each in panel.rest} == set(pairs_for("Ada", PAIRS, 2))
    assert {tuple(pairs_for(name, PAIRS, 2)) for name in ("Ada", "Bob", "Cem")} != {tuple(pairs_for("Ada", PAIRS, 2))}


def test_every_control_has_words(panel):
    assert panel.name.description == "Your name"
    buttons = [panel.begin, *panel.buttons.values()]
    assert all(button.description and button.tooltip for button in buttons)
    assert all(button.tabbable is not False for button in buttons)


def test_tensors_arrays_and_pil_pictures_are_shown_alike():
    from PIL import Image
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert picture_uri(array) == picture_uri(array.transpose(2, 0, 1) / 255) == picture_uri(Image.fromarray(array))
