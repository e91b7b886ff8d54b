"""What `npkit optimize` makes of prompts that no training saw, by the public: `python benchmarks/held_back.py`.

The prompts are plain ones, with subjects, colours and places drawn evenly from GlyphWorld's words; those that occur in
the study's corpus are left out. They are optimised by the command with its defaults. Of each prompt and its optimised
text four pictures are painted, from the same seeds, by the profile's image model. The public prefers a text whose
pictures have the higher mean utility; a watcher (the eye of `npkit.glyphworld.measure`, trained on renders and used
nowhere else) says whether the subject is in the optimised pictures. A study must have been run.
"""
import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from npkit.findings.stats import paired_bootstrap
from npkit.glyphworld.contact import sheet
from npkit.glyphworld.corpus import generate, parse, prefix_of
from npkit.glyphworld.measure import load_watcher, recognised
from npkit.glyphworld.people.public import oracle
from npkit.glyphworld.training.dataset import sample_scene
from npkit.glyphworld.training.loop import Machine
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import to_bytes
from npkit.study.profiles import Profile, load_profile, parse_settings

PICTURES = 4  # of a text
SEED = 60_000  # of the prompts and of the pictures


def held_back(number: int, profile: Profile) -> list[str]:
    """Return `number` plain prompts that are not among the study's prefixes of any of its seeds 0 to 4."""
    known = {text.partition(",")[0].strip().lower() for seed in range(5)
             for text in generate(profile.data.num_prompts, seed)}
    rng, prompts = np.random.default_rng(SEED), {}
    while len(prompts) < number:
        prompt = prefix_of(replace(sample_scene(rng), modifiers=()), rng)
        if prompt not in known:
            prompts[prompt] = None
    return list(prompts)


def optimized(prompts: list[str], options: list[str]) -> list[str]:
    """Return what the command line makes of the prompts."""
    answer = subprocess.run([sys.executable, "-m", "npkit", "optimize", "-", "--json", *options], check=True, text=True,
                            input="\n".join(prompts), stdout=subprocess.PIPE)
    return [json.loads(line)["optimized"] for line in answer.stdout.splitlines()]


def paint(texts: list[str], profile: Profile) -> np.ndarray:
    """Return PICTURES pictures of each text, (texts x PICTURES, 96, 96, 3) uint8."""
    seeds = [SEED + number for _ in texts for number in range(PICTURES)]
    return to_bytes(load_image_model(profile.images, "cpu").render([text for text in texts for _ in range(PICTURES)],
                                                                   seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the study")
    parser.add_argument("--policy", default="ppo", help="as in npkit optimize")
    parser.add_argument("--painter", metavar="MODEL", help="paint with another image model than the policy was paid by")
    parser.add_argument("--scratch", type=Path, default=Path("artifacts/glyphworld-training"), help="as in measure")
    parser.add_argument("--sheet", type=Path, help="a PNG file: each prompt's picture, and below it the optimised one")
    args = parser.parse_args()
    torch.set_num_threads(2)
    profile = load_profile("tiny", parse_settings(args.set))
    settings = [option for each in args.set for option in ("--set", each)]
    prompts = held_back(args.prompts, profile)
    texts = optimized(prompts, ["--policy", args.policy, *settings])
    asked = [prompt for prompt in prompts for _ in range(PICTURES)]
    if args.painter:
        profile = replace(profile, images=replace(profile.images, model=args.painter))
    before, after = paint(prompts, profile), paint(texts, profile)
    plain, gained = (oracle(asked, pictures).reshape(-1, PICTURES).mean(1) for pictures in (before, after))
    watcher, scenes = load_watcher(args.scratch, Machine()), [parse(prompt) for prompt in asked]
    completions = {text.removeprefix(prompt) for prompt, text in zip(prompts, texts, strict=True)}
    for prompt, text, one, other in zip(prompts, texts, plain, gained, strict=True):
        print(f"{one:+.2f} {other:+.2f} {prompt} |{text.removeprefix(prompt)}")
    print(f"the public prefers the optimised picture: {(gained > plain).mean():.3f} of {len(prompts)} prompts; "
          f"gain {paired_bootstrap(gained - plain, np.random.default_rng(0))}")
    print(f"subject recognised: {recognised(watcher, after, scenes):.3f} of {len(after)} optimised pictures, "
          f"{recognised(watcher, before, scenes):.3f} of the plain ones")
    print(f"different completions: {len(completions)}")
    if args.sheet:
        rows = [row for start in range(0, len(prompts), 10) for row in (before, after)
                for row in row[start * PICTURES:(start + 10) * PICTURES:PICTURES]]
        sheet(rows, columns=10).save(args.sheet)


if __name__ == "__main__":
    main()
