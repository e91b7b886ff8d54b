"""Vocabulary: GlyphWorld's subjects, colours, places and the 48 modifiers of six categories that it can paint."""

SUBJECTS: dict[str, tuple[str, bool]] = {  # name -> (DejaVu Sans character, drawn as an outline: fill its body)
    "sun": ("☀", False), "cloud": ("☁", False), "umbrella": ("☂", False),
    "star": ("★", False), "telephone": ("☎", False), "coffee cup": ("☕", True), "skull": ("☠", True),
    "moon": ("☾", True), "king": ("♚", False), "queen": ("♛", False), "castle tower": ("♜", False),
    "bishop": ("♝", False), "horse": ("♞", False), "pawn": ("♟", False), "heart": ("♥", False),
    "anchor": ("⚓", False), "gear": ("⚙", False), "shamrock": ("☘", False),
    "lightning bolt": ("⚡", False), "airplane": ("✈", False), "letter": ("✉", True), "snowflake": ("❄", False),
    "cat": ("🐱", True), "mouse": ("🐭", True), "cow": ("🐮", True), "monkey": ("🐵", True),
    "house": ("⌂", True), "song": ("♫", False), "flag": ("⚑", False), "yin yang": ("☯", True),
    "flower": ("✿", False), "spade": ("♠", False), "diamond": ("♦", False),
}
KINDS: dict[str, tuple[str, ...]] = {  # what suits one kind may spoil another
    "creature": ("cat", "mouse", "cow", "monkey", "horse", "king", "queen", "bishop", "pawn"),
    "building and vehicle": ("castle tower", "house", "airplane", "anchor"),
    "sky and weather": ("sun", "moon", "star", "cloud", "lightning bolt", "snowflake"),
    "plant": ("flower", "shamrock"),
    "symbol": ("heart", "skull", "yin yang", "spade", "diamond", "song", "flag"),
    "everyday thing": ("umbrella", "telephone", "coffee cup", "letter", "gear"),
}
KIND_OF: dict[str, str] = {subject: kind for kind, subjects in KINDS.items() for subject in subjects}
COLOURS: dict[str, tuple[float, float, float]] = {  # hue, saturation, value of the subject
    "red": (0.0, 0.85, 0.8), "golden": (0.13, 0.85, 0.95), "green": (0.36, 0.8, 0.5), "blue": (0.61, 0.85, 0.75),
    "white": (0.0, 0.0, 0.97), "black": (0.0, 0.0, 0.06),
}
PLACES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {  # upper and lower background
    "in the snow": ((0.57, 0.12, 0.92), (0.6, 0.03, 1.0)), "at night": ((0.66, 0.7, 0.14), (0.64, 0.6, 0.3)),
    "in the forest": ((0.3, 0.4, 0.62), (0.34, 0.75, 0.28)), "by the sea": ((0.53, 0.25, 0.95), (0.57, 0.75, 0.6)),
    "in the desert": ((0.12, 0.2, 0.97), (0.08, 0.6, 0.78)),
}

CATEGORIES: dict[str, tuple[str, ...]] = {
    "style": ("anime", "cyberpunk", "art nouveau", "vaporwave", "impressionist", "pop art", "cubism", "art deco"),
    "artist": ("greg rutkowski", "alphonse mucha", "caravaggio", "vincent van gogh", "claude monet", "piet mondrian",
               "katsushika hokusai", "andy warhol"),
    "format": ("3d render", "stained glass window", "watercolor painting", "pixel art", "pencil sketch",
               "oil painting", "photograph", "advertising poster"),
    "perspective": ("close up", "wide angle", "isometric", "low angle", "bokeh", "white background", "lens flare",
                    "panoramic"),
    "booster": ("highly detailed", "trending on artstation", "octane render", "unreal engine", "8k", "vivid",
                "studio lighting", "digital art"),
    "vibe": ("cinematic", "fantasy", "colorful", "atmospheric", "moody", "magical", "stormy", "faded"),
}
CATEGORY_OF: dict[str, str] = {name: category for category, names in CATEGORIES.items() for name in names}
MODIFIERS: tuple[str, ...] = tuple(CATEGORY_OF)
