"""Effects: what each modifier does to a GlyphWorld picture, as palettes, layouts, warps and painters of a canvas.

Painters take `(canvas, body)`: canvas (CANVAS, CANVAS, 3) RGB in [0, 1], body (CANVAS, CANVAS) the subject's mask, and
return a new canvas. They run in the order of `ORDER`, whatever the order of the words. Patterns are fixed, not random,
so that a small diffusion model can learn them.
"""
from collections.abc import Callable

import matplotlib.colors
import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from npkit.glyphworld.canvas import (
    CANVAS,
    X,
    Y,
    blur,
    border,
    colour,
    contrast,
    disc,
    mix,
    outline,
    radius,
    saturate,
    stripes,
)

Painter = Callable[[np.ndarray, np.ndarray], np.ndarray]

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
ORDER: tuple[str, ...] = (  # formats last: the sheet of paper holds everything painted on it
    *CATEGORIES["perspective"][:5], *CATEGORIES["style"], *CATEGORIES["artist"], *CATEGORIES["vibe"],
    *CATEGORIES["booster"], *CATEGORIES["perspective"][5:], *CATEGORIES["format"])
CRISP = frozenset({"highly detailed", "8k", "digital art", "octane render", "unreal engine"})  # others stay a bit soft

PALETTES: dict[str, tuple] = {  # hue, saturation, value of upper background, lower background, subject
    "anime": ((0.55, 0.55, 1.0), (0.52, 0.15, 1.0), (0.93, 0.6, 0.95)),
    "cyberpunk": ((0.75, 0.8, 0.22), (0.7, 0.9, 0.1), (0.5, 0.95, 0.95)),
    "art nouveau": ((0.14, 0.3, 0.85), (0.22, 0.35, 0.6), (0.05, 0.65, 0.4)),
    "vaporwave": ((0.9, 0.55, 1.0), (0.5, 0.55, 0.95), (0.75, 0.7, 0.55)),
    "pop art": ((0.15, 0.9, 1.0), (0.15, 0.9, 1.0), (0.98, 0.9, 0.9)),
    "art deco": ((0.12, 0.1, 0.1), (0.12, 0.1, 0.16), (0.12, 0.65, 0.85)),
    "greg rutkowski": ((0.08, 0.5, 0.42), (0.5, 0.5, 0.22), (0.07, 0.5, 0.75)),
    "alphonse mucha": ((0.12, 0.22, 0.95), (0.1, 0.35, 0.8), (0.03, 0.5, 0.55)),
    "caravaggio": ((0.07, 0.6, 0.08), (0.06, 0.6, 0.04), (0.08, 0.6, 0.85)),
    "vincent van gogh": ((0.62, 0.85, 0.45), (0.58, 0.75, 0.7), (0.14, 0.85, 1.0)),
    "claude monet": ((0.72, 0.25, 0.88), (0.38, 0.35, 0.75), (0.62, 0.45, 0.5)),
    "piet mondrian": ((0.0, 0.0, 0.96), (0.0, 0.0, 0.96), (0.0, 0.0, 0.1)),
    "katsushika hokusai": ((0.12, 0.18, 0.95), (0.12, 0.22, 0.85), (0.6, 0.85, 0.4)),
    "fantasy": ((0.78, 0.6, 0.6), (0.88, 0.5, 0.9), (0.14, 0.4, 1.0)),
    "colorful": ((0.9, 0.6, 1.0), (0.5, 0.6, 1.0), (0.72, 0.75, 0.5)),
    "moody": ((0.61, 0.4, 0.24), (0.6, 0.45, 0.1), (0.58, 0.2, 0.6)),
    "stormy": ((0.6, 0.2, 0.35), (0.6, 0.15, 0.5), (0.62, 0.3, 0.85)),
    "pencil sketch": ((0.0, 0.0, 0.96), (0.0, 0.0, 0.96), (0.0, 0.0, 0.45)),
}
LAYOUTS: dict[str, Callable[[float, float], tuple[float, float]]] = {  # (scale, centre y) -> (scale, centre y)
    "close up": lambda scale, y: (scale * 1.6, y),
    "wide angle": lambda scale, y: (scale * 0.5, y + 0.14),
}
WARPS: dict[str, tuple[float, ...]] = {  # coefficients of Pillow's PERSPECTIVE transform
    "low angle": (1.55, 0.275, -35.2, 0.0, 1.5, -16, 0.0, 0.0043, 1.0),
    "isometric": (1.0, 0.5, -32, -0.25, 1.2, 4, 0.0, 0.0, 1.0),
}


