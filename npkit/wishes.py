"""Wishes: what a user types, prompts and phrases, tidied and made into constraints over the study's default ones."""
from collections.abc import Mapping, Sequence

import numpy as np

from npkit.errors import NpkitError
from npkit.neurologic import Constraints, default_clauses, find, merge
from npkit.study.profiles import Profile
from npkit.text import keywords
from npkit.text.characters import tidy

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


def constraints_for(profile: Profile, user: Mapping[str, Sequence[str]], require: Sequence[str] = (),
                    exclude: Sequence[str] = (), *, seed: int | None) -> Constraints:
    """Return the user's wishes over the default clauses drawn with `seed`; no defaults where it is None."""
    config, defaults = profile.neurologic, {}
    user = {category: tidied_phrases(phrases) for category, phrases in user.items()}
    require, exclude = tidied_phrases(require), tidied_phrases(exclude)
    words = keywords.load(config.keywords)
    if not config.living_artists:
        own = [*require, *(phrase for phrases in user.values() for phrase in phrases)]
        exclude = [*exclude, *(row.phrase for rows in words.values() for row in rows
                               if row.living_artist and not any(find(row.phrase, phrase) for phrase in own))]
    if seed is not None:
        allowed = keywords.select(words, config.block, config.living_artists)
        defaults = default_clauses(allowed, config.keywords_per_category, np.random.default_rng(seed), exclude)
    return merge(defaults, user, require, exclude)
