"""Constraints: what a prompt must and must not mention, in conjunctive normal form, judged on its text."""
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from npkit.errors import NpkitError
from npkit.keywords import CATEGORIES, Keywords

MAX_CLAUSES = 60  # each is one bit of a 64-bit integer while decoding


# 1. Phrases in a text ------------------------------------------------------------------------------------------------
def find(phrase: str, text: str) -> tuple[int, int] | None:
    """Return start and end of the first place where `phrase` stands in `text` as whole words, in any case.

    "text" is in neither "texture" nor "context". An edge of a phrase that is no letter of an alphabet with capitals,
    no digit and no underscore (an emoji, a Chinese character, a bracket) needs no boundary.
    """
    match = _pattern(phrase).search(text)
    return match.span() if match else None


def has_boundary(char: str) -> bool:
    """Say whether a phrase that begins or ends with `char` begins or ends at a word boundary."""
    return (char.isascii() and (char.isalnum() or char == "_")) or char.lower() != char.upper()


@lru_cache(maxsize=10_000)
def _pattern(phrase: str) -> re.Pattern:
    words = phrase.split()
    if not words:
        raise NpkitError(f"a phrase needs at least one word, got {phrase!r}")
    left = r"(?<!\w)" if has_boundary(words[0][0]) else ""
    right = r"(?!\w)" if has_boundary(words[-1][-1]) else ""
    return re.compile(left + r"\s+".join(map(re.escape, words)) + right, re.IGNORECASE)


# 2. Literals, clauses, sets of clauses -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Literal:
    """A phrase that should occur in the text, or (`positive=False`) should not."""
    phrase: str
    positive: bool = True

    def holds(self, text: str) -> bool:
        return (find(self.phrase, text) is not None) == self.positive


Clause = tuple[Literal, ...]  # literals joined by OR
CNF = tuple[Clause, ...]      # clauses joined by AND


def satisfied(cnf: CNF, text: str) -> list[bool]:
    """Say for each clause whether one of its literals holds in `text`."""
    return [any(literal.holds(text) for literal in clause) for clause in cnf]


def any_of(*phrases: str) -> Clause:
    """Return the clause that any of `phrases` satisfies."""
    return tuple(Literal(phrase) for phrase in phrases)


@dataclass(frozen=True)
class Constraints:
    """What decoding takes: named clauses of wanted phrases, and the phrases that must not occur."""
    wanted: tuple[tuple[str, Clause], ...] = ()  # (category, clause), in order
    excluded: tuple[str, ...] = ()

    @property
    def cnf(self) -> CNF:
        clauses = tuple(clause for _, clause in self.wanted)
        return clauses + tuple((Literal(phrase, positive=False),) for phrase in self.excluded)

    @classmethod
    def from_cnf(cls, cnf: CNF) -> "Constraints":
        """Return the constraints of a CNF whose negative literals stand alone in their clause."""
        wanted, excluded = [], []
        for number, clause in enumerate(cnf, 1):
            if all(literal.positive for literal in clause):
                wanted.append((f"clause {number}", clause))
            elif len(clause) == 1:
                excluded.append(clause[0].phrase)
            else:
                raise NpkitError(f"clause {number} joins a negative literal to others by OR; a phrase to avoid is a "
                                 "clause of its own")
        return checked(cls(tuple(wanted), tuple(excluded)))


def checked(constraints: Constraints) -> Constraints:
    """Return `constraints`, or raise on an empty clause or phrase, too many clauses, or a contradiction."""
    if len(constraints.wanted) > MAX_CLAUSES:
        raise NpkitError(f"{len(constraints.wanted)} clauses are too many: the decoder takes {MAX_CLAUSES}")
    for phrase in constraints.excluded:
        _pattern(phrase)
    for category, clause in constraints.wanted:
        if not clause:
            raise NpkitError(f"the clause {category!r} is empty: nothing could satisfy it")
        for literal in clause:
            _check_wanted(category, literal, constraints.excluded)
    return constraints