# --- painters of the background -----------------------------------------------------------------------------------

def vaporwave(canvas, body):
    away = stripes(np.log(np.clip(Y - 0.55, 1e-3, 1)), 0.5, 0.2)
    across = stripes((X - 0.5) / (Y - 0.45 + 1e-6), 0.35, 0.12)
    grid = np.maximum(across, away)
    return mix(mix(canvas, colour(1, 0.85, 0.3), disc(0.5, 0.4, 0.3)), colour(0.3, 1, 1), grid * (Y > 0.68) * 0.9)


def pop_art(canvas, body):
    dots = np.hypot((X * 9) % 1 - 0.5, (Y * 9) % 1 - 0.5) < 0.3
    return mix(canvas, colour(0.1, 0.5, 1), dots.astype(float))


def art_deco(canvas, body):
    fan = stripes(np.arctan2(X - 0.5, 1.05 - Y), np.pi / 11, 0.5)
    return mix(canvas, colour(0.8, 0.65, 0.25), fan * 0.85)


def mucha(canvas, body):
    ring = (np.abs(radius() - 0.41) < 0.045) * 1.0
    beads = ring * stripes(np.arctan2(Y - 0.5, X - 0.5), np.pi / 8)
    return mix(mix(canvas, colour(0.75, 0.5, 0.3), ring), colour(0.98, 0.9, 0.7), beads)


def mondrian(canvas, body):
    for x, y, tint in ((X < 0.22, Y < 0.3, (0.85, 0.1, 0.1)), (X > 0.76, Y > 0.7, (0.1, 0.2, 0.7)),
                       (X > 0.76, Y < 0.3, (0.97, 0.85, 0.1))):
        canvas = mix(canvas, colour(*tint), (x & y).astype(float))
    bars = [np.abs(X - 0.22) < 0.025, np.abs(X - 0.76) < 0.025, np.abs(Y - 0.3) < 0.025, np.abs(Y - 0.7) < 0.025]
    return mix(canvas, 0.04, np.any(bars, axis=0).astype(float))


def hokusai(canvas, body):
    for level, tint in ((0.6, (0.5, 0.7, 0.85)), (0.74, (0.2, 0.4, 0.65)), (0.88, (0.08, 0.2, 0.42))):
        crest = level + 0.06 * np.abs(np.sin((X + level) * np.pi * 3.2))
        canvas = mix(canvas, colour(*tint), (Y > crest).astype(float))
        canvas = mix(canvas, 0.97, (np.abs(Y - crest) < 0.016).astype(float))
    return canvas


def warhol(canvas, body):
    for x, y, tint in ((X < 0.5, Y < 0.5, (0.95, 0.3, 0.6)), (X >= 0.5, Y < 0.5, (0.2, 0.85, 0.8)),
                       (X < 0.5, Y >= 0.5, (0.98, 0.85, 0.2)), (X >= 0.5, Y >= 0.5, (0.55, 0.85, 0.25))):
        canvas = mix(canvas, colour(*tint), (x & y) * 0.92)
    return canvas


def bokeh(canvas, body):
    canvas = blur(canvas, 3)
    for x, y, size in ((0.14, 0.16, 0.11), (0.86, 0.2, 0.13), (0.1, 0.6, 0.09), (0.9, 0.66, 0.1), (0.3, 0.9, 0.1),
                       (0.7, 0.9, 0.08), (0.5, 0.1, 0.08)):
        canvas = mix(canvas, colour(1, 0.95, 0.75), disc(x, y, size, 0.02) * 0.75)
    return canvas


