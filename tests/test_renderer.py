"""GlyphWorld's renderer: what each word does to a picture, what it must leave alone, and that the subject stays."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from npkit.glyphworld import contact
from npkit.glyphworld.painting import drawing, finishes, formats, grounds, layouts, renderer, weather
from npkit.glyphworld.painting.canvas import CANVAS, LUMINANCE, SIZE, Shape
from npkit.glyphworld.painting.guard import keep_legible
from npkit.glyphworld.painting.renderer import Picture, Scene, render, ruling
from npkit.glyphworld.vocabulary import CATEGORIES, COLOURS, MODIFIERS, PLACES, SUBJECTS


def paint(*modifiers: str, subject: str = "cat", seed: int = 0, **words) -> Picture:
    return render(Scene(subject, modifiers, **words), np.random.default_rng(seed))


@cache
def plain_mask(subject: str) -> np.ndarray:
    return paint(subject=subject).mask


def edge_contrast(picture: Picture) -> float:
    """Colour distance of both sides of the subject's edge, or the step of lightness across it, whichever is more."""
    pixels, inside = picture.pixels / 255, picture.mask > 0.5
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    edge = np.abs(depth) < 1.5
    sides = [((sign * depth > 0) & (sign * depth < 7)).astype(float) for sign in (1, -1)]
    near = [
        ndimage.uniform_filter(pixels * side[..., None], (9, 9, 1))
        / np.maximum(ndimage.uniform_filter(side, 9), 1e-3)[..., None]
        for side in sides
    ]
    light = pixels @ LUMINANCE
    step = (ndimage.maximum_filter(light, 5) - ndimage.minimum_filter(light, 5))[edge].mean()
    return max(step, np.median(np.linalg.norm(near[0] - near[1], axis=-1)[edge]))


# 1. The picture ------------------------------------------------------------------------------------------------------
def test_the_same_seed_paints_the_same_picture():
    first, again, other = paint("vivid", seed=3), paint("vivid", seed=3), paint("vivid", seed=4)
    assert first.pixels.shape == (SIZE, SIZE, 3)
    assert first.pixels.dtype == np.uint8
    assert first.mask.shape == (SIZE, SIZE)
    assert (first.mask.min(), first.mask.max()) == pytest.approx((0, 1), abs=0.01)
    assert (first.pixels == again.pixels).all()
    assert (first.pixels != other.pixels).any()


def test_every_modifier_has_its_painter():
    places = set(layouts.LAYOUTS) | set(layouts.STAGES) | set(layouts.LENSES)
    painters = {
        "perspective": places,
        "artist": set(grounds.PATTERNS),
        "style": set(drawing.STYLES),
        "vibe": set(weather.VIBES),
        "booster": set(finishes.BOOSTERS),
        "format": set(formats.FORMATS),
    }
    assert painters == {category: set(names) for category, names in CATEGORIES.items()}
    assert set(grounds.PALETTES) == set(grounds.PATTERNS)


@pytest.mark.parametrize("modifier", MODIFIERS)
def test_every_modifier_changes_the_picture(modifier):
    changes = [
        np.abs(paint(modifier, seed=seed).pixels.astype(float) - paint(seed=seed).pixels).mean() for seed in range(3)
    ]
    assert min(changes) > 3  # of 255


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_has_a_body_of_its_own(subject):
    mask = plain_mask(subject)
    assert 0.035 < mask.mean() < 0.5
    others = [plain_mask(other) for other in SUBJECTS if other != subject]
    assert min(np.abs(mask - other).mean() for other in others) > 0.01


