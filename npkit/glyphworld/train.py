"""Train GlyphWorld: `python -m npkit.glyphworld.train` renders, trains and writes every model under `weights/`.

Stages, in order: render, autoencoder, eye, public, reader, denoiser, guidance, judges. Each keeps what it
made in the scratch folder and goes on from its last checkpoint when the command is run again; what is whole is not made
again. On a CPU run it in pieces (`nice -n 15 ... --minutes 30`): eight hours of one core by the seconds a step, five on
two idle cores. On one GPU with 16 cores beside it the whole is meant to take under nine minutes (`--device cuda`; not
tried yet).
"""
import argparse
import json
import math
import os
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

from npkit.glyphworld.people import votes
from npkit.glyphworld.people.eye import Eye, save_eye, train_eye
from npkit.glyphworld.training import autoencoder as codec
from npkit.glyphworld.training import diffusion
from npkit.glyphworld.training.dataset import Dataset, load_dataset, render_dataset
from npkit.glyphworld.training.judges import JUDGES, Schooling, train_judge
from npkit.glyphworld.training.loop import Machine, OutOfTime
from npkit.glyphworld.training.reading import train_reader

WEIGHTS = Path(__file__).parent / "weights"
PACK_BYTES = 15_000_000  # of one file of `--pack`


@dataclass(frozen=True)
class Sizes:
    """How large and how long everything is."""
    pictures: int
    autoencoder_steps: int
    autoencoder_batch: int
    eye_steps: int
    eye_batch: int
    reader_steps: int
    simple_steps: int
    denoiser_steps: int
    denoiser_batch: int
    guidance_steps: int
    normalising: int  # pictures that decide the utility's mean and deviation
    vote_chunks: int
    school: Schooling
    levels: tuple[int, ...] = (16, 32, 48)  # channels of the autoencoder, whose factor is 4
    latent_channels: int = 8
    channels: tuple[int, ...] = (48, 64, 96, 112)  # of the UNet: 5 M parameters, so that all weights fit into 24 MB

    def scaled(self, share: float) -> "Sizes":
        """The same with all steps times `share`."""
        changes = {field.name: max(1, round(getattr(self, field.name) * share)) for field in fields(self)
                   if field.name.endswith("_steps")}
        lessons = {field.name: max(1, round(getattr(self.school, field.name) * share)) for field in fields(self.school)
                   if field.name.endswith("_steps")}
        return replace(self, **changes, school=replace(self.school, **lessons))


SIZES: dict[str, Sizes] = {
    "cpu": Sizes(
        pictures=40_000, autoencoder_steps=6_000, autoencoder_batch=16, eye_steps=2_500, eye_batch=64,
        reader_steps=800, simple_steps=1_500, denoiser_steps=24_000, denoiser_batch=32,
        guidance_steps=1_000, normalising=600, vote_chunks=28,
        school=Schooling(clip_steps=900, clip_batch=128, vote_steps=1_200, vote_batch=32, aesthetic_steps=1_500)),
    "cuda": Sizes(
        pictures=60_000, autoencoder_steps=3_300, autoencoder_batch=128, eye_steps=1_500, eye_batch=256,
        reader_steps=800, simple_steps=600, denoiser_steps=3_700, denoiser_batch=512,
        guidance_steps=1_000, normalising=1_000, vote_chunks=32,
        school=Schooling(clip_steps=600, clip_batch=512, vote_steps=600, vote_batch=64, aesthetic_steps=1_500)),
    "toy": Sizes(
        pictures=48, autoencoder_steps=3, autoencoder_batch=2, eye_steps=2, eye_batch=8, reader_steps=2,
        simple_steps=2, denoiser_steps=2, denoiser_batch=4, guidance_steps=2, normalising=4, vote_chunks=1,
        school=Schooling(clip_steps=2, clip_batch=8, vote_steps=2, vote_batch=2, aesthetic_steps=2)),
}


@dataclass(frozen=True)
class Work:
    """One training: its folders, its sizes and where it runs."""
    scratch: Path
    out: Path
    sizes: Sizes
    machine: Machine
    start: Path | None  # an autoencoder whose tensors are taken over where they fit
    with_diffusion: bool = True  # else no image model is trained, and the judges learn from renders alone