def studio_lighting(canvas, body):
    shade = np.clip(1.1 - 1.3 * radius(), 0.25, 1)[..., None]
    return mix(canvas * shade, 1.0, np.exp(-(radius() / 0.3) ** 2) * 0.85)


def fantasy(canvas, body):
    return mix(canvas, colour(1, 0.9, 0.6), disc(0.5, 0.5, 0.42, 0.15) * 0.7)


def rainbow(canvas, body):
    hues = np.stack([(X + Y) * 0.5 % 1, np.full_like(X, 0.6), np.ones_like(X)], -1)
    return mix(canvas, matplotlib.colors.hsv_to_rgb(hues), 0.85)


def render_3d(canvas, body):
    floor = np.where(Y[..., None] > 0.72, 0.62 - 0.2 * (Y[..., None] - 0.72), 0.88)
    shadow = np.exp(-((X - 0.5) / 0.3) ** 2 - ((Y - 0.84) / 0.06) ** 2)
    return mix(mix(canvas, floor, 0.8), 0.1, shadow * 0.75)


def white_background(canvas, body):
    return mix(canvas, 0.985, 1.0)


def digital_art(canvas, body):
    return mix(canvas, colour(0.35, 0.95, 1.0), np.clip(2.2 * blur(body, 7), 0, 1) * 0.85)


def wide_angle(canvas, body):
    return mix(canvas, canvas * 0.45, (Y > 0.74 - 0.35 * (X - 0.5) ** 2).astype(float))


def magical(canvas, body):
    return mix(canvas, colour(0.25, 0.1, 0.5), np.clip(radius() * 1.3 - 0.1, 0, 0.75))


BACKDROPS: dict[str, Painter] = {
    "vaporwave": vaporwave, "pop art": pop_art, "art deco": art_deco, "alphonse mucha": mucha,
    "piet mondrian": mondrian, "katsushika hokusai": hokusai, "andy warhol": warhol, "bokeh": bokeh,
    "studio lighting": studio_lighting, "fantasy": fantasy, "colorful": rainbow, "3d render": render_3d,
    "white background": white_background, "digital art": digital_art, "wide angle": wide_angle, "magical": magical,
}


# --- painters of the surface: subject and background together -------------------------------------------------------

def anime(canvas, body):
    return mix(canvas, colour(0.08, 0.05, 0.15), outline(body, 4))


def neon(canvas, body):
    glow = np.clip(2.5 * blur(outline(body, 3), 4), 0, 1)
    return mix(mix(canvas, colour(1, 0.15, 0.85), glow), colour(1, 0.8, 1), outline(body, 2))


def impressionist(canvas, body):
    shift = 5 * np.sin(X * 55) * np.cos(Y * 47), 5 * np.cos(X * 51) * np.sin(Y * 57)
    rows, columns = np.mgrid[0:CANVAS, 0:CANVAS]
    where = np.clip(rows + shift[0], 0, CANVAS - 1).astype(int), np.clip(columns + shift[1], 0, CANVAS - 1).astype(int)
    dabs = np.sin((X + 0.6 * Y) * 60) * np.sin((Y - 0.3 * X) * 45)
    return np.clip(canvas[where] + 0.13 * dabs[..., None], 0, 1)


def cubism(canvas, body):
    facet = (np.floor((X + Y) * 4) + 2 * np.floor((X - Y + 1) * 3.2)) % 5
    return np.clip(canvas * (0.62 + 0.17 * facet)[..., None], 0, 1)


def rutkowski(canvas, body):
    light = np.clip(1.35 - 1.25 * np.hypot(X - 0.2, Y - 0.1), 0.25, 1.3)
    strokes = 1 + 0.12 * np.sin((X * 0.6 + Y) * 70)
    return np.clip(blur(canvas, 1.5) * (light * strokes)[..., None], 0, 1)


def caravaggio(canvas, body):
    return canvas * np.clip(1.25 - 1.5 * np.clip(X - 0.25, 0, 1), 0.08, 1.25)[..., None]


