"""Explorer: the panel of the constraint explorer; it reads its fields, calls `answers`, and shows pages."""
import io
from collections.abc import Callable
from dataclasses import replace

import ipywidgets as widgets

from npkit.errors import NpkitError
from npkit.study.artifacts import Run
from npkit.text import keywords
from npkit.widgets import answers, beam, pages
from npkit.widgets.answers import Answer, Tools
from npkit.widgets.controls import make_controls
from npkit.widgets.requests import Request
from npkit.widgets.worker import Worker

PARTS = ("progress", "error", "prompt", "pictures", "ledger", "beam", "sent")
BUTTONS = {"optimise": ("Optimise", "write the prompt, paint and score both"),
           "repaint": ("Paint other seeds", "paint and score both prompts from the next seeds"),
           "explain": ("Ledger", "what each modifier bought, by every judge"),
           "trace": ("Beam", "how the hypotheses gained their clauses"),
           "cancel": ("Cancel", "end the work at its next step")}
LOADED: dict[tuple, Tools] = {}  # study -> its tools: all panels of a kernel share one policy and one set of judges


def explore(run: Run, prompt: str = "a castle tower") -> "Explorer":
    """Return the constraint explorer of a study, as a widget; nothing is loaded before the first click."""
    return Explorer(tools_of(run), prompt)


def tools_of(run: Run) -> Tools:
    """Return the policies and judges of a study, which are loaded once in a kernel."""
    return LOADED.setdefault((run.stage, run.config, run.seed), Tools(run))


