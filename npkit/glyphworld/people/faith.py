"""Faith: whether the public's eye sees in a picture the subject that was asked for.

A measure of evaluation alone: nothing is trained on it. The public's utility asks the same eye, as one term of ten.
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npkit.errors import NpkitError
from npkit.glyphworld.corpus import parse
from npkit.glyphworld.painting.canvas import SIZE
from npkit.glyphworld.people import eye as eyes
from npkit.glyphworld.people.eye import HEADS
from npkit.glyphworld.people.public import FOLDER


def subject_seen(prefixes: Sequence[str], pictures: np.ndarray, folder: Path = FOLDER) -> np.ndarray:
    """1 where the eye takes the subject of the prefix to be the likeliest in the picture, else 0; mean: a share.

    (n,) for pictures (n, 96, 96, 3) uint8. A prefix that names no subject of GlyphWorld has 0.
    """
    if pictures.shape != (len(prefixes), SIZE, SIZE, 3):
        raise NpkitError(f"GlyphWorld's eye looks at a picture of {SIZE} x {SIZE} pixels for each prefix: got "
                         f"{pictures.shape} and {len(prefixes)} prefixes")
    eye, _ = eyes.load_eye(folder)
    named = [HEADS["subject"][index] for index in eyes.look(eye, pictures).subject.argmax(1)]
    asked = [parse(prefix) for prefix in prefixes]
    return np.array([float(scene is not None and scene.subject == name)
                     for scene, name in zip(asked, named, strict=True)])
