"""Keywords: the phrases prompt writers use, in six categories, with how often people really use them."""
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from npkit.errors import NpkitError
from npkit.study.contents import resolve, user_path
from npkit.text.characters import tidy

CATEGORIES = ("style", "artist", "format", "perspective", "booster", "vibe")
DIFFUSIONDB_SHARES = {"style": 0.14, "artist": 0.18, "format": 0.28, "perspective": 0.10, "booster": 0.49,
                      "vibe": 0.42}  # prompts that use the category, of 18,994 real ones


@dataclass(frozen=True, kw_only=True)
class Keyword:
    """A phrase, the number of DiffusionDB prompts that use it, and whether it names an artist who is alive."""
    phrase: str
    count: int
    living_artist: bool = False


KEYWORD_TYPES = {"phrase": (str, "a text such as \"8k\""), "count": (int, "a whole number"),
                 "living_artist": (bool, "true or false")}
SHAPE = ("it holds one list a category of {phrase, count} with an optional living_artist, "
         "as npkit/text/keywords.toml does")
Keywords = Mapping[str, tuple[Keyword, ...]]  # category -> its keywords


def load(source: str = "npkit/text/keywords.toml") -> dict[str, tuple[Keyword, ...]]:
    """Return the keywords of a TOML file by category, most used first; `npkit/...` names a file of the package."""
    path = user_path(resolve(source))
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise NpkitError(f"keywords file {path} cannot be read: {error}; {SHAPE}") from error
    if unknown := set(tables) - set(CATEGORIES):
        raise NpkitError(f"keywords file {path} has unknown categories {sorted(unknown)}; known: {CATEGORIES}")
    if not tables:
        raise NpkitError(f"keywords file {path} has no category; known: {CATEGORIES}")
    try:
        keywords = {category: read_category(category, rows) for category, rows in tables.items()}
    except ValueError as error:
        raise NpkitError(f"keywords file {path}, {error}; {SHAPE}") from None
    return {category: tuple(sorted(rows, key=lambda keyword: -keyword.count)) for category, rows in keywords.items()}


def read_category(category: str, rows: object) -> list[Keyword]:
    """Return the keywords of one list of the file; raise where one is wrong or stands there twice."""
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"category {category}: {str(rows)[:60]!r} is no list of keywords")
    keywords = {}
    for number, row in enumerate(rows, 1):
        place = f"category {category}, keyword {number}"
        if problem := wrong_with(row):
            raise ValueError(f"{place}: {problem}")
        keyword = Keyword(**row | {"phrase": tidy(row["phrase"])})
        if keyword.phrase.casefold() in keywords:
            raise ValueError(f"{place}: {keyword.phrase!r} stands there twice")
        keywords[keyword.phrase.casefold()] = keyword
    return list(keywords.values())


def wrong_with(row: object) -> str:
    """Return what is wrong with one entry of the file, "" if nothing is."""
    if not isinstance(row, dict) or not {"phrase", "count"} <= set(row) <= set(KEYWORD_TYPES):
        return f"{str(row)[:60]!r} has not the keys phrase and count, with or without living_artist"
    for name, (kind, kind_name) in KEYWORD_TYPES.items():
        if name in row and type(row[name]) is not kind:
            return f"{name} is {row[name]!r}, it must be {kind_name}"
    if not tidy(row["phrase"]):
        return "phrase is empty"
    return f"count is {row['count']}, it must be 0 or more" if row["count"] < 0 else ""


def select(keywords: Keywords, block: str = "", living_artists: bool = True) -> dict[str, tuple[Keyword, ...]]:
    """Return the keywords that may be drawn: none that the regular expression `block` finds, in any case."""
    try:
        blocked = re.compile(block or r"(?!)", re.IGNORECASE)
    except re.error as error:
        raise NpkitError(f"neurologic.block is no regular expression: {block!r}: {error}") from error
    kept = {category: tuple(row for row in rows if not blocked.search(row.phrase)
                            and (living_artists or not row.living_artist)) for category, rows in keywords.items()}
    if emptied := [category for category, rows in kept.items() if not rows]:
        raise NpkitError(f"neurologic.block {block!r} leaves no keyword of category {emptied[0]!r}")
    return kept


@cache
def word_pattern(phrases: tuple[str, ...]) -> re.Pattern:
    """Return a pattern that finds any of `phrases` as whole words in any case, the longest one where several begin."""
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


def category_pattern(category: Sequence[Keyword]) -> re.Pattern:
    """Return the pattern that finds any keyword of one category."""
    return word_pattern(tuple(keyword.phrase for keyword in category))


def share_with_category(prompts: Sequence[str], keywords: Keywords) -> dict[str, float]:
    """Return for each category the share of `prompts` that use at least one of its keywords; of none, 0."""
    return {category: sum(bool(category_pattern(rows).search(prompt)) for prompt in prompts) / max(1, len(prompts))
            for category, rows in keywords.items()}


def count_keywords(prompts: Iterable[str], category: Sequence[Keyword]) -> Counter[str]:
    """Return in how many of `prompts` each keyword of `category` occurs; a longer match hides the ones inside it."""
    pattern = category_pattern(category)
    return Counter(phrase for prompt in prompts for phrase in set(pattern.findall(prompt.lower())))
