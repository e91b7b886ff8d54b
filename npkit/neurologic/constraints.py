"""Constraints: what a prompt must and must not mention, in conjunctive normal form, judged on its text."""
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, permutations, product

import numpy as np

from npkit.errors import NpkitError
from npkit.text.characters import is_unicode
from npkit.text.keywords import CATEGORIES, Keywords

MAX_BITS = 60  # of a 64-bit integer: one for each clause, or for each phrase of a clause that counts


# 1. Phrases in a text ------------------------------------------------------------------------------------------------
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\u2800\u3164\ufeff"  # no white space for Unicode, and yet nothing to see
BLANK = rf"[\s{INVISIBLE}]+"
COMMAS = ",\uff0c\u3001"  # what separates the parts of a prompt: ASCII, full-width and ideographic


def find(phrase: str, text: str, behind: int = 0) -> tuple[int, int] | None:
    """Return start and end of the first place where `phrase` stands in `text` as whole words, in any case.

    Places that do not end behind position `behind` are passed over.

    "text" is in neither "texture" nor "context". An edge of a phrase that is no letter of an alphabet with capitals,
    no digit and no underscore (an emoji, a Chinese character, a bracket) needs no boundary.
    """
    return _search(_pattern(phrase), text, behind)


def find_part(phrase: str, text: str, behind: int = 0) -> tuple[int, int] | None:
    """Return start and end of the first place where `phrase`, in any case, is a part of its own between commas.

    "oil painting" is a part of "a fox, Oil painting, 8k", and of neither "a fox, oil painting of a fox" nor
    "a fox oil painting". The beginning and the end of the text are as good as commas.
    """
    return _search(_part_pattern(phrase), text, behind)


def _search(pattern: re.Pattern, text: str, behind: int) -> tuple[int, int] | None:
    match = pattern.search(text)
    while match and match.end("phrase") <= behind:
        match = pattern.search(text, match.start() + 1)
    return match.span("phrase") if match else None


def has_boundary(char: str) -> bool:
    """Say whether a phrase that begins or ends with `char` begins or ends at a word boundary."""
    return (char.isascii() and (char.isalnum() or char == "_")) or char.lower() != char.upper()


@lru_cache(maxsize=10_000)
def _pattern(phrase: str) -> re.Pattern:
    words = _words(phrase)
    left = r"(?<!\w)" if has_boundary(words[0][0]) else ""
    right = r"(?!\w)" if has_boundary(words[-1][-1]) else ""
    return re.compile(f"{left}(?P<phrase>{BLANK.join(map(re.escape, words))}){right}", re.IGNORECASE)


@lru_cache(maxsize=10_000)
def _part_pattern(phrase: str) -> re.Pattern:
    words = BLANK.join(map(re.escape, _words(phrase)))
    gap = rf"[\s{INVISIBLE}]*"
    return re.compile(rf"(?:^|[{COMMAS}]){gap}(?P<phrase>{words}){gap}(?=[{COMMAS}]|\Z)", re.IGNORECASE)


def _words(phrase: str) -> list[str]:
    if not isinstance(phrase, str) or not is_unicode(phrase) or not phrase.split():
        raise NpkitError(f"a phrase is a text with at least one word, of whole characters, got {phrase!r}")
    return phrase.split()


def squeeze(phrase: str) -> str:
    """Return `phrase` with single spaces."""
    return " ".join(phrase.split())