def test_effects_do_what_their_words_say():
    assert paint("panoramic").pixels[:10].max() < 20  # black bars above and below
    assert paint("panoramic").pixels[-10:].max() < 20
    assert paint("white background").pixels[:6, 40:56].min() > 200
    assert paint("close up").mask.mean() > 1.5 * paint().mask.mean() > 3 * paint("wide angle").mask.mean()
    blocks = paint("pixel art").pixels.reshape(32, 3, 32, 3, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert np.ptp(paint("pencil sketch").pixels.astype(int), axis=-1).mean() < 25  # nearly grey
    assert paint("vivid").pixels.std(-1).mean() > 1.5 * paint().pixels.std(-1).mean()


@pytest.mark.parametrize(("scene", "word"), [(Scene("dragon"), "dragon"), (Scene("cat", ("8K",)), "8K")])
def test_unknown_words_raise_and_say_what_there_is(scene, word):
    with pytest.raises(ValueError, match=f"has no .* '{word}'; it has "):
        render(scene, np.random.default_rng(0))


# 2. One aspect a category --------------------------------------------------------------------------------------------
def test_of_two_words_of_a_category_the_first_rules():
    assert ruling(("vivid", "pop art", "8k")) == {"booster": "vivid", "style": "pop art"}
    assert (paint("vivid", "8k").pixels == paint("vivid").pixels).all()
    assert (paint("vivid", "oil painting").pixels == paint("oil painting", "vivid").pixels).all()


@pytest.mark.parametrize("category", ["style", "artist", "booster", "vibe"])
def test_layout_belongs_to_perspective_and_sheet(category):
    for name in CATEGORIES[category]:
        assert (paint(name, "low angle").mask == paint("low angle").mask).all()


def test_a_frame_is_laid_around_the_scene_and_a_medium_does_not_move_it():
    for name in CATEGORIES["format"]:
        mask, plain = paint(name).mask, paint().mask
        if name in formats.MARGINS:
            assert 0.4 < mask.sum() / plain.sum() < 0.8
        else:
            assert (mask == plain).all()


@pytest.mark.parametrize("style", CATEGORIES["style"])
def test_a_style_leaves_the_ground_alone(style):
    for artist in CATEGORIES["artist"]:
        styled, plain = (paint(*words, artist, "vivid", subject="heart").pixels.astype(int) for words in ((style,), ()))
        corners = np.abs(styled - plain)[np.ix_([0, 1, -2, -1], [0, 1, -2, -1])]
        assert corners.mean() < 4


@pytest.mark.parametrize("vibe", CATEGORIES["vibe"])
def test_a_vibe_leaves_the_subject_its_contrast(vibe):
    def gap(*words: str, seed: int) -> float:
        picture = paint(*words, subject="heart", colour="golden", place="at night", seed=seed)
        pixels, inside = picture.pixels / 255, picture.mask > 0.99
        return np.linalg.norm(pixels[inside].mean(0) - pixels[picture.mask < 0.01].mean(0))

    assert np.mean([gap(vibe, seed=seed) / gap(seed=seed) for seed in range(3)]) > 0.5


@pytest.mark.parametrize("artist", CATEGORIES["artist"])
def test_the_prefix_outranks_the_artist(artist):
    for index, name in enumerate(("red", "green", "blue")):
        heart = paint(artist, subject="heart", colour=name)
        assert heart.pixels[heart.mask > 0.99].mean(0).argmax() == index
    night, snow = (
        paint(artist, "highly detailed", place=place).pixels[:30].mean() for place in ("at night", "in the snow")
    )
    assert night < snow - 30


def test_colour_and_place_are_painted():
    assert len({paint(colour=name).pixels.tobytes() for name in COLOURS}) == len(COLOURS)
    assert len({paint(place=name).pixels.tobytes() for name in PLACES}) == len(PLACES)
    assert paint(place="at night").pixels[:, :4].mean() < 100
    assert paint(place="in the snow").pixels[:, :4].mean() > 180


# 3. The guard --------------------------------------------------------------------------------------------------------
def test_the_subject_stays_legible_under_six_modifiers():
    rng = np.random.default_rng(7)
    contrasts = [edge_contrast(render(contact.six_modifiers(rng), rng)) for _ in range(80)]
    assert min(contrasts) > 0.17
    assert np.quantile(contrasts, 0.1) > 0.33
    assert np.median(contrasts) > 0.5


def flat(inside: float, outside: float) -> tuple[np.ndarray, Shape]:
    shape = layouts.place("heart", layouts.PLAIN, np.zeros(2))
    return np.repeat((outside + (inside - outside) * shape.body)[..., None], 3, 2).astype(np.float32), shape


def test_the_guard_lifts_what_drowns_and_leaves_alone_what_stands_out():
    clear, shape = flat(0.9, 0.2)
    assert keep_legible(clear, shape) is clear
    drowned, shape = flat(0.3, 0.3)
    lifted = keep_legible(drowned, shape)
    inside, beside = shape.band(8, -2) > 0.99, shape.band(-2, 6) > 0.99
    assert lifted[inside].mean() - lifted[beside].mean() > 0.3  # lighter on dark
    darker = keep_legible(drowned, shape, tone=0.0)
    assert darker[beside].mean() - darker[inside].mean() > 0.2  # a black subject gets no lighter
    assert np.abs(lifted - drowned)[:8].max() < 0.02  # the ground far from it stays
    assert lifted.shape == (CANVAS, CANVAS, 3)


def test_plain_pictures_hardly_need_the_guard():
    changed = 0
    for seed, subject in enumerate(SUBJECTS):
        canvas, shape = plain_canvas(subject, seed)
        changed += np.abs(keep_legible(canvas, shape) - canvas).mean() > 0.01
    assert changed <= len(SUBJECTS) // 6


def plain_canvas(subject: str, seed: int) -> tuple[np.ndarray, Shape]:
    """The canvas of a plain scene as it comes to the guard."""
    rng, scene = np.random.default_rng(seed), Scene(subject)
    colours = renderer.palette(scene, None, rng)
    shape = layouts.place(subject, layouts.PLAIN, rng.normal(0, 0.018, 2))
    canvas = drawing.plain(
        renderer.paint_ground(scene, {}, colours, shape), shape, drawing.Tones(colours[grounds.SUBJECT])
    )
    return finishes.unpolished(canvas, shape), shape
