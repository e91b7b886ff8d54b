"""Reading: the diffusion model's text encoder, trained on captions alone to tell what scene they describe.

The text encoder of a judge's CLIP has states that are alike for all subjects: a subject's centred mean state has a
cosine of 0.92 to 0.94 with that of the subject nearest to it. One that has learnt to read has 0.24, after two minutes
of one core, and the UNet need only learn what subjects look like.
"""
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import CLIPTextConfig, CLIPTextModel

from npkit.glyphworld.painting.renderer import Scene
from npkit.glyphworld.people.eye import HEADS, Batch, labels
from npkit.glyphworld.training.loop import CPU, Machine, fit

WIDTH = 128  # of the text encoder's states
BATCH_SIZE = 64  # captions


class Reader(nn.Module):
    """The text encoder, and from the mean of its states what the caption names of each of the eye's heads."""

    def __init__(self, vocab_size: int, max_tokens: int):
        super().__init__()
        eos = vocab_size - 1
        self.text_encoder = CLIPTextModel(CLIPTextConfig(
            vocab_size=vocab_size, hidden_size=WIDTH, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=max_tokens, bos_token_id=eos - 1, eos_token_id=eos, pad_token_id=eos))
        self.heads = nn.ModuleDict({head: nn.Linear(WIDTH, len(names)) for head, names in HEADS.items()})

    def forward(self, input_ids: Tensor) -> Batch:
        states = self.text_encoder(input_ids).last_hidden_state.mean(1)
        return {head: layer(states) for head, layer in self.heads.items()}


def train_reader(scenes: list[Scene], input_ids: Tensor, vocab_size: int, folder: Path, steps: int,
                 machine: Machine = CPU) -> CLIPTextModel:
    """A text encoder that reads captions, `input_ids` (n, tokens), of `scenes`."""
    torch.manual_seed(0)
    reader = Reader(vocab_size, input_ids.shape[1])
    input_ids = input_ids.to(machine.device)
    answers = {head: values.to(machine.device) for head, values in labels(scenes).items()}

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(input_ids), (BATCH_SIZE,), generator=generator, device=machine.device)
        read = reader(input_ids[rows])
        effects = len(HEADS["effects"]) * binary_cross_entropy_with_logits(read["effects"], answers["effects"][rows])
        return effects + sum(cross_entropy(read[head], answers[head][rows]) for head in ("subject", "colour", "place"))

    return fit("reader", reader, loss_of, folder, steps=steps, learning_rate=1e-3, machine=machine,
               ema=0.99).text_encoder.eval()