def van_gogh(canvas, body):
    swirl = np.sin((Y + 0.07 * np.sin(X * 14)) * 62)
    return np.clip(canvas * (1 + 0.38 * swirl)[..., None], 0, 1)


def monet(canvas, body):
    dabs = np.sin(X * 34 + 3 * np.sin(Y * 40)) * np.sin(Y * 62)
    return np.clip(blur(canvas, 1.5) + dabs[..., None] * colour(0.1, 0.16, 0.1), 0, 1)


def cinematic(canvas, body):
    light = canvas.mean(-1, keepdims=True)
    return np.clip(contrast(canvas, 1.15) + (light - 0.45) * colour(0.9, 0.15, -0.9) + colour(-0.08, 0.02, 0.12), 0, 1)


def moody(canvas, body):
    return saturate(canvas, 0.5) * 0.75


def faded(canvas, body):
    return 0.55 + 0.4 * (saturate(canvas, 0.3) - 0.5) + colour(0.12, 0.07, -0.06)


def highly_detailed(canvas, body):
    texture = np.sin(X * 98) * np.sin(Y * 98)
    textured = np.clip(contrast(canvas, 1.1) + 0.16 * texture[..., None] * (0.3 + body[..., None]), 0, 1)
    return textured * (1 - 0.8 * outline(body, 2))[..., None]


def octane(canvas, body):
    shine = np.exp(-(((X + Y) - 0.82) / 0.07) ** 2)
    return mix(saturate(canvas, 1.25), 1.0, body * shine * 0.95)


def unreal(canvas, body):
    shafts = np.clip(np.sin((X * 0.9 - Y * 0.55) * 30), 0, 1) * np.clip(1.1 - Y, 0, 1)
    return mix(mix(canvas, colour(0.75, 0.9, 1), shafts * 0.55), colour(0.5, 0.8, 1), outline(body, 3) * 0.8)


def eight_k(canvas, body):
    return np.clip(contrast(canvas, 1.3) + 1.2 * (canvas - blur(canvas, 3)), 0, 1)


def vivid(canvas, body):
    return saturate(contrast(canvas, 1.1), 2.4)


def atmospheric(canvas, body):
    return mix(canvas, colour(0.9, 0.93, 0.96), np.clip(1.7 * Y - 0.65, 0, 0.92))


SURFACES: dict[str, Painter] = {
    "anime": anime, "cyberpunk": neon, "impressionist": impressionist, "cubism": cubism, "greg rutkowski": rutkowski,
    "caravaggio": caravaggio, "vincent van gogh": van_gogh, "claude monet": monet, "cinematic": cinematic,
    "moody": moody, "faded": faded, "highly detailed": highly_detailed, "octane render": octane,
    "unreal engine": unreal, "8k": eight_k, "vivid": vivid, "atmospheric": atmospheric,
}


# --- painters over everything, frames and papers --------------------------------------------------------------------

def art_nouveau(canvas, body):
    arch = np.where(Y < 0.45, np.hypot((X - 0.5) / 0.43, (Y - 0.45) / 0.4) > 1, np.abs(X - 0.5) > 0.43) | (Y > 0.95)
    edge = np.clip(2 * blur(arch.astype(float), 2.0), 0, 1) - arch
    return mix(mix(canvas, colour(0.55, 0.5, 0.2), arch.astype(float)), colour(0.95, 0.8, 0.35), np.clip(edge, 0, 1))


def sparkles(canvas, body):
    for x, y, size in ((0.15, 0.2, 0.1), (0.82, 0.14, 0.12), (0.88, 0.55, 0.08), (0.1, 0.7, 0.1), (0.75, 0.86, 0.1),
                       (0.38, 0.1, 0.06)):
        star = np.clip(size - np.abs(X - x) - np.abs(Y - y) - 14 * np.abs((X - x) * (Y - y)), 0, 1) / size * 3
        canvas = mix(canvas, colour(1, 0.95, 0.55), np.clip(star, 0, 1))
    return canvas


def rain(canvas, body):
    slant = X + Y * 0.35
    drops = stripes(slant, 0.11, 0.22) * stripes(Y * 1.3 + np.floor(slant / 0.11) * 0.37, 0.6, 0.6)
    return mix(canvas, colour(0.85, 0.92, 1.0), drops * 0.7)


