"""Training loop of GlyphWorld's own models: AdamW, one-cycle rate, averaged weights, a checkpoint to resume from."""
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def fit(
    name: str, model: nn.Module, loss_of: Callable[[torch.Generator], torch.Tensor], folder: Path, *, steps: int,
    learning_rate: float, seed: int = 0, weight_decay: float = 0.01, ema: float = 0.995, save_every: int = 200,
) -> nn.Module:
    """Minimise `loss_of(generator)` over the parameters of `model`; return a copy with exponentially averaged weights.

    `generator` is the only source of randomness and is part of the checkpoint `folder/name.pt`, so that a killed
    training goes on as if it had not been.
    """
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _one_cycle(step, steps))
    parts = {"model": model, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    generator, step, running, started = torch.Generator().manual_seed(seed), 0, None, time.monotonic()
    path = folder / f"{name}.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        step, running = state["step"], state["running"]
        generator.set_state(state["generator"])
        for key, part in parts.items():
            part.load_state_dict(state[key])
    while step < steps:
        loss = loss_of(generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(model)
        step += 1
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"{name} {step}/{steps} loss {running:.4f} {time.monotonic() - started:.0f}s", flush=True)
        if step % save_every == 0 or step == steps:
            _save({"step": step, "running": running, "generator": generator.get_state(),
                   **{key: part.state_dict() for key, part in parts.items()}}, path)
    return averaged.module


def save_half(model, folder: Path) -> None:
    """Write a model or pipeline at half the size: float16 files whose configs say float32, as which they are loaded."""
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)
    for config in folder.rglob("config.json"):
        config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))


def _one_cycle(step: int, steps: int, warmup: float = 0.04, floor: float = 0.01) -> float:
    share = step / steps
    if share < warmup:
        return max(share / warmup, floor)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def _save(state: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
