"""Voting panel: two pictures side by side, one question, three buttons; every choice is kept at once.

Everything that somebody typed is shown as text. Whatever goes wrong is said in words below the buttons: an error in a
callback would vanish.
"""
import base64
import html
import io
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from ipywidgets import HTML, Button, HBox, Layout, Text, VBox
from PIL import Image

from npkit.errors import NpkitError
from npkit.preferences.pairs import QUESTIONS, SHOWS_THE_PROMPT, Pair, Question, pairs_for, questions_for
from npkit.preferences.votes import Vote, VoteFile, tidy_rater

QUICKEST = 0.3  # seconds; a choice that comes sooner is a double click on the question before
WELCOME = ("Type your name, or any other word that you will know again, and press Begin. You can stop at any time: "
           "under the same name you go on where you stopped.")
BUTTONS = {"left": "Left picture", "tie": "About equal", "right": "Right picture"}
Painter = Callable[[Pair], Sequence]  # the pictures of a pair's first and second prompt: arrays or PIL images


class VotingPanel(VBox):
    """The panel: `VotingPanel(file, paint)` as the last line of a cell. Its parts are attributes, for tests.

    `num_pairs` of the file's pairs are asked of each rater (0: all); `versions` is kept with every vote. All of it is
    reached by the Tab key and pressed by Enter or the space bar, in the order of reading.
    """

    def __init__(self, file: VoteFile, paint: Painter, *, num_pairs: int = 0, versions: str = "",
                 clock: Callable[[], float] = time.monotonic):
        self.file, self.paint, self.num_pairs, self.versions, self.clock = file, paint, num_pairs, versions, clock
        self.rater, self.rest, self.total = "", [], 0
        self.shown, self.shown_at = None, 0.0  # the question on the screen: a choice is about this one alone
        self.name = Text(description="Your name", placeholder="a name or a nickname", continuous_update=False,
                         layout=Layout(max_width="26em"))
        self.begin = Button(description="Begin", tooltip="Begin to vote, or go on, under this name",
                            button_style="primary")
        self.question, self.pictures, self.message = HTML(), HTML(), HTML()
        shape = Layout(width="auto", min_width="8em")
        self.buttons = {choice: Button(description=words, disabled=True, tooltip=f"Choose: {words.lower()}",
                                       layout=shape) for choice, words in BUTTONS.items()}
        self.begin.on_click(lambda _: self.guarded(self.start))
        for choice, button in self.buttons.items():
            button.on_click(lambda _, choice=choice: self.guarded(self.choose, choice))
        row = Layout(flex_flow="row wrap", align_items="center")
        super().__init__([HBox([self.name, self.begin], layout=row), self.question, self.pictures,
                          HBox(list(self.buttons.values()), layout=row), self.message])
        self.question.value = f"<p>{WELCOME}</p>"

    def guarded(self, action: Callable, *arguments: str) -> None:
        """Do what a button asks for, and say in words what went wrong."""
        self.message.value = ""
        try:
            action(*arguments)
        except NpkitError as error:
            self.say(str(error), "alert")
        except Exception as error:  # noqa: BLE001 (a callback's error is shown nowhere else)
            self.say(f"Something went wrong; the votes given so far are kept. Press {self.begin.description} to go on. "
                     f"({type(error).__name__}: {error})", "alert")

    def say(self, text: str, role: str) -> None:
        """Show a text below the buttons; a screen reader reads it out (`role` alert at once, status when it may)."""
        self.message.value = f'<p role="{role}"><strong>{escaped(text)}</strong></p>'

    def start(self) -> None:
        """Begin, or go on, under the name that was typed."""
        self.rater = tidy_rater(self.name.value)
        self.look_up()
        self.begin.description = "Next rater"
        self.show()

    def look_up(self) -> None:
        """Find in the file what this rater has still to answer."""
        asked = questions_for(self.rater, pairs_for(self.rater, list(self.file.pairs().values()), self.num_pairs))
        answered = self.file.answered(self.rater)
        self.total = len(asked)
        self.rest = [each for each in asked if (each.pair.name, each.asked) not in answered]

    def choose(self, choice: str) -> None:
        """Keep the choice, then show the next question."""
        seconds = self.clock() - self.shown_at
        if seconds < QUICKEST:
            raise NpkitError(f"that came {seconds:.1f} seconds after the pictures: look at these two, and choose again")
        each, now = self.shown, datetime.now(UTC).isoformat(timespec="seconds")
        if each is None:
            raise NpkitError(f"no question is shown: press {self.begin.description}")
        try:
            self.file.add(Vote(self.rater, each.pair.name, each.asked, each.left, choice, round(seconds, 3),
                               self.versions, now))
        except NpkitError:
            self.look_up()  # it may have been answered in another window
            self.show()
            raise
        self.rest = self.rest[1:]
        self.show()

    def show(self) -> None:
        """Show the next question with its pictures, or thank the rater."""
        self.shown, self.pictures.value = None, ""
        for button in self.buttons.values():
            button.disabled = not self.rest
        if not self.rest:
            self.question.value = (f'<p role="status">Thank you, {escaped(self.rater)}: all {self.total} questions are '
                                   "answered, and kept.</p>")
            return
        each = self.rest[0]
        self.pictures.value = pictures_html(each, self.paint(each.pair))
        self.question.value = question_html(each, self.total - len(self.rest) + 1, self.total, self.rater)
        self.shown, self.shown_at = each, self.clock()


def question_html(each: Question, number: int, total: int, rater: str) -> str:
    """Return the question, the prompt where it is about that, and the progress, as HTML."""
    prompt = f'<p>The prompt: <q>{escaped(each.pair.prefix)}</q></p>' if each.asked in SHOWS_THE_PROMPT else ""
    return (f'<p role="status">{number} of {total}, rater {escaped(rater)}</p>'
            f'<p style="font-size: 1.3em; font-weight: 600">{escaped(QUESTIONS[each.asked])}</p>{prompt}')


def pictures_html(each: Question, painted: Sequence) -> str:
    """Return the two pictures of a question, left and right, as HTML; on a narrow screen one below the other."""
    ordered = painted if each.left == each.pair.first else painted[::-1]
    figures = [f'<figure style="margin: 0"><img alt="{side} picture" src="{picture_uri(picture)}" '
               'style="width: 256px; max-width: 100%; height: auto">'
               f'<figcaption style="text-align: center">{side}</figcaption></figure>'
               for side, picture in zip(("Left", "Right"), ordered, strict=True)]
    return f'<div style="display: flex; flex-wrap: wrap; gap: 16px">{"".join(figures)}</div>'


def picture_uri(picture) -> str:
    """Return a picture as the address of itself; it is a PIL image, (height, width, 3) uint8 or (3, ...) in [0, 1]."""
    if not isinstance(picture, Image.Image):
        array = np.asarray(picture)
        if array.dtype != np.uint8:
            array = (array.transpose(1, 2, 0) * 255).round().astype(np.uint8)
        picture = Image.fromarray(array)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def escaped(text: str) -> str:
    """Return a text that HTML shows as it is."""
    return html.escape(text, quote=True)
