"""Answers: plain functions from a request to its optimised prompt, pictures, scores and ledger, as code uses them."""
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import regex
import torch
from torch import Tensor

from npkit import optimize as engine
from npkit.errors import ClausesTooLong, NpkitError
from npkit.findings.ledger import mean_over_pictures
from npkit.findings.stats import Interval
from npkit.neurologic import Decoded, decode_best
from npkit.neurologic.published import decode_as_set
from npkit.optimize import Optimized
from npkit.patterns import (
    PatternWishes,
    check_protected,
    compile_patterns,
    first_match,
    forbid_patterns,
    kept_words,
    optimize_without,
)
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import Run, check_seed, set_threads
from npkit.study.profiles import Profile, load_profile
from npkit.text import keywords
from npkit.text.policy import Policy
from npkit.widgets.requests import Request, normal, to_json
from npkit.wishes import read_wishes, tidied

Tell = Callable[..., None]  # tell(done, total, words): shows how far the work is, and raises where it is cancelled
MAX_WORDS = 400  # of a prompt; what a policy takes is less, and said in tokens
MAX_PICTURES, MAX_ALTERNATIVES = 16, 10


def silent(*_progress) -> None:
    """Tell nobody."""


# 1. What is loaded once ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tools:
    """The policies, image models and judges of one study, each loaded at its first use; one thread works at a time."""
    run: Run
    policies: dict[str, Policy] = field(default_factory=dict)
    scorers: dict[str, Scorer] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def policy(self, name: str) -> Policy:
        """Return the study's policy "ppo" or "sft", or one in a folder."""
        if name not in self.policies:
            self.policies[name] = engine.trained_policy(self.run, name)
        return self.policies[name]

    @contextmanager
    def scorer(self, profile: Profile) -> Iterator[Scorer]:
        """Give the judges with an image model, and a connection to the score cache of the thread that asks."""
        from npkit.scoring.cache import shared_cache
        set_threads(profile)
        name = profile.images.model
        if name not in self.scorers:
            self.scorers[name] = engine.load_scorer(profile, self.run.device)
            self.scorers[name].cache.connection.close()
        scorer = copy(self.scorers[name])
        scorer.cache, scorer.kept = shared_cache(), {}
        try:
            yield scorer
        finally:
            scorer.cache.connection.close()

    @contextmanager
    def writing(self, name: str, tell: Tell) -> Iterator[Policy]:
        """Give a policy whose every step can be cancelled, in one thread of the CPU, as `npkit optimize` works."""
        model, tokenizer = self.policy(name)
        torch.set_num_threads(1)
        hook = model.register_forward_pre_hook(lambda *_: tell())
        try:
            yield model, tokenizer
        finally:
            hook.remove()
            set_threads(self.run.config)


# 2. The prompt -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answer:
    """What came of a request: the best prompt, other good ones, and as far as they were asked for pictures and scores.

    `pictures` has those of the prompt and of the optimised one by picture seed, (2, 3, height, width) in [0, 1].
    `gains` has by judge the means of both and the interval of their difference over the seeds (None of one seed).
    """
    request: Request
    found: Optimized
    alternatives: tuple[Decoded, ...] = ()
    pictures: Mapping[int, Tensor] = field(default_factory=dict)
    gains: Mapping[str, tuple[float, float, Interval | None]] = field(default_factory=dict)

    @property
    def protected(self) -> list[dict]:
        """Where each protected word stands in the optimised prompt."""
        return kept_words(list(map(normal, self.request.protected)), self.found.optimized)


def profile_of(request: Request) -> Profile:
    """Return the profile with what the request changes; raise on what no panel takes."""
    check_seed(request.seed)
    if not request.prompt.strip():
        raise NpkitError("the prompt is empty: write what the picture should show, such as \"a castle tower\"")
    if (count := len(request.prompt.split())) > MAX_WORDS:
        raise NpkitError(f"the prompt has {count} words, at most {MAX_WORDS} are taken: shorten it")
    for name, value, least, most in (("picture seeds", len(request.picture_seeds), 1, MAX_PICTURES),
                                     ("alternatives", request.num_alternatives, 1, MAX_ALTERNATIVES)):
        if not least <= value <= most:
            raise NpkitError(f"the number of {name} is {value}: it goes from {least} to {most}")
    if request.num_pictures is not None and request.num_pictures < 2:
        raise NpkitError(f"the number of pictures behind a decision is {request.num_pictures}: an interval needs at "
                         "least 2")
    for seed in request.picture_seeds:
        check_seed(seed)
    return load_profile(request.profile, {**request.settings, **request.decoding})


def wishes_of(request: Request, profile: Profile) -> PatternWishes:
    """Return what the request demands and forbids."""
    wishes = read_wishes(profile, request.any_of, request.require, list(map(normal, request.excluded)),
                         seed=request.seed if request.defaults else None)
    return forbid_patterns(wishes, request.patterns)


