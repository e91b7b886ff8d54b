"""Train GlyphWorld: `python -m npkit.glyphworld.train` renders, trains and writes every model under `weights/`.

Each part keeps a checkpoint in the scratch folder and goes on from it when the command is run again; parts that are
complete are not trained again. About two hours on two idle CPU cores, by the seconds a step of its parts.
"""
import argparse
from pathlib import Path

import numpy as np
import torch

from npkit.glyphworld import diffusion
from npkit.glyphworld.dataset import load_dataset, render_dataset
from npkit.glyphworld.judge_training import train_judges

WEIGHTS = Path(__file__).parent / "weights"


def train_diffusion(scratch: Path, out: Path, *, autoencoder_steps: int, denoiser_steps: int) -> None:
    """Autoencoder, then text encoder and UNet on its latents; writes the pipeline to `out/diffusion`."""
    pictures, captions = load_dataset(scratch)
    texts = [row["caption"] for row in captions]
    tokenizer = diffusion.learn_tokenizer(scratch, texts)
    vae = diffusion.train_autoencoder(pictures, scratch, autoencoder_steps)
    latents = _cached(scratch / "latents.npy", lambda: diffusion.encode_latents(vae, pictures).numpy())
    denoiser = diffusion.train_denoiser(
        torch.from_numpy(latents), diffusion.encode_text(tokenizer, texts), diffusion.encode_text(tokenizer, [""]),
        sampling_weights([len(row["modifiers"]) for row in captions]), scratch,
        steps=denoiser_steps, vocab_size=len(tokenizer))
    diffusion.save_pipeline(vae, denoiser, tokenizer, out / "diffusion")


def sampling_weights(num_modifiers: list[int]) -> torch.Tensor:
    """Weights (n,) by which 45 % of the rows drawn are plain prefixes, 25 % have one modifier and 30 % have more."""
    kinds = torch.tensor(num_modifiers).clamp(max=2)
    return torch.tensor([0.45, 0.25, 0.30])[kinds] / kinds.bincount(minlength=3)[kinds]


def _cached(path: Path, make) -> np.ndarray:
    if not path.exists():
        np.save(path.with_suffix(".tmp.npy"), make())
        path.with_suffix(".tmp.npy").replace(path)
    return np.load(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m npkit.glyphworld.train", description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, default=Path("artifacts/glyphworld-training"),
                        help="checkpoints and renders")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the trained models go")
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--autoencoder-steps", type=int, default=2_250)
    parser.add_argument("--denoiser-steps", type=int, default=5_500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    render_dataset(args.scratch, args.pictures)
    train_diffusion(args.scratch, args.out, autoencoder_steps=args.autoencoder_steps,
                    denoiser_steps=args.denoiser_steps)
    train_judges(args.scratch, args.out / "diffusion", args.out)


if __name__ == "__main__":
    main()