def _check_wanted(category: str, literal: Literal, excluded: Sequence[str]) -> None:
    if not literal.positive:
        raise NpkitError(f"the clause {category!r} wants {literal.phrase!r} absent: list it in `excluded` instead")
    _pattern(literal.phrase)
    for banned in excluded:
        if find(banned, literal.phrase):
            same = literal.phrase.lower().split() == banned.lower().split()
            raise NpkitError(f"{literal.phrase!r} is both required ({category}) and excluded" if same else
                             f"{literal.phrase!r} is required ({category}) and contains the excluded {banned!r}")


# 3. The six categories and the user's wishes -------------------------------------------------------------------------
def default_clauses(keywords: Keywords, per_category: int, rng: np.random.Generator) -> dict[str, Clause]:
    """Return a clause for each category: `per_category` of its keywords drawn at random, any of which satisfies it."""
    clauses = {}
    for category, rows in keywords.items():
        drawn = rng.choice(len(rows), min(per_category, len(rows)), replace=False)
        clauses[category] = any_of(*(rows[index].phrase for index in sorted(drawn)))
    return clauses


def merge(defaults: Mapping[str, Clause], user: Mapping[str, Sequence[str]], require: Iterable[str] = (),
          exclude: Iterable[str] = ()) -> Constraints:
    """Return the defaults with the user's wishes.

    The words of `user` replace the clause of their category only, each phrase of `require` is a clause of its own,
    and default keywords that contain an excluded phrase step aside. The user's own words never do: they raise.
    """
    if unknown := [category for category in user if category not in CATEGORIES]:
        raise NpkitError(f"unknown category {unknown[0]!r}; known: {', '.join(CATEGORIES)}")
    exclude = tuple(dict.fromkeys(exclude))
    clauses = {category: tuple(literal for literal in clause if not any(find(banned, literal.phrase)
                                                                       for banned in exclude))
               for category, clause in defaults.items()}
    clauses |= {category: any_of(*dict.fromkeys(phrases)) for category, phrases in user.items() if phrases}
    wanted = sorted(clauses.items(), key=lambda item: CATEGORIES.index(item[0]))
    wanted += [("require", any_of(phrase)) for phrase in dict.fromkeys(require)]
    return checked(Constraints(tuple(wanted), exclude))


# 4. Certificates -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ClauseResult:
    """Which words of the prompt satisfy a clause, and where they stand; None where none do."""
    category: str
    any_of: tuple[str, ...]
    satisfied_by: str | None
    start: int | None
    end: int | None


@dataclass(frozen=True)
class Certificate:
    """The proof, read off the text, that a prompt meets its constraints."""
    clauses: tuple[ClauseResult, ...]
    excluded: tuple[str, ...]
    violations: tuple[str, ...]  # the excluded phrases that occur all the same

    @property
    def holds(self) -> bool:
        return not self.violations and all(clause.satisfied_by is not None for clause in self.clauses)

    def to_dict(self) -> dict:
        """Return `clauses` and `excluded` as JSON types."""
        return {"clauses": [asdict(clause) for clause in self.clauses], "excluded": list(self.excluded)}


def certify(constraints: Constraints, prompt: str) -> Certificate:
    """Return the certificate of `prompt`: the first words that satisfy each clause, and excluded phrases that occur."""
    clauses = []
    for category, clause in constraints.wanted:
        spans = [span for literal in clause if (span := find(literal.phrase, prompt))]
        start, end = min(spans, key=lambda span: (span[0], -span[1]), default=(None, None))
        words = None if start is None else prompt[start:end]
        clauses.append(ClauseResult(category, tuple(literal.phrase for literal in clause), words, start, end))
    violations = tuple(phrase for phrase in constraints.excluded if find(phrase, prompt))
    return Certificate(tuple(clauses), constraints.excluded, violations)