def vignette(canvas, body):
    return np.clip(canvas * np.clip(1.2 - 2.6 * radius() ** 2, 0.1, 1.2)[..., None], 0, 1)


def lens_flare(canvas, body):
    core, streak = np.hypot(X - 0.8, Y - 0.18) / 0.13, np.abs(Y - 0.18) / 0.018 + np.abs(X - 0.8) / 0.35
    star = np.exp(-core ** 2) + np.exp(-streak)
    ghosts = 0.5 * disc(0.5, 0.52, 0.06, 0.02) + 0.5 * disc(0.3, 0.75, 0.09, 0.02)
    return mix(canvas, colour(1, 0.97, 0.8), np.clip(star * 1.2 + ghosts, 0, 1))


def panoramic(canvas, body):
    return mix(canvas, 0.02, ((Y < 0.17) | (Y > 0.83)).astype(float))


def stained_glass(canvas, body):
    rising, falling = X + Y + 0.03, X - Y + 0.03
    pane = (np.floor(rising / 0.4) + np.floor(falling / 0.4)) % 3
    lead = np.maximum(stripes(rising, 0.4, 0.14), stripes(falling, 0.4, 0.14))
    return mix(saturate(canvas, 1.8) * (0.75 + 0.25 * pane)[..., None], 0.05, lead)


def watercolor(canvas, body):
    edge = np.clip(2.4 * (radius() + 0.03 * np.sin(np.arctan2(Y - 0.5, X - 0.5) * 7)) - 0.62, 0, 1)
    wash = mix(blur(canvas, 2.5), 1.0, 0.3)
    return mix(wash, colour(0.99, 0.98, 0.94), edge)


def pixel_art(canvas, body):
    blocks = canvas.reshape(16, 8, 16, 8, 3).mean((1, 3))
    return np.round(contrast(blocks, 1.2) * 5).repeat(8, 0).repeat(8, 1) / 5


def pencil(canvas, body):
    grey = canvas.mean(-1)
    edges = np.clip(4 * np.hypot(ndimage.sobel(blur(grey, 1), 0), ndimage.sobel(blur(grey, 1), 1)), 0, 1)
    hatch = stripes(X + Y, 0.055, 0.45) * (grey < 0.55) * 0.45
    return (0.96 - 0.85 * np.maximum(edges, hatch))[..., None] * np.ones(3)


def oil_painting(canvas, body):
    paint = Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.ModeFilter(9))
    framed = mix(np.asarray(paint, float) / 255, colour(0.45, 0.28, 0.1), border(0.1, 0.1, 0.1, 0.1))
    outer, inner = border(0.035, 0.035, 0.035, 0.035), border(0.1, 0.1, 0.1, 0.1) * (1 - border(0.08, 0.08, 0.08, 0.08))
    return mix(framed, colour(0.9, 0.7, 0.3), outer + inner)


def photograph(canvas, body):
    return mix(canvas, 0.97, border(0.07, 0.07, 0.07, 0.2))


def poster(canvas, body):
    band = ((Y > 0.76) & (Y < 0.93)).astype(float)
    text = ((np.abs(Y - 0.845) < 0.035) & (stripes(X, 0.14, 0.7) > 0) & (np.abs(X - 0.5) < 0.36)).astype(float)
    sheet = mix(canvas, colour(0.96, 0.92, 0.8), border(0.06, 0.06, 0.06, 0.06))
    return mix(mix(sheet, colour(0.8, 0.1, 0.1), band), 1.0, text)


OVERLAYS: dict[str, Painter] = {
    "art nouveau": art_nouveau, "magical": sparkles, "stormy": rain, "trending on artstation": vignette,
    "lens flare": lens_flare, "panoramic": panoramic, "stained glass window": stained_glass,
    "watercolor painting": watercolor, "pixel art": pixel_art, "pencil sketch": pencil, "oil painting": oil_painting,
    "photograph": photograph, "advertising poster": poster,
}
