"""Beam: how the hypotheses of one real search gain clauses, step by step, as a figure and as a table."""
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
import torch

from npkit.figures import new_figure
from npkit.figures.base import INK, MUTED, Figure, styled
from npkit.neurologic import Constraints, Decoded
from npkit.neurologic.decoding import open_search, plan, read_out
from npkit.neurologic.reader import Reader
from npkit.neurologic.search import Beam, Rules, run_search
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import Policy, evaluating

WINNER, OTHERS = "#D55E00", "#0072B2"


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis after a step: its tokens so far, its log-probability in nats, its rank, the clauses it meets."""
    tokens: tuple[int, ...]
    logprob: float
    rank: float
    met: frozenset[int]  # places of the clauses among the wanted ones


@dataclass(frozen=True)
class Trace:
    """A search step by step: the hypotheses after 0, 1, 2 ... tokens, what was found, and the names of its clauses."""
    steps: tuple[tuple[Hypothesis, ...], ...]
    found: Decoded
    best_tokens: tuple[int, ...]  # that write it, without EOS
    clauses: tuple[str, ...]
    pieces: Mapping[int, str] = field(repr=False)  # token -> what it writes

    @property
    def winner(self) -> list[Hypothesis | None]:
        """The hypothesis of each step that the text which was found grew from; None where it had ended."""
        best = self.best_tokens
        return [next((each for each in step if each.tokens == best[:length]), None)
                for length, step in enumerate(self.steps)]

    def table(self) -> pd.DataFrame:
        """Return a row a step: the token that the winner wrote, what it met then, and the whole beam beside it."""
        rows, before = [], frozenset()
        for length, (hypothesis, step) in enumerate(zip(self.winner, self.steps, strict=True)):
            if hypothesis is None or not length:
                continue
            gained = ", ".join(self.clauses[place] for place in sorted(hypothesis.met - before))
            rows.append((length, self.pieces[hypothesis.tokens[-1]], len(hypothesis.met), gained or "-",
                         round(hypothesis.logprob, 2), len(step), min(len(each.met) for each in step),
                         max(len(each.met) for each in step)))
            before = hypothesis.met
        return pd.DataFrame(rows, columns=["step", "token", "clauses met", "met now", "log-probability", "hypotheses",
                                           "fewest met", "most met"]).set_index("step")


class Recorder:
    """A reader that notes the beam before each step of the search, which is the search's own and stays as it is."""

    def __init__(self, reader: Reader, rules: Rules, beam: Beam, places: list[int]):
        self.reader, self.rules, self.beam, self.places = reader, rules, beam, places
        self.steps: list[tuple[Hypothesis, ...]] = []

    def logprobs(self) -> torch.Tensor:
        """Note the hypotheses, and return the reader's log-probabilities."""
        self.note()
        return self.reader.logprobs()

    def step(self, row: torch.Tensor, token: torch.Tensor) -> None:
        """Let the reader read the chosen tokens."""
        self.reader.step(row, token)

    def note(self) -> None:
        """Note the live hypotheses of the first sentence."""
        beam, met = self.beam, self.rules.met_at_end(self.beam)[0].tolist()
        alive = [number for number, score in enumerate(beam.scores[0].tolist()) if score > -1e29]
        self.steps.append(tuple(Hypothesis(
            tuple(beam.tokens[0, number, :beam.length].tolist()), float(beam.scores[0, number]),
            float(beam.rank[0, number]), frozenset(place for bit, place in enumerate(self.places)
                                                   if met[number] >> bit & 1)) for number in alive))


def trace_search(policy: Policy, prefix: str, constraints: Constraints, config: NeurologicConfig) -> Trace:
    """Return the trace of one search, which finds what `npkit.neurologic.decode` finds."""
    model, tokenizer = policy
    vocabulary, jobs = plan(model, tokenizer, [prefix], constraints, config)
    with evaluating(model):
        rules, beam, reader = open_search(model, vocabulary, jobs, config)
        recorder = Recorder(reader, rules, beam, [slot.clause for slot in jobs[0].template.layout])
        run_search(rules, beam, recorder, torch.Generator().manual_seed(0))
        recorder.note()
    ((found, *_),) = read_out(beam, vocabulary, jobs)
    tokens = {token for step in recorder.steps for each in step for token in each.tokens}
    pieces = {token: tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in tokens}
    best = tuple(token for token in beam.best_tokens[0, 0].tolist() if token != tokenizer.eos_token_id)
    return Trace(tuple(recorder.steps), found, best, tuple(name for name, _ in constraints.wanted), pieces)


@styled
def beam_figure(trace: Trace) -> Figure:
    """Return the drawing of a trace: every hypothesis a dot at its step and its number of clauses, lines to parents.

    Of hypotheses with equally many clauses the likelier stands higher. The path of the text that was found is drawn
    thick, with the names of the clauses where it meets them.
    """
    figure, axes = new_figure(9.2, 3.6)
    heights = [heights_of(step) for step in trace.steps]
    for length, step in enumerate(trace.steps):
        for each in step:
            if length and (parent := each.tokens[:-1]) in heights[length - 1]:
                axes.plot([length - 1, length], [heights[length - 1][parent], heights[length][each.tokens]],
                          color=OTHERS, linewidth=0.7, alpha=0.5, zorder=1)
        axes.scatter([length] * len(step), list(heights[length].values()), s=9, color=OTHERS, zorder=2)
    winner = [(length, heights[length][each.tokens]) for length, each in enumerate(trace.winner) if each]
    axes.plot(*zip(*winner, strict=True), color=WINNER, linewidth=2, marker="o", markersize=3.5, zorder=3)
    label_gains(axes, trace, dict(winner))
    axes.set(xlabel="tokens written", ylabel="clauses met", yticks=range(len(trace.clauses) + 1),
             ylim=(-0.5, len(trace.clauses) + 0.9))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.text(0.01, 0.97, f"thick: the text that was found; thin: the other hypotheses, at most "
                          f"{max(map(len, trace.steps))} at a time", transform=axes.transAxes, fontsize=8, va="top",
              color=MUTED)
    return figure


def heights_of(step: tuple[Hypothesis, ...]) -> dict[tuple[int, ...], float]:
    """Return where each hypothesis of a step stands: at its number of clauses, the likelier ones a little higher."""
    heights = {}
    for count in {len(each.met) for each in step}:
        alike = sorted((each for each in step if len(each.met) == count), key=lambda each: -each.logprob)
        heights |= {each.tokens: count - 0.08 * place for place, each in enumerate(alike)}
    return heights


def label_gains(axes, trace: Trace, heights: Mapping[int, float]) -> None:
    """Write the names of the clauses where the winner meets them."""
    before = frozenset()
    for length, each in enumerate(trace.winner):
        if each is None:
            continue
        if gained := each.met - before:
            names = ", ".join(trace.clauses[place] for place in sorted(gained))
            axes.annotate(names, (length, heights[length]), xytext=(0, 7), textcoords="offset points", fontsize=8,
                          ha="center", color=INK, zorder=4)
        before = each.met
