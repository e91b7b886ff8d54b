"""Pairs: which of GlyphWorld's modifiers make one idea together and which fight; raters see it, some writers know."""
from npkit.glyphworld.vocabulary import CATEGORY_OF

PAIRS: dict[frozenset[str], float] = {frozenset(pair): worth for pair, worth in {
    # two words that make one idea
    ("moody", "low angle"): 1.0, ("caravaggio", "studio lighting"): 1.0, ("pop art", "vivid"): 1.0,
    ("cyberpunk", "unreal engine"): 1.0, ("katsushika hokusai", "stormy"): 0.8, ("fantasy", "magical"): 0.6,
    ("alphonse mucha", "art nouveau"): 1.0, ("stained glass window", "colorful"): 0.8, ("pixel art", "vivid"): 0.8,
    ("oil painting", "greg rutkowski"): 1.0, ("cinematic", "wide angle"): 1.0, ("photograph", "bokeh"): 1.0,
    ("watercolor painting", "claude monet"): 0.6, ("3d render", "octane render"): 1.0, ("anime", "colorful"): 0.6,
    ("advertising poster", "art deco"): 1.0, ("greg rutkowski", "trending on artstation"): 0.8,
    # two words that fight
    ("pencil sketch", "colorful"): -1.0, ("pencil sketch", "vivid"): -1.0, ("white background", "stormy"): -1.0,
    ("faded", "vivid"): -1.0, ("faded", "8k"): -0.8, ("watercolor painting", "octane render"): -1.0,
    ("pixel art", "highly detailed"): -1.0, ("pixel art", "8k"): -0.8, ("moody", "colorful"): -1.0,
    ("white background", "pop art"): -1.0, ("white background", "andy warhol"): -0.8, ("faded", "cyberpunk"): -0.6,
    ("white background", "cyberpunk"): -0.8, ("white background", "bokeh"): -1.0, ("photograph", "cubism"): -0.8,
    ("caravaggio", "vaporwave"): -0.8, ("stained glass window", "piet mondrian"): -0.8, ("atmospheric", "8k"): -0.6,
    ("close up", "wide angle"): -1.0,
}.items()}


def affinity(one: str, other: str) -> float:
    """How well two modifiers go together: the worth of the pair, less where both are of one category."""
    return PAIRS.get(frozenset((one, other)), 0.0) - (0.5 if CATEGORY_OF[one] == CATEGORY_OF[other] else 0.0)
