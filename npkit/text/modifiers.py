"""Modifiers: the parts that a policy added behind a user's words, and the prompt without one of them."""
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from npkit.text.characters import COMMAS, comma_places, fold
from npkit.text.keywords import Keywords, word_pattern

LINK = re.compile(r"\s(?:by|in|with|and|of|on|from|as|at)\s|\s*[&+/|;]")  # what leads to the next keyword of a part


@dataclass(frozen=True)
class Modifier:
    """Something that the policy added: a part between commas, or one keyword of a part that holds several.

    `category` is "" where the text holds no keyword. `count` is how often it was added; all copies are one modifier.
    """
    text: str
    category: str = ""
    count: int = 1
    completes_own_words: bool = False  # it goes on behind the user's last words without a comma

    @property
    def label(self) -> str:
        """The modifier as a table shows it."""
        return ("... " if self.completes_own_words else "") + self.text + (f" x{self.count}" if self.count > 1 else "")


class Piece(NamedTuple):
    """A stretch of a completion: a modifier, or the blanks of an empty part, which have no name."""
    raw: str  # blanks included
    category: str
    completes_own_words: bool

    @property
    def name(self) -> str:
        """What all copies of one modifier share: the text in lower case without punctuation and spacing."""
        return fold(self.raw) or self.raw.strip()


class Part(NamedTuple):
    """What stands between two commas of a completion, with the comma before it ("" before the first part)."""
    comma: str
    pieces: tuple[Piece, ...]


def added_modifiers(prefix: str, prompt: str, keywords: Keywords) -> list[Modifier]:
    """Return the modifiers that `prompt` has behind `prefix`, in their order; one added twice is one modifier."""
    pieces = [piece for part in parts_behind(prefix, prompt, keywords) for piece in part.pieces if piece.name]
    first = {piece.name: piece for piece in reversed(pieces)}
    return [Modifier(first[name].raw.strip(), first[name].category, count, first[name].completes_own_words)
            for name, count in Counter(piece.name for piece in pieces).items()]


def without(prefix: str, prompt: str, keywords: Keywords, modifier: Modifier) -> str:
    """Return `prompt` without every copy of `modifier` that was added; all other characters stay as they are.

    A part that is empty then goes with the comma before it.
    """
    text, name = prefix, Piece(modifier.text, "", False).name
    for comma, pieces in parts_behind(prefix, prompt, keywords):
        kept = [piece.raw for piece in pieces if piece.name != name]
        if kept:
            text += ("" if text == prefix and ends_with_comma(prefix) else comma) + "".join(kept)
    return text


def parts_behind(prefix: str, prompt: str, keywords: Keywords) -> list[Part]:
    """Return the parts of the completion: they are divided at the commas that divide prompts (`comma_places`)."""
    if not prompt.startswith(prefix):
        raise ValueError(f"{prompt!r} does not begin with {prefix!r}")
    start, categories = len(prefix), category_of(keywords)
    places = [place for place in comma_places(prompt) if place >= start]
    ends = [*places, len(prompt)]
    found = [(match.start(), match.end(), categories[match.group().casefold()])
             for match in word_pattern(tuple(categories)).finditer(prompt) if match.end() > start]
    parts = [Part("", tuple(pieces_of(prompt, start, ends[0], found, not ends_with_comma(prefix))))]
    parts += [Part(prompt[left], tuple(pieces_of(prompt, left + 1, right, found))) for left, right in pairwise(ends)]
    return parts if ends[0] > start or ends_with_comma(prefix) else parts[1:]


def pieces_of(prompt: str, start: int, end: int, found: list[tuple[int, int, str]], own: bool = False
              ) -> Iterator[Piece]:
    """Yield the pieces of the part from `start` to `end`: as many as it holds keywords, at least one.

    `found` has start, end and category of every keyword of the prompt. `own`: the part completes the user's words, and
    with them perhaps a keyword. The words between two keywords belong to the first, from a word like "by" on to the
    second: "oil painting by claude monet" is "oil painting" and "by claude monet".
    """
    inside = [each for each in found if start < each[1] <= end and (own or each[0] >= start)]
    cuts = [cut_between(prompt, left[1], right[0]) for left, right in pairwise(inside)]
    edges, categories = [start, *cuts, end], [category for _, _, category in inside] or [""]
    for (left, right), category in zip(pairwise(edges), categories, strict=True):
        yield Piece(prompt[left:right], category, own and left == start)


def cut_between(prompt: str, left: int, right: int) -> int:
    """Return where the words between two keywords, from `left` to `right`, are divided between them."""
    link = LINK.search(prompt[left:right])
    return left + (link.start() if link else len(prompt[left:right].rstrip()))


def category_of(keywords: Keywords) -> Mapping[str, str]:
    """Return phrase -> its category; several are joined by "/"."""
    found: dict[str, str] = {}
    for category, rows in keywords.items():
        for row in rows:
            phrase = row.phrase.casefold()
            found[phrase] = f"{found[phrase]}/{category}" if phrase in found else category
    return found


def ends_with_comma(text: str) -> bool:
    """Say whether the last character of a text, blanks not counted, is a comma."""
    return text.rstrip().endswith(tuple(COMMAS))
