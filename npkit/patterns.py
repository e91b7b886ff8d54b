"""Patterns: regular expressions that a prompt must not match, and words of it that must stay as they were typed.

The decoder bans phrases, not regular expressions. So keywords that a pattern finds are never drawn, the prompt is
decoded, and the words that a pattern finds in what was written are banned as a phrase; then it is decoded again.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import regex  # its searches can be given a time limit

from npkit import optimize as engine
from npkit.errors import ClausesTooLong, NpkitError
from npkit.neurologic import Constraints
from npkit.optimize import Optimized, Refused, check, differing, map_those
from npkit.study.profiles import Profile
from npkit.text.characters import COMMAS
from npkit.text.keywords import Keywords
from npkit.text.policy import Policy
from npkit.wishes import Wishes, tidied

TIMEOUT = 0.5      # seconds that one search may take
MAX_ROUNDS = 20    # of decoding one prompt
MAX_CHARS = 500    # of a pattern


# 1. Patterns ---------------------------------------------------------------------------------------------------------
def compile_patterns(texts: Iterable[str]) -> tuple[regex.Pattern, ...]:
    """Return the patterns, which match in any case; raise on one that is no regular expression or forbids any text."""
    return tuple(compile_pattern(text) for text in texts)


def compile_pattern(text: str) -> regex.Pattern:
    """Return one pattern, or raise a sentence on what is wrong with it."""
    if len(text) > MAX_CHARS:
        raise NpkitError(f"a forbidden pattern has at most {MAX_CHARS} characters, this one has {len(text)}: "
                         f"{text[:40]!r}...")
    if not text.strip():
        raise NpkitError("a forbidden pattern is empty: write a regular expression, such as 'trending|\\d+k'")
    try:
        pattern = regex.compile(text, regex.IGNORECASE)
    except (regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise NpkitError(f"the forbidden pattern {text!r} is no regular expression: {error}") from None
    if search(pattern, ""):
        raise NpkitError(f"the forbidden pattern {text!r} matches the empty text too, so it would forbid every prompt")
    return pattern


def search(pattern: regex.Pattern, text: str, start: int = 0) -> tuple[int, int] | None:
    """Return start and end of the first match at `start` or behind it, None where there is none.

    A search that takes longer than `TIMEOUT` raises: of some patterns, such as (a+)+$, the steps double with each
    letter of the text.
    """
    try:
        match = pattern.search(text, start, timeout=TIMEOUT)
    except TimeoutError:
        raise NpkitError(f"the forbidden pattern {pattern.pattern!r} takes too long (over {TIMEOUT:g} s on "
                         f"{len(text)} characters): avoid a repetition inside a repetition, as in (a+)+") from None
    return match.span() if match else None


def first_match(patterns: Iterable[regex.Pattern], text: str) -> str:
    """Return the first pattern that is found in a text, "" where none is."""
    return next((pattern.pattern for pattern in patterns if search(pattern, text)), "")


def written_words(pattern: regex.Pattern, prompt: str, prefix: str) -> list[str]:
    """Return the phrases behind `prefix` that a pattern finds, each widened to whole words, without outer commas."""
    phrases, at = [], 0
    while at <= len(prompt) and (span := search(pattern, prompt, at)):
        start, end = max(span[0], len(prefix)), span[1]
        while start > len(prefix) and joins_words(prompt, start):
            start -= 1
        while end < len(prompt) and joins_words(prompt, end):
            end += 1
        phrases.append(prompt[start:end].strip(f"{COMMAS} "))
        at = max(span[1], span[0] + 1)
    return list(dict.fromkeys(filter(None, phrases)))


def joins_words(text: str, place: int) -> bool:
    """Say whether a place in a text is inside a word: a letter, digit or underscore stands on both of its sides."""
    return all(char.isalnum() or char == "_" for char in text[place - 1:place + 1])


# 2. Wishes with patterns ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class PatternWishes(Wishes):
    """Wishes with forbidden patterns: what they have found in a prompt's completions is excluded like any phrase."""
    patterns: tuple[regex.Pattern, ...] = ()
    found: dict[str, list[str]] = field(default_factory=dict)  # prompt -> phrases found so far; filled while decoding

    def __call__(self, prompt: str) -> Constraints:
        more = self.found.get(prompt, [])
        return Wishes.__call__(replace(self, exclude=[*self.exclude, *more]), prompt)


def forbid_patterns(wishes: Wishes, texts: Sequence[str]) -> PatternWishes:
    """Return the wishes with forbidden patterns; keywords that one finds are not drawn any more.

    Raises where a pattern finds a phrase that the user asked for, or every keyword of a category with a default clause.
    """
    patterns = compile_patterns(texts)
    for phrase in wishes.asked:
        if found := first_match(patterns, phrase):
            raise NpkitError(f"{phrase!r} is required and matches the forbidden pattern {found!r}")
    allowed = wishes.allowed if wishes.seed is None or not patterns else without_matches(
        wishes.allowed, patterns, wishes.user)
    return PatternWishes(**{**vars(wishes), "allowed": allowed}, patterns=patterns)


def without_matches(keywords: Keywords, patterns: Sequence[regex.Pattern], user: Mapping[str, Sequence[str]]
                    ) -> Keywords:
    """Return the keywords that no pattern finds; a category whose phrases the user names may lose all."""
    kept = {category: tuple(row for row in rows if not first_match(patterns, row.phrase))
            for category, rows in keywords.items()}
    emptied = [category for category, rows in kept.items() if not rows]
    if unnamed := [category for category in emptied if not user.get(category)]:
        raise NpkitError(f"the forbidden patterns match every keyword of category {unnamed[0]!r}: name phrases of your "
                         "own for it, or forbid less")
    return {category: rows or keywords[category] for category, rows in kept.items()}  # the user's own replace these