class Explorer(widgets.VBox):
    """The panel: fields, buttons, and below them what came of the request. `history` has every answer, oldest first."""

    def __init__(self, tools: Tools, prompt: str = ""):
        self.tools, self.controls = tools, make_controls(tools.run, prompt)
        self.parts = {name: widgets.HTML() for name in PARTS}
        self.buttons = {name: widgets.Button(description=text, tooltip=hint, layout={"width": "auto"},
                                             button_style="primary" if name == "optimise" else "")
                        for name, (text, hint) in BUTTONS.items()}
        self.past = widgets.Dropdown(options=[], description="history", style={"description_width": "60px"},
                                     layout={"width": "420px", "max_width": "100%"})
        self.undo = widgets.Button(description="Undo", tooltip="back to the request before", layout={"width": "80px"})
        self.other = widgets.Dropdown(options=[], description="alternative", style={"description_width": "80px"},
                                      layout={"width": "420px", "max_width": "100%"})
        self.take = widgets.Button(description="Take this one", tooltip="put the alternative in the prompt's place",
                                   layout={"width": "auto"})
        self.worker = Worker(self.show_progress, self.finish)
        self.history: list[Answer] = []
        self.at = -1  # place in the history of what is shown
        self.keywords = keywords.load(tools.run.config.neurologic.keywords)
        row = {"flex_flow": "row wrap", "align_items": "center"}
        self.later = [widgets.HBox(pair, layout=row) for pair in ([self.other, self.take], [self.past, self.undo])]
        super().__init__([
            widgets.HTML(pages.STYLE), self.controls.box, widgets.HBox([*self.buttons.values()], layout=row),
            *(self.parts[name] for name in ("progress", "error", "prompt")), self.later[0],
            *(self.parts[name] for name in ("pictures", "ledger", "beam", "sent")), self.later[1]])
        self.add_class("npkit-panel")  # what `pages.STYLE` is about
        self.connect()
        self.enable(True)

    def __repr__(self) -> str:
        return "the constraint explorer: JupyterLab and Voila show the panel, the cells below do the same from code"

    # 1. What the user does -------------------------------------------------------------------------------------------
    def connect(self) -> None:
        """Give every button and the history their functions."""
        for name, button in self.buttons.items():
            button.on_click(self.guarded(getattr(self, name)))
        self.undo.on_click(self.guarded(self.go_back))
        self.take.on_click(self.guarded(self.take_other))
        self.controls.add.on_click(self.guarded(self.controls.add_phrase))
        self.past.observe(self.guarded(self.go_to_chosen), "value")

    def guarded(self, function: Callable[[], None]) -> Callable[..., None]:
        """Return a callback that shows its errors in the panel: those of a callback vanish otherwise."""
        def callback(*_event) -> None:
            try:
                self.show_error("")
                function()
            except NpkitError as error:
                self.show_error(str(error))
            except Exception as error:  # noqa: BLE001 (whatever it is, the user must see it)
                self.show_error(f"npkit itself failed, not your request: {type(error).__name__}: {error}")
        return callback

    def optimise(self) -> None:
        """Write the prompt; then what its clauses cost, both pictures, and their scores."""
        request, paint = self.controls.read(), self.controls.checks["pictures"].value

        def work(tell: Callable[..., None]) -> None:
            self.remember(answers.write(request, self.tools, tell))
            self.show(answers.with_prices(self.history[-1], self.tools, tell))
            if paint:
                self.show(answers.with_pictures(self.history[-1], self.tools, tell, self.show))

        self.begin(work)

    def repaint(self) -> None:
        """Paint and score both prompts from the next seeds."""
        answer = self.shown()
        seeds = answer.request.picture_seeds
        numbers = self.controls.numbers
        numbers["first_seed"].value = seeds[-1] + 1 if answer.pictures else seeds[0]
        request = self.controls.read()
        changed = Answer(Request(**{**vars(answer.request), "picture_seeds": request.picture_seeds}), answer.found,
                         answer.alternatives)
        self.begin(lambda tell: self.show(answers.with_pictures(changed, self.tools, tell, self.show)))

    def explain(self) -> None:
        """Make the ledger of what is shown."""
        answer = self.shown()
        self.begin(lambda tell: self.show(answers.with_ledger(answer, self.tools, tell)))

    def trace(self) -> None:
        """Draw the beam of what is shown."""
        answer = self.shown()
        self.begin(lambda tell: self.set_part("beam", beam_of(answer, self.tools, tell)))

    def cancel(self) -> None:
        """End the work at its next step."""
        self.worker.cancel()

    def take_other(self) -> None:
        """Put the chosen alternative in the place of the prompt, and paint it."""
        answer = answers.choose(self.shown(), self.other.value or 0)
        self.remember(answer)
        if self.controls.checks["pictures"].value:
            self.begin(lambda tell: self.show(answers.with_pictures(answer, self.tools, tell, self.show)))

    def go_back(self) -> None:
        """Show the answer before, and put its request into the fields."""
        if self.at < 1:
            raise NpkitError("there is nothing to undo: this is the first request")
        self.past.value = self.at - 1

    def go_to_chosen(self) -> None:
        """Show the answer that was chosen in the history, and put its request into the fields."""
        if self.past.value is None or self.past.value == self.at or self.worker.busy:
            return
        self.at = self.past.value
        self.controls.show(self.history[self.at].request)
        self.set_part("ledger", "")
        self.set_part("beam", "")
        self.render()

    # 2. Work ---------------------------------------------------------------------------------------------------------
    def begin(self, work: Callable[[Callable[..., None]], None]) -> None:
        """Start work in the panel's thread; the buttons wait for its end."""
        self.enable(False)
        if not self.worker.start(work):
            raise NpkitError("the panel is at work already: wait for it, or cancel it")

    def finish(self, sentence: str) -> None:
        """Say what went wrong, if anything, and give the buttons back; called in the thread that worked."""
        self.set_part("progress", "")
        self.show_error(sentence)
        self.enable(True)

    def show_progress(self, done: int, total: int, words: str) -> None:
        """Show how far the work is."""
        self.set_part("progress", pages.progress_page(done, total, words))

    def enable(self, idle: bool) -> None:
        """Let the user start work (and cancel none), or the other way round; some buttons need an answer first."""
        ready = {"optimise": True, "cancel": False}
        for name, button in self.buttons.items():
            button.disabled = not ready.get(name, bool(self.history)) if idle else name != "cancel"
        self.take.disabled = self.other.disabled = not (idle and self.other.options)
        self.undo.disabled = not (idle and self.at > 0)
        # what needs an answer is hidden until there is one
        for line, there in zip(self.later, (self.other.options, self.history), strict=True):
            line.layout.display = "" if there else "none"
        self.past.disabled = not (idle and self.history)

    # 3. What is shown ------------------------------------------------------------------------------------------------
    def shown(self) -> Answer:
        """Return the answer that is shown."""
        if not self.history:
            raise NpkitError("there is no optimised prompt yet: press Optimise first")
        return self.history[self.at]

    def remember(self, answer: Answer) -> None:
        """Add an answer to the history and show it."""
        self.history.append(answer)
        self.at = len(self.history) - 1
        options = [(f"{number}: {each.found.optimized[:60]}", number - 1)
                   for number, each in enumerate(self.history, 1)]
        self.past.options = options
        self.past.value = self.at
        for name in ("pictures", "ledger", "beam"):
            self.set_part(name, "")
        self.render()

    def show(self, answer: Answer) -> None:
        """Show more of the answer that is shown."""
        self.history[self.at] = answer
        self.render()

    def render(self) -> None:
        """Write every page of the answer that is shown."""
        answer = self.shown()
        self.set_part("prompt", pages.prompt_page(answer, self.keywords))
        self.set_part("pictures", pages.pictures_page(answer) if answer.pictures else "")
        if answer.found.ledger:
            self.set_part("ledger", pages.ledger_page(answer))
        self.set_part("sent", pages.sent_page(answer))
        self.other.options = [(f"{number}: {each.prompt[:60]}", number)
                              for number, each in enumerate(answer.alternatives, 1)]
        self.other.value = 1 if answer.alternatives else None
        if not self.worker.busy:
            self.enable(True)

    def set_part(self, name: str, html: str) -> None:
        """Write one part of the page, if it is another one: each change is a message to the browser."""
        if self.parts[name].value != html:
            self.parts[name].value = html

    def show_error(self, sentence: str) -> None:
        """Show an error in words, or ("") none."""
        self.set_part("error", pages.error_page(sentence))


def beam_of(answer: Answer, tools: Tools, tell: Callable[..., None]) -> str:
    """Return the page with the beam of an answer."""
    trace = traced(answer, tools, tell)
    buffer = io.BytesIO()
    beam.beam_figure(trace).savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    words = (f"The beam over {len(trace.steps) - 1} tokens: number of clauses that each hypothesis meets, of "
             f"{len(trace.clauses)}")
    return pages.beam_page(buffer.getvalue(), trace.table(), words)


def traced(answer: Answer, tools: Tools, tell: Callable[..., None] = answers.silent) -> beam.Trace:
    """Return the search that found an answer's prompt, step by step; always the kit's own (`neurologic.compat`)."""
    with tools.lock:
        profile = answers.profile_of(answer.request)
        tell(0, 1, "searching once more, noting the beam")
        with tools.writing(answer.request.policy, tell) as policy:
            wishes = answers.found_wishes(answer, profile)
            return beam.trace_search(policy, answer.found.prompt, wishes(answer.found.prompt),
                                     replace(profile.neurologic, compat=""))