def write(request: Request, tools: Tools, tell: Tell = silent) -> Answer:
    """Return the optimised prompt with its alternatives, and the user's own in its place where that is to be kept."""
    with tools.lock:
        profile = profile_of(request)
        wishes, others = wishes_of(request, profile), []
        check_protected(request.prompt, list(map(normal, request.protected)), wishes.exclude, wishes.patterns)
        tell(0, 4, "loading the policy")
        with tools.writing(request.policy, tell) as policy:
            tell(1, 4, "writing the prompt")
            answer = best_of(request.num_alternatives, others)
            (found,) = optimize_without([request.prompt], policy, wishes, profile, answer=answer)
        if request.min_gain is not None:
            tell(2, 4, "comparing pictures of both prompts")
            with tools.scorer(profile) as scorer:
                seeds = engine.measuring_seeds(request.seed, request.num_pictures)
                (kept,) = engine.keep_if_better([found], scorer, wishes, profile.ppo.weights,
                                                min_gain=float(request.min_gain), seeds=seeds)
            if isinstance(kept, engine.Refused):
                raise NpkitError(kept.error)
            found = kept
        others = [each for each in others if not first_match(wishes.patterns, each.prompt)]
        return Answer(request, found, tuple(others))


def best_of(num_best: int, others: list[Decoded]) -> Callable[..., list[Optimized]]:
    """Return what `npkit.optimize.optimize` does for one prompt; the next best texts are left in `others`."""
    def answer(prompts: Sequence[str], policy: Policy, wishes: PatternWishes, profile: Profile, advice: str = ""
               ) -> list[Optimized]:
        text = tidied(prompts[0])
        engine.check_lengths([text], policy, profile)
        try:
            if profile.neurologic.compat:  # the published decoders give one text
                best = [decode_as_set(*policy, [text], [wishes(text)], profile.neurologic)]
            else:
                best = decode_best(*policy, [text], [wishes(text)], profile.neurologic, num_best)
        except ClausesTooLong as error:
            raise ClausesTooLong(f"{error}; a larger length gives more room, and without default clauses less is "
                                 f"demanded{advice}") from error
        first, *others[:] = best[0]
        return [Optimized(text, first.prompt, first.certificate, first.logprob,
                          typed=engine.differing(prompts[0], text))]

    return answer


def with_prices(answer: Answer, tools: Tools, tell: Tell = silent) -> Answer:
    """Return the answer with what each clause costs, unless the user's own prompt was kept."""
    if answer.found.logprob is None or not answer.found.certificate.clauses:
        return answer
    with tools.lock, tools.writing(answer.request.policy, tell) as policy:
        profile = profile_of(answer.request)
        if profile.neurologic.compat:
            return answer
        (found,) = engine.with_prices([answer.found], policy, found_wishes(answer, profile), profile)
        return replace(answer, found=found)


def found_wishes(answer: Answer, profile: Profile) -> PatternWishes:
    """Return the wishes of an answer, with the phrases that its forbidden patterns have found."""
    wishes = wishes_of(answer.request, profile)
    found = [phrase for phrase in answer.found.certificate.excluded if phrase not in wishes.exclude]
    wishes.found[answer.found.prompt] = found
    return wishes


def choose(answer: Answer, number: int) -> Answer:
    """Return the answer with alternative `number` (0 is the best) in the place of the prompt, without its pictures."""
    texts = [answer.found, *answer.alternatives]
    if not 0 < number < len(texts):
        return answer
    chosen, old = answer.alternatives[number - 1], answer.found
    best = Decoded(old.prompt, old.optimized[len(old.prompt):], old.logprob or 0.0, 0, old.certificate)
    others = [best, *answer.alternatives[:number - 1], *answer.alternatives[number:]]
    found = Optimized(old.prompt, chosen.prompt, chosen.certificate, chosen.logprob, typed=old.typed)
    return Answer(answer.request, found, tuple(others))


# 3. Pictures, scores, ledger -----------------------------------------------------------------------------------------
def with_pictures(answer: Answer, tools: Tools, tell: Tell = silent, show: Callable[[Answer], None] | None = None
                  ) -> Answer:
    """Return the answer with both pictures from each of its seeds, and every judge's scores of them.

    `show` gets the answer after the first seed, so that nobody waits for the others.
    """
    with tools.lock:
        profile, seeds = profile_of(answer.request), answer.request.picture_seeds
        tell(0, len(seeds) + 1, "loading the image model and the judges")
        pictures, scores, texts = {}, {}, [answer.found.prompt, answer.found.written]
        with tools.scorer(profile) as scorer:
            for number, seed in enumerate(seeds):
                tell(number + 1, len(seeds) + 1, f"painting pair {number + 1} of {len(seeds)}")
                pictures[seed] = scorer.pictures(texts, seed)
                found = scorer.scores([texts[0]] * 2, texts, seed)
                for judge, values in found.items():
                    scores.setdefault(judge, []).append(values.double().numpy())
                if show and number == 0 and len(seeds) > 1:
                    show(replace(answer, pictures=dict(pictures), gains=gains_of(scores)))
        return replace(answer, pictures=pictures, gains=gains_of(scores))