# 3. Decoding ---------------------------------------------------------------------------------------------------------
def optimize_without(prompts: Sequence[str], policy: Policy, wishes: Wishes, profile: Profile, advice: str = "", *,
                     answer: Callable[..., list] | None = None) -> list[Optimized]:
    """Return what `answer` does (None: `npkit.optimize.optimize`), with nothing in it that a pattern finds.

    Raises where a prompt itself matches a pattern, or a pattern still finds something after `MAX_ROUNDS` decodings.
    """
    answer = answer or engine.optimize
    if not getattr(wishes, "patterns", ()):
        return answer(prompts, policy, wishes, profile, advice)
    for prompt in prompts:
        check_own_words(prompt, wishes)
    found = []
    for prompt in prompts:
        try:
            found.append(decode_until_free(prompt, policy, wishes, profile, advice, answer))
        except NpkitError:
            wishes.found.pop(tidied(prompt), None)  # what was excluded in vain
            raise
    return found


def optimize_each_without(prompts: Sequence[str], policy: Policy, wishes: Wishes, profile: Profile, advice: str = ""
                          ) -> list[Optimized | Refused]:
    """Return what `optimize_without` does, and why for each prompt that it does not take."""
    if not getattr(wishes, "patterns", ()):
        return engine.optimize_each(prompts, policy, wishes, profile, advice)

    def one(prompt: str) -> Optimized | Refused:
        checked = check(prompt, policy, wishes, profile)
        if isinstance(checked, Refused):
            return checked
        try:
            return optimize_without([prompt], policy, wishes, profile, advice)[0]
        except NpkitError as error:
            return Refused(tidied(prompt), str(error), differing(prompt, tidied(prompt)))

    return map_those(str, lambda taken: list(map(one, taken)), prompts)


def check_own_words(prompt: str, wishes: PatternWishes) -> None:
    """Raise where the user's own prompt matches a forbidden pattern: it is never changed."""
    if found := first_match(wishes.patterns, tidied(prompt)):
        raise NpkitError(f"the prompt itself matches the forbidden pattern {found!r}")


def decode_until_free(prompt: str, policy: Policy, wishes: PatternWishes, profile: Profile, advice: str,
                      answer: Callable[..., list]) -> Optimized:
    """Return a prompt's answer without a match, decoded again while there is one, its words excluded."""
    excluded = wishes.found.setdefault(tidied(prompt), [])
    excluded.clear()  # of an earlier answer to the same prompt
    for _ in range(MAX_ROUNDS):
        try:
            (found,) = answer([prompt], policy, wishes, profile, advice)
        except NpkitError as error:
            if not excluded or isinstance(error, ClausesTooLong):
                raise
            raise NpkitError(f"without the words that the forbidden patterns match ({', '.join(excluded)}) nothing can "
                             f"be written: {error}") from error
        if not (pattern := first_match(wishes.patterns, found.optimized)):
            return found
        matched = dict.fromkeys(phrase for each in wishes.patterns
                                for phrase in written_words(each, found.optimized, found.prompt))
        if not (new := [phrase for phrase in matched if phrase not in excluded]):
            raise NpkitError(f"the forbidden pattern {pattern!r} matches no whole word of {found.optimized!r} that "
                             "could be excluded: forbid words, not commas or places")
        excluded += new
    raise NpkitError(f"the forbidden pattern {pattern!r} still matches after {MAX_ROUNDS} decodings, in "
                     f"{found.optimized!r}: forbid less, or exclude phrases instead")


# 4. Protected words --------------------------------------------------------------------------------------------------
def check_protected(prompt: str, words: Sequence[str], excluded: Sequence[str], patterns: Sequence[regex.Pattern] = ()
                    ) -> None:
    """Raise where a word that must stay as typed does not stand in the prompt, is forbidden, or is tidied away."""
    text = tidied(prompt)
    for word in words:
        if tidied(word).casefold() in [tidied(phrase).casefold() for phrase in excluded]:
            raise NpkitError(f"{word!r} is both protected and excluded")
        if found := first_match(patterns, tidied(word)):
            raise NpkitError(f"{word!r} is protected and matches the forbidden pattern {found!r}")
        if not place_of(word, prompt):
            raise NpkitError(f"the protected {word!r} does not stand in the prompt, letter for letter: {prompt[:60]!r}")
        if not place_of(word, text):
            raise NpkitError(f"the protected {word!r} cannot stay as typed: the policy reads the prompt as "
                             f"{text[:60]!r}; type it that way")


def place_of(word: str, text: str) -> tuple[int, int] | None:
    """Return start and end of the first place where a word stands in a text as typed, whole words only."""
    left, right = (r"(?<!\w)" if word[:1].isalnum() else ""), (r"(?!\w)" if word[-1:].isalnum() else "")
    match = regex.search(left + regex.escape(word) + right, text) if word else None
    return match.span() if match else None


def kept_words(words: Sequence[str], optimized: str) -> list[dict]:
    """Return where each protected word stands in an optimised prompt, as JSON types."""
    return [{"phrase": word, "start": span[0], "end": span[1]} for word in words if (span := place_of(word, optimized))]
