"""Characters: what of a text is seen and kept, when two texts are the same, and where commas divide one."""
import re
import unicodedata

import regex  # knows Unicode's properties of characters, which `re` does not

COMMAS = ",，、﹐﹑､،"  # full-width, ideographic, small, half-width and Arabic ones too
BRACKETS = dict(zip("([{（［｛【「『《〈〔", ")]}）］｝】」』》〉〕"))
OPEN, CLOSE = set(BRACKETS), set(BRACKETS.values())

# 1. Cleaning ---------------------------------------------------------------------------------------------------------
# Scripts whose letters change their form, or their word, where a joiner or non-joiner stands: Arabic, Devanagari, Thai
JOINED = (r"[[\p{L}\p{M}]--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"
          r"\p{Common}\p{Inherited}\u180B-\u180F]]")
IN_PLACE = r"[\u200C\u200D\u180B-\u180F\uFE00-\uFE0F\U000E0020-\U000E007F\U000E0100-\U000E01EF]"  # some places only
MEANINGFUL = "|".join((
    rf"(?<={JOINED}\p{{M}}*)(?:\u200D|\u200C(?=[[\p{{L}}\p{{M}}\p{{N}}]--{IN_PLACE}]))",  # in Persian, Hindi words
    rf"(?<=[\p{{L}}\p{{N}}]\p{{M}}*)[\u200C\u200D](?={JOINED})",  # a Persian ending of a Latin name or a number
    r"(?<=\p{Extended_Pictographic}[\p{Emoji_Modifier}\uFE0F]?)\u200D(?=\p{Extended_Pictographic})",  # emoji sequence
    r"(?<=\p{Extended_Pictographic})[\uFE0E\uFE0F]",  # emoji drawn as text, or in colour
    r"(?<=[0-9#*])\uFE0F(?=\u20E3)",  # key caps
    r"(?<=\U0001F3F4[\U000E0020-\U000E007E]*)[\U000E0020-\U000E007F]",  # flags of regions: Scotland
    r"(?<=[[\p{L}\p{S}]--\p{Latin}])[\uFE00-\uFE0D\U000E0100-\U000E01EF]",  # forms of Chinese characters and signs
    r"(?<=[\p{Mongolian}--[\u180B-\u180F]])[\u180B-\u180F]",
))
INVISIBLE = regex.compile(rf"[[\p{{DI}}\uFFF9-\uFFFB\p{{Cs}}]--[{IN_PLACE}\u034F\u115F\u1160\u17B4\u17B5]]", regex.V1)
STRAY = regex.compile(rf"(?:{MEANINGFUL})(*SKIP)(*FAIL)|{IN_PLACE}", regex.V1)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def tidy(text: str) -> str:
    """Return `text` without what cannot be seen, in Unicode's composed form (NFC), with single spaces.

    In this order:
    1. Control characters (NUL, tab, line feed ...) become spaces.
    2. Invisible characters go: byte-order marks, zero-width spaces, soft hyphens, marks of writing direction, halves
       of broken emoji. Joiners, variation selectors and tag characters stay where they mean something (in Persian,
       Hindi and other words whose letters they join or part, in emoji, behind a character that they give another
       form), and go elsewhere, as in Latin words.
    3. Letters and accents are composed (NFC): an e and an accent become é.
    4. Each run of white space, no-break and full-width spaces too, becomes one space; none stays at either end.

    Everything else stays as written: case, spelling, punctuation, full-width letters. Tidying twice is tidying once.
    """
    text = CONTROL.sub(" ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", STRAY.sub("", INVISIBLE.sub("", text)))
    return " ".join(text.split())


# 2. Comparing --------------------------------------------------------------------------------------------------------
class Spaced(dict):
    """For `str.translate`: spacing and punctuation become a space, any other character stays; filled when asked."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        kind = unicodedata.category(char)
        kept = char in "#%&@" or (kind == "Cf" and regex.match(IN_PLACE, char))
        dropped = kind[0] in "PZ" or kind in ("Cc", "Cf") or char in "|`´~"
        self[code] = " " if dropped and not kept else char
        return self[code]


SPACED = Spaced()


def fold(text: str) -> str:
    """Return `text` without case, spacing and punctuation: texts with equal folds are the same prompt to us.

    Accents, vowel signs, joiners, emoji and mathematical or currency signs stay, and with them # % & @, which are read
    aloud: `c++`, `c#` and `c` are three. The signs | ` ´ ~ count as punctuation, as prompt writers use them.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.translate(SPACED).split()) or folded.strip()


# 3. Commas -----------------------------------------------------------------------------------------------------------
COMMA = re.compile(rf"[{COMMAS}]")
THOUSANDS = re.compile(r"(?<=\d)[,，](?=\d)")  # 1,000


def bracketed(text: str) -> list[tuple[int, int]]:
    """Return where brackets open and close; one that is never closed, or closes nothing, encloses nothing."""
    opened, pairs = [], []
    for place, char in enumerate(text):
        if char in OPEN:
            opened.append(place)
        elif char in CLOSE:
            matching = [level for level, start in enumerate(opened) if BRACKETS[text[start]] == char]
            if matching:
                pairs.append((opened[matching[-1]], place))
                del opened[matching[-1]:]
    return pairs


def comma_places(text: str) -> list[int]:
    """Return where commas divide `text`: full-width ones as well, none between digits, none inside brackets."""
    places = [match.start() for match in COMMA.finditer(text) if not THOUSANDS.match(text, match.start())]
    pairs = bracketed(text) if places else []
    return [place for place in places if not any(start < place < end for start, end in pairs)]


def is_unicode(text: str) -> bool:
    """Say whether a text has a spelling in UTF-8: half of a surrogate pair has none."""
    return not re.search("[\ud800-\udfff]", text)