def phrases_of(given: Iterable[str], where: str) -> tuple[str, ...]:
    """Return a sequence of phrases as a tuple, a set of them in alphabetical order; raise on a lone text.

    Python would read the text "8k" as the phrases "8" and "k".
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise NpkitError(f"{where} takes a sequence of phrases, got {given!r}; one alone is ({given!r},)")
    given = sorted(given, key=str) if isinstance(given, set | frozenset) else list(given)
    for phrase in given:
        if not isinstance(phrase, str):
            raise NpkitError(f"{where} takes phrases, which are texts, got {phrase!r}")
    return tuple(given)


# 2. Literals, clauses, sets of clauses -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Literal:
    """A phrase that should occur in the text, or (`positive=False`) should not."""
    phrase: str
    positive: bool = True

    def holds(self, text: str) -> bool:
        return (find(self.phrase, text) is not None) == self.positive


@dataclass(frozen=True)
class Clause:
    """Literals of which `min_count` to `max_count` (None: any number) must hold: by default at least one, an OR.

    Counted are different phrases, not how often each occurs; one inside another ("art" in "pop art") counts as well.
    """
    literals: tuple[Literal, ...]
    min_count: int = 1
    max_count: int | None = None

    def __post_init__(self):
        if isinstance(self.literals, str | Literal) or not isinstance(self.literals, Iterable):
            raise NpkitError(f"a clause takes a sequence of literals, got {self.literals!r}; any_of('ink') makes one")
        literals = tuple(Literal(each) if isinstance(each, str) else each for each in self.literals)
        if wrong := [each for each in literals if not isinstance(each, Literal)]:
            raise NpkitError(f"a clause takes literals or phrases, got {wrong[0]!r} among them")
        object.__setattr__(self, "literals", literals)
        for name in ("min_count", "max_count"):
            value = getattr(self, name)
            if type(value) is not int and (name == "min_count" or value is not None):
                raise NpkitError(f"{name} is a whole number, got {value!r}")

    def __iter__(self) -> Iterator[Literal]:
        return iter(self.literals)

    def __len__(self) -> int:
        return len(self.literals)

    @property
    def counts(self) -> bool:
        """Whether it takes counting to judge the clause: one literal is not enough, or too many are too many."""
        return self.min_count != 1 or self.capped

    @property
    def capped(self) -> bool:
        return self.max_count is not None and self.max_count < len(self)

    @property
    def bits(self) -> int:
        """The bits that decoding remembers of it: one, or one to count each phrase and one to limit it."""
        return len(self) * ((self.min_count > 0) + self.capped) if self.counts else 1

    def holds(self, text: str) -> bool:
        count = sum(literal.holds(text) for literal in self)
        return self.min_count <= count and (self.max_count is None or count <= self.max_count)


CNF = tuple[Clause, ...]  # clauses joined by AND


def satisfied(cnf: CNF, text: str) -> list[bool]:
    """Say for each clause whether it holds in `text`."""
    return [clause.holds(text) for clause in cnf]


def any_of(*phrases: str, min_count: int = 1, max_count: int | None = None) -> Clause:
    """Return the clause that any of `phrases` satisfies, or `min_count` to `max_count` different ones of them."""
    if wrong := [each for each in phrases if not isinstance(each, str)]:
        raise NpkitError(f"any_of takes phrases one by one, as any_of('ink', 'oil'), got {wrong[0]!r}; a list of them "
                         "is any_of(*phrases)")
    return Clause(tuple(map(Literal, phrases)), min_count, max_count)


def absent(phrase: str) -> Clause:
    """Return the clause that holds where `phrase` does not occur."""
    return Clause((Literal(phrase, positive=False),))


@dataclass(frozen=True)
class Constraints:
    """What decoding takes: named clauses of wanted phrases, and the phrases that must not occur.

    With `ordered`, the phrase that satisfies a clause ends behind the one that satisfies the clause before it. With
    `own_parts`, a wanted phrase that decoding writes is a part of its own between commas, so that no two clauses are
    met by one fused phrase ("digital art nouveau"); False: whole words anywhere. Words that the user wrote count
    wherever they stand, and so does an excluded phrase.
    """
    wanted: tuple[tuple[str, Clause], ...] = ()  # (category, clause), in order
    excluded: tuple[str, ...] = ()
    ordered: bool = False
    own_parts: bool = True

    def __post_init__(self):
        given = self.wanted.items() if isinstance(self.wanted, Mapping) else self.wanted
        object.__setattr__(self, "wanted", _named_clauses(given))
        object.__setattr__(self, "excluded", phrases_of(self.excluded, "excluded"))
        for name in ("ordered", "own_parts"):
            if type(getattr(self, name)) is not bool:
                raise NpkitError(f"{name} is True or False, got {getattr(self, name)!r}")

    @property
    def cnf(self) -> CNF:
        """The constraints as clauses, but for their order."""
        clauses = tuple(clause for _, clause in self.wanted)
        return clauses + tuple(map(absent, self.excluded))

    @classmethod
    def from_cnf(cls, cnf: CNF) -> "Constraints":
        """Return the constraints of a CNF whose negative literals stand alone in their clause."""
        wanted, excluded = [], []
        for number, clause in enumerate(cnf, 1):
            if all(literal.positive for literal in clause):
                wanted.append((f"clause {number}", clause))
            elif len(clause) == 1:
                excluded.append(clause.literals[0].phrase)
            else:
                raise NpkitError(f"clause {number} joins a negative literal to others by OR; a phrase to avoid is a "
                                 "clause of its own")
        return checked(cls(tuple(wanted), tuple(excluded)))


def _named_clauses(given: Iterable[tuple[str, Clause]]) -> tuple[tuple[str, Clause], ...]:
    advice = "wanted takes pairs of a name and a clause, as ('style', any_of('ink', 'oil'))"
    if isinstance(given, str | Clause) or not isinstance(given, Iterable):
        raise NpkitError(f"{advice}, got {given!r}")
    pairs = tuple(tuple(pair) if isinstance(pair, Sequence) else pair for pair in given)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
                and isinstance(pair[1], Clause)):
            raise NpkitError(f"{advice}, got {pair!r}")
    return pairs


def checked(constraints: Constraints) -> Constraints:
    """Return `constraints`, or raise on an empty clause or phrase, an impossible count, or a contradiction."""
    for phrase in constraints.excluded:
        _pattern(phrase)
    for category, clause in constraints.wanted:
        if not len(clause):
            raise NpkitError(f"the clause {category!r} is empty: nothing could satisfy it")
        for literal in clause:
            _check_wanted(category, literal, constraints.excluded)
        _check_counts(category, clause)
    bits = sum(clause.bits for _, clause in constraints.wanted)
    if bits > MAX_BITS:
        raise NpkitError(f"{len(constraints.wanted)} clauses are too many: the decoder takes {MAX_BITS} of any one "
                         f"phrase each, and one with counts is as many as it has phrases ({bits} here)")
    if constraints.ordered:
        _check_order(constraints.wanted)
    if constraints.own_parts:
        _check_parts(constraints.wanted)
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


def _check_counts(category: str, clause: Clause) -> None:
    distinct = len({squeeze(literal.phrase).lower() for literal in clause})
    most = len(clause) if clause.max_count is None else clause.max_count
    if clause.counts and distinct < len(clause):
        raise NpkitError(f"the clause {category!r} counts its phrases and lists one of them twice")
    if not 0 <= clause.min_count <= len(clause) or most < max(1, clause.min_count):
        raise NpkitError(f"the clause {category!r} wants {clause.min_count} to {most} of {len(clause)} phrases; both "
                         f"are from 0 to {len(clause)}, the second at least 1 and not below the first")


def _check_order(wanted: Sequence[tuple[str, Clause]]) -> None:
    if counted := next((category for category, clause in wanted if clause.counts), None):
        raise NpkitError(f"ordered clauses take no counts: {counted!r} has min_count or max_count")
    for (category, clause), (other, second) in permutations(wanted, 2):
        for literal, part in product(clause, second):
            if find(part.phrase, literal.phrase):
                raise NpkitError(f"ordered clauses need phrases of their own: {part.phrase!r} ({other}) stands in "
                                 f"{literal.phrase!r} ({category})")


def _check_parts(wanted: Sequence[tuple[str, Clause]]) -> None:
    """Raise on a phrase that is no part between commas, and on one whose parts are phrases of another clause."""
    for category, clause in wanted:
        for literal in clause:
            if not all(map(str.strip, re.split(f"[{COMMAS}]", literal.phrase))):
                raise NpkitError(f"a required phrase is a part of its own between commas, and {literal.phrase!r} "
                                 f"({category}) has nothing on one side of a comma")
    for (category, clause), (other, second) in permutations(wanted, 2):
        for literal, part in product((each for each in clause if re.search(f"[{COMMAS}]", each.phrase)), second):
            same = literal.phrase.lower().split() == part.phrase.lower().split()
            if not same and find_part(part.phrase, literal.phrase):
                raise NpkitError(f"each clause takes words of its own: {part.phrase!r} ({other}) is a part of "
                                 f"{literal.phrase!r} ({category})")


# 3. The six categories and the user's wishes -------------------------------------------------------------------------
def default_clauses(keywords: Keywords, per_category: int, rng: np.random.Generator, exclude: Iterable[str] = (),
                    asked: Iterable[str] = ()) -> dict[str, Clause]:
    """Return a clause for each category: `per_category` of its keywords drawn at random, any of which satisfies it.

    Keywords that contain an excluded phrase are left out, and so are those that stand in a phrase of `asked`, which is
    written anyway; where that leaves none, others of the category are drawn.
    """
    exclude, asked = phrases_of(exclude, "exclude"), phrases_of(asked, "asked")
    drawn = {category: sorted(rng.choice(len(rows), min(per_category, len(rows)), replace=False))
             for category, rows in keywords.items()}
    clauses = {}
    for category, rows in keywords.items():
        allowed = _allowed([row.phrase for row in rows], exclude)
        pool = _unsaid(allowed, asked) or allowed
        kept = [rows[index].phrase for index in drawn[category] if rows[index].phrase in pool]
        if not kept and pool:  # after all other draws, so that those stay as they were
            again = rng.choice(len(pool), min(per_category, len(pool)), replace=False)
            kept = [pool[index] for index in sorted(again)]
        clauses[category] = any_of(*kept)
    return clauses


def _allowed(phrases: Iterable[str], exclude: Sequence[str]) -> list[str]:
    return [phrase for phrase in phrases if not any(find(banned, phrase) for banned in exclude)]


def _unsaid(phrases: Iterable[str], said: Sequence[str]) -> list[str]:
    return [phrase for phrase in phrases if not any(find(phrase, other) for other in said)]


def merge(defaults: Mapping[str, Clause], user: Mapping[str, Sequence[str]], require: Iterable[str] = (),
          exclude: Iterable[str] = ()) -> Constraints:
    """Return the defaults with the user's wishes.

    The words of `user` replace the clause of their category only, each phrase of `require` is a clause of its own,
    and default keywords that contain an excluded phrase step aside. The user's own words never do: they raise. Each
    default clause has words of its own: `own_words`.
    """
    if unknown := [category for category in user if category not in CATEGORIES]:
        raise NpkitError(f"unknown category {unknown[0]!r}; known: {', '.join(CATEGORIES)}")
    exclude, require = tuple(dict.fromkeys(phrases_of(exclude, "exclude"))), phrases_of(require, "require")
    wishes = {category: phrases_of(phrases, category) for category, phrases in user.items() if phrases}
    left = {category: replace(clause, literals=_allowed([literal.phrase for literal in clause], exclude))
            for category, clause in defaults.items() if category not in wishes}
    if emptied := next((category for category, clause in left.items() if not len(clause)), None):
        raise NpkitError(f"every keyword of category {emptied!r} is excluded: name phrases of your own for it, or "
                         "exclude fewer")
    clauses = own_words(left, [*chain(*wishes.values()), *require])
    clauses |= {category: any_of(*dict.fromkeys(phrases)) for category, phrases in wishes.items()}
    wanted = sorted(clauses.items(), key=lambda item: CATEGORIES.index(item[0]))
    wanted += [("require", any_of(phrase)) for phrase in dict.fromkeys(require)]
    return checked(Constraints(tuple(wanted), exclude))


def own_words(defaults: Mapping[str, Clause], asked: Sequence[str]) -> dict[str, Clause]:
    """Return the default clauses without the words that are written anyway, which would meet them and add nothing.

    Those are words that stand in phrases that the user asked for, and phrases of an earlier default clause. A clause
    that would be left with too few keeps all.
    """
    clauses, earlier = {}, set()
    for category, clause in defaults.items():
        words = _unsaid([literal.phrase for literal in clause], asked)
        words = [phrase for phrase in words if squeeze(phrase).lower() not in earlier]
        clauses[category] = replace(clause, literals=words) if len(words) >= max(1, clause.min_count) else clause
        earlier.update(squeeze(literal.phrase).lower() for literal in clauses[category])
    return clauses
