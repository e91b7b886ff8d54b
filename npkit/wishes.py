"""Wishes: what a user types, prompts and phrases, tidied and made into constraints over the study's default ones."""
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npkit.errors import NpkitError
from npkit.neurologic import Constraints, default_clauses, find, merge
from npkit.study.profiles import Profile
from npkit.text import keywords
from npkit.text.characters import tidy
from npkit.text.keywords import Keywords

ORDINARY = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code).isalnum()}  # full-width: Ａ to A


def tidied(text: str) -> str:
    """Return a prompt or phrase as `tidy` leaves it, its letters of ordinary width.

    So a phrase typed as `８ｋ`, or with an é of two characters, is banned in the form that the policy writes. Text that
    was not valid UTF-8 raises: `tidy` would drop what nobody can read.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NpkitError(f"the text is not valid UTF-8 at character {error.start + 1}: {ascii(text)[:80]}") from None
    return tidy(text.translate(ORDINARY))


def tidied_phrases(phrases: Sequence[str]) -> list[str]:
    """Return the phrases tidied; a string is one phrase, not its letters."""
    return list(map(tidied, [phrases] if isinstance(phrases, str) else phrases))


@dataclass(frozen=True)
class Wishes:
    """What a user asks for, over default clauses: called with a prompt, the constraints of its completion.

    The default clauses are drawn anew for each prompt, from `seed` and its text: so no result hangs on one draw, and a
    prompt's clauses do not depend on the others beside it.
    """
    user: Mapping[str, Sequence[str]]  # category -> phrases, any of which will do
    require: Sequence[str]
    exclude: Sequence[str]
    allowed: Keywords  # that may be drawn
    per_category: int  # how many of them form a default clause
    seed: int | None   # None: no default clauses

    @property
    def asked(self) -> list[str]:
        """Every phrase that the user wants."""
        return [*self.require, *(phrase for phrases in self.user.values() for phrase in phrases)]

    def __call__(self, prompt: str) -> Constraints:
        defaults = {}
        if self.seed is not None:
            rng = np.random.default_rng((self.seed, zlib.crc32(prompt.encode())))
            defaults = default_clauses(self.allowed, self.per_category, rng, self.exclude, self.asked)
        return merge(defaults, self.user, self.require, self.exclude)


def read_wishes(profile: Profile, user: Mapping[str, Sequence[str]] | None = None, require: Sequence[str] = (),
                exclude: Sequence[str] = (), *, seed: int | None) -> Wishes:
    """Return a user's wishes, tidied; of living artists only those that the user names are not excluded."""
    config = profile.neurologic
    user = {category: tidied_phrases(phrases) for category, phrases in (user or {}).items()}
    require, exclude = tidied_phrases(require), tidied_phrases(exclude)
    words = keywords.load(config.keywords)
    wishes = Wishes(user, require, exclude, keywords.select(words, config.block, config.living_artists),
                    config.keywords_per_category, seed)
    if not config.living_artists:
        unasked = [row.phrase for rows in words.values() for row in rows
                   if row.living_artist and not any(find(row.phrase, phrase) for phrase in wishes.asked)]
        wishes = replace(wishes, exclude=[*exclude, *unasked])
    wishes("")  # what contradicts itself is said now
    return wishes