# Each stage returns what the later ones need and is done once in a process ------------------------------------------
@cache
def render(work: Work) -> Dataset:
    """The rendered pictures with their captions."""
    render_dataset(work.scratch / "pictures", work.sizes.pictures, work.machine)
    return load_dataset(work.scratch / "pictures", work.sizes.pictures)


@cache
def autoencoder(work: Work) -> AutoencoderKL:
    vae = codec.build_autoencoder(work.sizes.levels, work.sizes.latent_channels, work.start)
    return codec.train_autoencoder(vae, render(work).pictures, work.scratch, steps=work.sizes.autoencoder_steps,
                                   batch_size=work.sizes.autoencoder_batch, machine=work.machine)


@cache
def eye(work: Work) -> Eye:
    """The public's eye; a quarter of what it is shown comes from the autoencoder."""
    vae = autoencoder(work)
    return train_eye(render(work), work.scratch, work.sizes.eye_steps, machine=work.machine,
                     batch_size=work.sizes.eye_batch, decode=lambda pictures: codec.reconstruct(vae, pictures)).cpu()


@cache
def tokenizer(work: Work) -> CLIPTokenizer:
    return diffusion.learn_tokenizer(work.scratch, render(work).captions)


@cache
def reader(work: Work) -> CLIPTextModel:
    """The diffusion model's text encoder."""
    captions = diffusion.encode_text(tokenizer(work), render(work).captions)
    return train_reader(render(work).scenes, captions, len(tokenizer(work)), work.scratch, work.sizes.reader_steps,
                        work.machine).cpu()


@cache
def examples(work: Work) -> diffusion.Examples:
    """Latents of all pictures, their captions' token ids and their subjects' masks."""
    path = work.scratch / "latents.npy"
    if not path.exists():
        draft = path.with_suffix(".tmp.npy")
        np.save(draft, codec.encode(autoencoder(work), render(work).pictures, machine=work.machine).numpy())
        os.replace(draft, path)
    ids, empty = (diffusion.encode_text(tokenizer(work), texts) for texts in (render(work).captions, [""]))
    masks = torch.from_numpy(render(work).masks) / 255
    return diffusion.Examples(torch.from_numpy(np.load(path)), ids, masks, empty)


@cache
def denoiser(work: Work) -> diffusion.Denoiser:
    """The diffusion model, first on scenes of at most one modifier, in which subjects are easily seen, then on all."""
    sizes, scenes = work.sizes, render(work).scenes
    simple = torch.tensor([row for row, scene in enumerate(scenes) if len(scene.modifiers) <= 1])
    torch.manual_seed(0)
    model = diffusion.Denoiser(reader(work), sizes.channels, sizes.latent_channels)
    for name, lesson, steps in (("denoiser-simple", examples(work)[simple], sizes.simple_steps),
                                ("denoiser", examples(work), sizes.denoiser_steps)):
        model = diffusion.train_denoiser(model, lesson, work.scratch, name, steps=steps,
                                         batch_size=sizes.denoiser_batch, machine=work.machine)
    return model


