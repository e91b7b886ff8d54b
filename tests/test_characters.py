"""Characters: what tidying keeps, what folding tells apart, and where commas divide, all by hand."""
import random

import pandas as pd
import pytest

from npkit.text.characters import comma_places, fold, tidy

ZERO_WIDTH, NON_JOINER, JOINER, MARK = "\u200b", "\u200c", "\u200d", "\ufeff"
SCOTLAND = "\U0001F3F4\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F"


@pytest.mark.parametrize("text, tidied", [
    ("  a\tcat,\n\n8 k , sci - fi\x00\u200b ", "a cat, 8 k , sci - fi"),
    ("a cat\ud83d, Café 🤖", "a cat, Café 🤖"),  # half of an emoji, as broken JSON has it
    ("rene\u0301 magritte", "ren\u00e9 magritte"),
    (f"{MARK}a{ZERO_WIDTH} c\u00adat\u200e", "a cat"),
    ("a\u00a0cat,\u3000oil\u2028ink\u0085", "a cat, oil ink"),
    ("\u202ea cat\u202c \u2066oil\u2069", "a cat oil"),
    (f"a{NON_JOINER}cat {JOINER}oil{NON_JOINER}", "acat oil"),  # junk in Latin words
    ("a\ufe0f cat\U000E0100 \ufe0f\U000E0067", "a cat"),
    ("\u3164a cat", "a cat"),  # a Hangul filler, which shows as nothing
    ("ＣＡＴ ﬁre ½", "ＣＡＴ ﬁre ½"),
])
def test_tidy_removes_what_cannot_be_seen_and_nothing_else(text, tidied):
    assert tidy(text) == tidied


@pytest.mark.parametrize("text", [
    f"خانه{NON_JOINER}های قدیمی", f"ه{JOINER}. ق", f"CD{NON_JOINER}ها",  # Persian
    f"क्{JOINER}ष", f"क्{NON_JOINER}ष", f"র{JOINER}\u09cdয",  # Hindi, Bengali
    f"👩{JOINER}🚀, 👩🏽{JOINER}🚀", f"❤\ufe0f{JOINER}🔥", "☎\ufe0e ☎\ufe0f 1\ufe0f\u20e3", SCOTLAND,
    "葛\U000E0100", "\u1820\u180b", "กำ ไม้", "ΑΒΓ é č ø ß",
])
def test_tidy_keeps_joiners_and_selectors_that_mean_something(text):
    assert tidy(text) == text


def test_a_joiner_is_kept_beside_junk():
    assert tidy(f"می{NON_JOINER}\u200fروم") == f"می{NON_JOINER}روم"


@pytest.mark.parametrize("one, other", [
    ("A  Cat!", "a cat."), ("sci-fi", "Sci fi"), ("a cat | oil", "a cat, oil"), ("«a cat»、oil", "a cat oil"),
    ("Straße", "STRASSE"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("rene\u0301", "RENÉ"), ("a_cat", "a cat"),
])
def test_fold_drops_case_spacing_and_punctuation(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize("one, other", [
    ("8 k", "8k"), ("c++", "c"), ("c#", "c"), ("100%", "100"), ("r&b", "rb"), ("$5 bill", "5 bill"), ("x²", "x2"),
    ("🤖", "🚀"), ("🔥 dragon", "dragon"), ("👩\u200d🚀", "👩🚀"), ("👍🏽", "👍"), ("café", "cafe"),
    ("काला घर", "कोला घर"), ("किला", "कला"), ("กา", "กิ"), ("কালো", "কলা"), ("שָׁלוֹם", "שלום"),
    ("خانه\u200cها", "خانهها"), (SCOTLAND, SCOTLAND[0]), ("!!!", "???"),
])
def test_fold_drops_nothing_else(one, other):
    assert fold(one) != fold(other)


def test_tidying_and_folding_twice_is_once():
    pool = ("ab 1,é\u0301\u200b\u200c\u200d\ufe0f\ufe00\u200f\x00\ud83d\ufeffهيک👩🚀🏽कष\u094d\U0001F3F4\U000E0067"
            "\U000E007F\u180b\u1820각ᄀ\u1161\u212b\u3164")
    rng = random.Random(0)
    for _ in range(5000):
        text = "".join(rng.choices(pool, k=rng.randint(1, 8)))
        assert tidy(tidy(text)) == tidy(text) and fold(fold(text)) == fold(text), ascii(text)


@pytest.mark.parametrize("text, places", [
    ("a, b ,c", [1, 5]), ("1,000 elves, 2,5", [11]), ("(a, b), c", [6]), ("((a, b), c", [7]), ("(a, b", [2]),
    ("a), b", [2]), ("[a, (b, c], d", [10]), ("「a、b」，c", [5]), ("", []), ("a cat", []),
])
def test_where_commas_divide(text, places):
    assert comma_places(text) == places


def test_real_prompts_keep_their_characters(shared):
    """Of 16,760 prompts one changes: a direction mark goes."""
    prompts = pd.read_json(shared / "prompts/diffusiondb_prompts.jsonl", lines=True, dtype=False)["prompt"]
    assert (prompts.map(tidy) != prompts).sum() == 1
    assert prompts.map(fold).nunique() == len(prompts)