def gains_of(scores: Mapping[str, Sequence[np.ndarray]]) -> dict[str, tuple[float, float, Interval | None]]:
    """Return by judge the mean scores of both prompts and the interval of the gain; each row is a picture seed's two.

    Of equal differences the interval is a point; of one picture seed there is none.
    """
    found = {}
    for judge, rows in scores.items():
        table = np.stack(rows)
        gain = mean_over_pictures(table[:, 1] - table[:, 0]) if len(table) > 1 else None
        found[judge] = (float(table[:, 0].mean()), float(table[:, 1].mean()), gain)
    return found


def with_ledger(answer: Answer, tools: Tools, tell: Tell = silent) -> Answer:
    """Return the answer with the ledger: what each added modifier bought, in every judge's eyes."""
    with tools.lock:
        profile = profile_of(answer.request)
        tell(0, 2, "loading the image model and the judges")
        with tools.scorer(profile) as scorer:
            tell(1, 2, "painting the prompt without each modifier")
            seeds = engine.measuring_seeds(answer.request.seed, answer.request.num_pictures)
            cancellable(scorer, tell)
            (found,) = engine.with_ledgers([answer.found], scorer, profile, seeds)
        return replace(answer, found=found)


def cancellable(scorer: Scorer, tell: Tell) -> None:
    """Let a scorer ask before every batch of pictures whether the work has been cancelled."""
    model, render = scorer.image_model, scorer.image_model.render
    scorer.image_model = copy(model)

    def asking(*arguments) -> Tensor:
        tell()
        return render(*arguments)

    scorer.image_model.render = asking


def answer_to(request: Request, tools: Tools, tell: Tell = silent, *, pictures: bool = True) -> Answer:
    """Return the whole answer to a request, as the panel shows it: prompt, alternatives, prices, pictures, scores."""
    answer = with_prices(write(request, tools, tell), tools, tell)
    return with_pictures(answer, tools, tell) if pictures else answer


# 4. The lesson's artifact --------------------------------------------------------------------------------------------
LESSON_PROMPTS = ("a castle tower", "a red fox", "two cats at night", "an old lighthouse")


def lesson_requests(run: Run) -> list[Request]:
    """Return the lesson's requests: each prompt with default clauses alone, with demands, and with things forbidden.

    What is demanded and forbidden are keywords of the study, whichever it has; a category keeps one that is allowed.
    """
    words = {category: [row.phrase for row in rows] for category, rows in keywords.load(
        run.config.neurologic.keywords).items()}
    forbidden = {category: phrases[:1] if len(phrases) > 1 else [] for category, phrases in words.items()}
    ways = ({}, {"wanted": {category: phrases[:2] for category, phrases in list(words.items())[:2]}},
            {"excluded": forbidden.get("booster", []), "patterns": map(regex.escape, forbidden.get("vibe", []))})
    return [Request(prompt=prompt, protected=prompt.split()[-1:], num_alternatives=1, policy=policy_name(run),
                    profile=run.config.name, settings=run.settings, **way) for prompt in LESSON_PROMPTS for way in ways]


def policy_name(run: Run, name: str = "ppo") -> str:
    """Return the name of a study's policy as the command line takes it: of another seed than 0 its folder."""
    return name if run.seed == 0 else str(run.input(name).path / "model")


def attempt(request: Request, tools: Tools) -> Answer | str:
    """Return the answer to a request without pictures, or the sentence that says why there is none."""
    try:
        return write(request, tools)
    except NpkitError as error:
        return str(error)


def write_lesson(folder: Path, tools: Tools) -> dict[str, float]:
    """Write the answers to the lesson's requests as a table, and return the metrics of their certificates."""
    asked = lesson_requests(tools.run)
    tried = [attempt(request, tools) for request in asked]
    found = [each for each in tried if isinstance(each, Answer)]
    rows = [{"request": to_json(request), "error": each} if isinstance(each, str) else {
        "request": to_json(request), "error": "", "prompt": each.found.prompt, "optimized": each.found.optimized,
        "holds": each.found.certificate.holds} for request, each in zip(asked, tried, strict=True)]
    pd.DataFrame(rows).to_parquet(folder / "answers.parquet")
    met = [clause.holds for each in found for clause in each.found.certificate.clauses]
    broken = sum(len(each.found.certificate.violations) + bool(first_match(
        compile_patterns(each.request.patterns), each.found.optimized)) for each in found)
    kept = [len(each.protected) == len(each.request.protected) for each in found]
    return {"explorer/num_requests": len(asked), "explorer/num_refused": len(asked) - len(found),
            "explorer/clause_coverage": sum(met) / max(1, len(met)), "explorer/violations": broken,
            "explorer/protected_share": sum(kept) / max(1, len(kept))}