@cache
def guidance(work: Work) -> Path:
    """The folder of the finished pipeline, whose UNet needs one evaluation a step."""
    folder = work.out / "diffusion"
    student = diffusion.distil_guidance(
        denoiser(work), examples(work), work.scratch, steps=work.sizes.guidance_steps,
        batch_size=max(1, work.sizes.denoiser_batch // 2), machine=work.machine)
    diffusion.save_pipeline(autoencoder(work), student, tokenizer(work), folder)
    return folder


@cache
def public(work: Work) -> Path:
    """The folder of the public's eye, with the mean and deviation of its utilities."""
    folder, kept = work.out / "eye", work.scratch / "normalisation.json"
    if not kept.exists():
        draft = kept.with_suffix(".tmp")
        draft.write_text(json.dumps(votes.normalise(eye(work), work.sizes.normalising)))
        draft.replace(kept)
    save_eye(eye(work), folder, json.loads(kept.read_text()))
    return folder


@cache
def judges(work: Work) -> None:
    painter = votes.load_painter(guidance(work), work.machine) if work.with_diffusion else None
    folder = work.scratch / ("votes" if painter else "votes-rendered")
    cast = votes.load_votes(folder, work.sizes.vote_chunks, painter, public(work), work.machine)
    for name in (*JUDGES, "aesthetic-tiny"):
        train_judge(name, render(work), cast, tokenizer(work), work.scratch, work.out, work.sizes.school, work.machine)


STAGES: dict[str, Callable] = {
    "render": render, "autoencoder": autoencoder, "eye": eye, "public": public, "reader": reader,
    "denoiser": denoiser, "guidance": guidance, "judges": judges}
OF_DIFFUSION = ("reader", "denoiser", "guidance")


def check_scratch(work: Work) -> None:
    """Raise if the scratch folder belongs to a training of other sizes: its renders and votes would be taken for ours.

    The folder's first training writes its sizes there.
    """
    path, ours = work.scratch / "sizes.json", json.dumps(asdict(work.sizes), indent=1)
    if not path.exists():
        work.scratch.mkdir(parents=True, exist_ok=True)
        path.write_text(ours, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != ours:
        raise SystemExit(f"{work.scratch} holds a training of other sizes ({path}): name another folder with "
                         "--scratch, or run it with the --device, --scale and --toy that it was begun with")


def pack(folder: Path, into: Path) -> list[Path]:
    """Put everything in `folder` into a few tar files below PACK_BYTES: a lent machine gives back few files."""
    into.mkdir(parents=True, exist_ok=True)
    bundles: list[list[Path]] = [[]]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if sum(each.stat().st_size for each in bundles[-1]) + path.stat().st_size > PACK_BYTES:
            bundles.append([])
        bundles[-1].append(path)
    paths = [into / f"weights-{number}.tar" for number in range(len(bundles))]
    for target, bundle in zip(paths, bundles, strict=True):
        with tarfile.open(target, "w") as archive:
            for path in bundle:
                archive.add(path, path.relative_to(folder))
    return paths


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m npkit.glyphworld.train", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--scratch", type=Path, default=Path("artifacts/glyphworld-training"), help="checkpoints and renders")
    add("--out", type=Path, default=WEIGHTS, help="where the trained models go")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="cuda trains in bfloat16, in larger batches")
    add("--bf16", action="store_true", help="bfloat16 on a CPU too: faster where it has AMX")
    add("--until", choices=tuple(STAGES), default="judges", help="the last stage of this run")
    add("--without-diffusion", action="store_true", help="train no image model; the judges see renders alone")
    add("--minutes", type=float, default=math.inf, help="stop then, with everything saved, and exit 0")
    add("--scale", type=float, default=1.0, help="all numbers of steps times this")
    add("--start", type=Path, default=WEIGHTS / "diffusion" / "vae",
        help="an autoencoder's folder: its tensors are taken over where they fit; a folder that is not there: none")
    add("--threads", type=int, default=2, help="of PyTorch, and processes that render; on a GPU all cores render")
    add("--pack", type=Path, default=None, help="a folder for tar files of all weights")
    add("--toy", action="store_true", help="sizes that teach nothing: to see the whole chain run in a minute")
    args = parser.parse_args(arguments)
    if args.toy and args.out == WEIGHTS:
        parser.error("--toy trains nothing of use: name a folder with --out, so that no weights of the kit are lost")
    if args.scale <= 0 or args.threads < 1:
        parser.error("--scale is above 0, --threads at least 1")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    on_gpu = args.device == "cuda"
    machine = Machine(args.device, bf16=on_gpu or args.bf16, seconds=60 * args.minutes,
                      processes=len(os.sched_getaffinity(0)) if on_gpu else args.threads)
    sizes = SIZES["toy" if args.toy else args.device].scaled(args.scale)
    work = Work(args.scratch, args.out, sizes, machine, args.start if args.start.exists() else None,
                not args.without_diffusion)
    check_scratch(work)
    stages = list(STAGES)[:list(STAGES).index(args.until) + 1]
    try:
        for name in [name for name in stages if work.with_diffusion or name not in OF_DIFFUSION]:
            print(f"stage {name}", flush=True)
            STAGES[name](work)
    except OutOfTime:
        print("out of time, everything is saved: the same command goes on", flush=True)
        return
    if args.pack:
        print("\n".join(map(str, pack(args.out, args.pack))))


if __name__ == "__main__":
    main()
