"""Autoencoder: pictures of 96 x 96 pixels to latents of 24 x 24 and back.

It is trained in two parts: on crops, to be close; then on whole pictures with a loss on their edges and a little noise
on the latents, so that imperfect latents still give crisp edges. A factor of 4 it is, because it trains best: after
90 seconds of one core 8 channels of 24 x 24 keep 17.3 dB of renders with six modifiers and 21.3 dB where they start
from the first edition's weights; 16 channels of 12 x 12 keep 15.7 dB, and 32 of them, started likewise, 18.2 dB.
"""
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from npkit.glyphworld.painting.canvas import SIZE
from npkit.glyphworld.people.eye import to_signed
from npkit.glyphworld.training.loop import CPU, Machine, fit

CROP = 64  # pixels a side: a whole number of latents, and enough for the statistics of group norms
LATENT_NOISE = 0.08  # deviations, on the latents of the second part
EDGES = 1.0  # weight of the loss on edges
NUM_SCALED = 1000  # pictures whose latents decide the scaling factor


def build_autoencoder(channels: tuple[int, ...], latent_channels: int, start: Path | None = None) -> AutoencoderKL:
    """An untrained autoencoder; of the one in the folder `start` it takes every tensor, or part of one, that fits."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels), up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1, block_out_channels=channels, latent_channels=latent_channels, norm_num_groups=8,
        sample_size=SIZE, mid_block_add_attention=False)
    if start:
        take_over(vae, AutoencoderKL.from_pretrained(start))
    return vae.to(memory_format=torch.channels_last)


def take_over(vae: AutoencoderKL, other: AutoencoderKL) -> None:
    """Copy what fits of `other` into `vae`; of a tensor of another size the part that both have."""
    own = vae.state_dict()
    for name, theirs in other.state_dict().items():
        if name in own and own[name].ndim == theirs.ndim:
            mine, theirs = _split_moments(name, own[name]), _split_moments(name, theirs)
            part = tuple(slice(min(sides)) for sides in zip(mine.shape, theirs.shape, strict=True))
            mine[part] = theirs[part]


def _split_moments(name: str, tensor: Tensor) -> Tensor:
    """The tensor with means and log-variances apart where its channels are both: one must not slip into the other."""
    if name.startswith("quant_conv") and tensor.ndim > 1:
        return tensor.view(2, len(tensor) // 2, 2, tensor.shape[1] // 2, *tensor.shape[2:])
    if name.startswith(("quant_conv", "encoder.conv_out")):
        return tensor.view(2, len(tensor) // 2, *tensor.shape[1:])
    return tensor


def train_autoencoder(vae: AutoencoderKL, pictures: np.ndarray, folder: Path, *, steps: int, batch_size: int,
                      machine: Machine = CPU) -> AutoencoderKL:
    """Both parts; two thirds of the steps for the first. Latents are scaled to unit variance."""
    data = torch.from_numpy(pictures).to(machine.device)

    def loss_of(generator: torch.Generator, crop: int, edges: float, noise: float) -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator, device=machine.device)
        batch = to_signed(crops(data[rows], crop, generator)).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(batch).latent_dist
        drawn = torch.randn(posterior.mean.shape, generator=generator, device=machine.device)
        latents = posterior.mean + (posterior.std + noise * posterior.mean.detach().std()) * drawn
        return picture_loss(vae.decode(latents).sample.float(), batch, edges) + 1e-4 * posterior.kl().mean() / CROP

    first = steps - steps // 3
    vae = fit("autoencoder", vae, lambda generator: loss_of(generator, CROP, 0.0, 0.0), folder, steps=first,
              learning_rate=1.5e-3, machine=machine, weight_decay=0.0)
    vae = fit("autoencoder-edges", vae, lambda generator: loss_of(generator, SIZE, EDGES, LATENT_NOISE), folder,
              steps=steps - first, learning_rate=7e-4, machine=machine, weight_decay=0.0).eval()
    sample = encode(vae, pictures[:NUM_SCALED], scale=1.0, machine=machine)
    vae.register_to_config(scaling_factor=1 / sample.float().std().item())
    return vae


def crops(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """The same crop of every picture (n, 96, 96, 3): a place that is drawn for the batch."""
    top, left = (int(torch.randint(0, SIZE - side + 1, (), generator=generator, device=pictures.device))
                 for _ in range(2))
    return pictures[:, top:top + side, left:left + side]


def picture_loss(decoded: Tensor, batch: Tensor, edges: float) -> Tensor:
    """L1 and half the squared error, the hues of flat areas once more, and the steps from pixel to pixel."""
    error = decoded - batch
    loss = error.abs().mean() + 0.5 * error.square().mean() + 0.5 * nn.functional.avg_pool2d(error, 4).abs().mean()
    if edges:
        loss = loss + edges * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    return loss


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, scale: float | None = None, machine: Machine = CPU) -> Tensor:
    """Latent means (n, channels, 24, 24), float16, of `pictures`, times the autoencoder's scaling factor."""
    scale = vae.config.scaling_factor if scale is None else scale
    chunks = (torch.from_numpy(np.ascontiguousarray(pictures[start:start + 250])).to(machine.device)
              for start in range(0, len(pictures), 250))
    latents = []
    for chunk in chunks:
        with machine.autocast():
            mean = vae.encode(to_signed(chunk)).latent_dist.mean
        # outside autocast, which cannot join halves on a CPU
        latents.append((mean.float() * scale).half().cpu())
    return torch.cat(latents)


def reconstruct(vae: AutoencoderKL, signed: Tensor) -> Tensor:
    """Pictures (n, 3, 96, 96) in [-1, 1] after the autoencoder."""
    with torch.no_grad():
        return vae.decode(vae.encode(signed).latent_dist.mean).sample.clamp(-1, 1)
