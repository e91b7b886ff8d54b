"""Ideal painter: the renderer as a text-to-image pipeline, the model that would understand every word of a prompt.

`--set images.model=npkit.glyphworld.painter:IdealPainter` paints with it instead of the diffusion model: what a study
finds with both is no fault of the diffusion model's.
"""
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from npkit.errors import NpkitError
from npkit.glyphworld.corpus import parse
from npkit.glyphworld.painting.canvas import SIZE
from npkit.glyphworld.painting.renderer import render

MAX_WORDS = 512


class Words:
    """A tokenizer in all that a study asks of one: a token a word, a begin and an end mark."""

    model_max_length = MAX_WORDS

    def __call__(self, texts: list[str], **_settings) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[[0] * (len(text.split()) + 2) for text in texts])


class IdealPainter(DiffusionPipeline):
    """A pipeline without weights: it reads the prompt as a scene and renders it, each picture from its own seed."""

    def __init__(self):
        super().__init__()
        self.register_to_config()  # an empty one: it has no parts
        self.tokenizer = Words()

    @torch.no_grad()
    def __call__(self, prompt: list[str], generator: list[torch.Generator], height: int = SIZE, width: int = SIZE,
                 output_type: str = "pt", **_sampling) -> ImagePipelineOutput:
        """Pictures in [0, 1]: (n, 3, 96, 96) for "pt", else (n, 96, 96, 3); steps and guidance mean nothing here."""
        if (height, width) != (SIZE, SIZE):
            raise NpkitError(f"the ideal painter paints {SIZE} x {SIZE} pixels, images.height and images.width say "
                             f"{height} x {width}")
        seeds = [each.initial_seed() for _, each in zip(prompt, generator, strict=True)]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # numpy lets threads run side by side
            pictures = np.stack(list(threads.map(paint, prompt, seeds))).astype(np.float32) / 255
        return ImagePipelineOutput(images=torch.from_numpy(pictures).permute(0, 3, 1, 2) if output_type == "pt"
                                   else pictures)


@lru_cache(maxsize=32)  # batches are filled up with their last prompt: it is painted once
def paint(prompt: str, seed: int) -> np.ndarray:
    """The picture (96, 96, 3) uint8 of a prompt; an empty grey sheet where it names no subject."""
    scene = parse(prompt)
    grey = np.full((SIZE, SIZE, 3), 150, np.uint8)
    pixels = grey if scene is None else render(scene, np.random.default_rng(seed)).pixels
    pixels.setflags(write=False)  # the next caller gets the same array
    return pixels
