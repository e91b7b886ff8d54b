"""Corpus: GlyphWorld's prompts as people would write them, and the reading of a prompt back into a scene."""
import re
import tomllib
from functools import cache
from pathlib import Path

import numpy as np

from npkit.glyphworld.painting.renderer import Scene
from npkit.glyphworld.people.pairs import affinity
from npkit.glyphworld.vocabulary import CATEGORIES, CATEGORY_OF, COLOURS, MODIFIERS, PLACES, SUBJECTS

OPENERS = ("a", "a", "a", "the", "one", "portrait of a", "picture of a", "image of a", "scene with a")
ADJECTIVES = ("lonely", "tiny", "giant", "lovely", "strange", "quiet", "proud", "wild", "forgotten", "sleeping",
              "ancient", "happy")
SETTINGS = ("alone", "on a hill", "in the wind", "at dawn", "under the sky", "in a dream")  # words that change nothing
KEYWORDS = Path(__file__).with_name("keywords.toml")  # how often people use the modifiers
MODIFIERS_SHARE = (0.08, 0.12, 0.19, 0.22, 0.17, 0.10, 0.06, 0.04, 0.02)  # of prompts with 0, 1, 2 ... 8 modifiers
HABIT = ("format", "style", "perspective", "vibe", "artist", "booster")  # the order of a careful writer
SPELLINGS = {"8k": "8 k", "3d render": "3 d render", "watercolor painting": "watercolour painting",
             "highly detailed": "highly-detailed", "studio lighting": "studio light"}  # so written, it does nothing
ARTIST_PHRASES = ("by {}", "by {}", "by {}", "art by {}", "in the style of {}", "{}")


def prefix_of(scene: Scene, rng: np.random.Generator) -> str:
    """A plain description of the scene's subject, colour and place, such as "portrait of a lonely red cat at night"."""
    words = [OPENERS[rng.integers(len(OPENERS))]]
    if rng.random() < 0.35:
        words.append(ADJECTIVES[rng.integers(len(ADJECTIVES))])
    words += [scene.colour, scene.subject] if scene.colour else [scene.subject]
    if scene.place:
        words.append(scene.place)
    elif rng.random() < 0.25:
        words.append(SETTINGS[rng.integers(len(SETTINGS))])
    return _article(" ".join(words))


def phrase(modifier: str, rng: np.random.Generator) -> str:
    """A modifier as it is written in a prompt: artists come as "by ...", the others as they are."""
    if modifier in CATEGORIES["artist"]:
        return ARTIST_PHRASES[rng.integers(len(ARTIST_PHRASES))].format(modifier)
    return modifier


def parse(prompt: str) -> Scene | None:
    """The scene that a prompt describes, read by whole words and case; None where it names no subject of GlyphWorld."""
    text = " ".join(prompt.lower().split())
    subject = _first(tuple(SUBJECTS), text)
    if subject is None:
        return None
    modifiers = tuple(dict.fromkeys(_pattern(MODIFIERS).findall(text)))  # in the order in which they are written
    plain = _pattern(MODIFIERS).sub("", text)  # the "white" of "white background" is no colour of the subject
    return Scene(subject, modifiers, _first(tuple(COLOURS), plain), _first(tuple(PLACES), plain))


def _first(names: tuple[str, ...], text: str) -> str | None:
    found = _pattern(names).search(text)
    return found.group(1) if found else None


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern:
    return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?!\w)")


def _article(text: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def generate(num_prompts: int, seed: int) -> list[str]:
    """Prompts as people write them: well-known subjects and modifiers far more often, taste and care uneven."""
    rng = np.random.default_rng(seed)
    scenes = (_popular_scene(modifiers, rng) for modifiers in choose_modifiers(num_prompts, rng))
    return [_careless(_write(scene, rng), rng) for scene in scenes]


def choose_modifiers(num_prompts: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """For each prompt 0 to 8 modifiers, drawn by popularity; a third of the writers also mind what goes together."""
    counts = rng.choice(len(MODIFIERS_SHARE), num_prompts, p=MODIFIERS_SHARE)
    taste = rng.choice((0.0, 2.0), num_prompts, p=(0.67, 0.33))[:, None]
    affinities = np.array([[affinity(one, other) for other in MODIFIERS] for one in MODIFIERS])
    odds = np.tile(np.log([_popularity()[name] for name in MODIFIERS]), (num_prompts, 1))
    chosen = np.empty((num_prompts, counts.max(initial=0)), int)
    for slot in range(chosen.shape[1]):  # Gumbel noise makes the largest one a draw by the odds
        chosen[:, slot] = (odds + rng.gumbel(size=odds.shape)).argmax(1)
        odds += taste * affinities[chosen[:, slot]]
        odds[np.arange(num_prompts), chosen[:, slot]] = -np.inf
    return [tuple(MODIFIERS[index] for index in row[:count]) for row, count in zip(chosen, counts, strict=True)]


@cache
def _popularity() -> dict[str, float]:
    """The square root of how many DiffusionDB prompts use a modifier: tempered, so that rare ones occur."""
    tables = tomllib.loads(KEYWORDS.read_text(encoding="utf-8"))
    return {row["phrase"]: row["count"] ** 0.5 for rows in tables.values() for row in rows}


def _popular_scene(modifiers: tuple[str, ...], rng: np.random.Generator) -> Scene:
    """A scene with these modifiers; subjects are the rarer, the further down in the vocabulary they stand."""
    subject = list(SUBJECTS)[int(len(SUBJECTS) * rng.random() ** 1.3)]
    colour = list(COLOURS)[rng.integers(len(COLOURS))] if rng.random() < 0.25 else None
    place = list(PLACES)[rng.integers(len(PLACES))] if rng.random() < 0.25 else None
    if rng.random() < 0.4:
        modifiers = tuple(sorted(modifiers, key=lambda name: HABIT.index(CATEGORY_OF[name])))
    return Scene(subject, modifiers, colour, place)


def _write(scene: Scene, rng: np.random.Generator) -> list[str]:
    """The parts of a prompt between commas: the prefix, then the modifiers, now and then one twice or misspelt."""
    parts = [phrase(name, rng) for name in scene.modifiers]
    if parts and rng.random() < 0.03:
        parts.append(parts[rng.integers(len(parts))])
    if rng.random() < 0.03:
        parts = [SPELLINGS.get(part, part) for part in parts]
    return [prefix_of(scene, rng), *parts]


def _careless(parts: list[str], rng: np.random.Generator) -> str:
    """The parts joined as people join them: now and then in capitals, with a comma too many or a space too few."""
    slip = rng.random()
    if slip < 0.03:
        parts = [part.title() for part in parts]
    comma = ",, " if 0.03 <= slip < 0.05 else "," if 0.05 <= slip < 0.08 else " , " if 0.08 <= slip < 0.1 else ", "
    return comma.join(parts) + ("," if 0.1 <= slip < 0.14 else "")
