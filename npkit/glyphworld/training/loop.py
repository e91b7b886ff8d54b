"""Training loop of GlyphWorld's models: AdamW, a rate that rises, stays and falls, averaged weights and checkpoints."""
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SAVE_SECONDS = 150.0


class OutOfTime(Exception):
    """The minutes that a run was given are over; everything is saved, and the same command goes on."""


@dataclass(frozen=True)
class Machine:
    """Where models are trained, and until when."""
    device: str = "cpu"
    bf16: bool = False  # autocast to bfloat16: on a GPU, or on a CPU with AMX
    # nothing is compiled: torch.compile (2.13, on a CPU) gets most of the UNet's gradients wrong, without a word
    processes: int = 2  # that render
    seconds: float = math.inf  # that this run may take
    started: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        return time.monotonic() - self.started > self.seconds

    def check_time(self) -> None:
        if self.is_over():
            raise OutOfTime

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)


CPU = Machine()


def fit(
    name: str, model: nn.Module, loss_of: Callable[[torch.Generator], Tensor], folder: Path, *, steps: int,
    learning_rate: float, machine: Machine = CPU, seed: int = 0, weight_decay: float = 0.01, ema: float = 0.995,
    save_every: int = 0,
) -> nn.Module:
    """Minimise `loss_of(generator)` over the parameters of `model`; return a copy with exponentially averaged weights.

    `generator`, on the machine's device, is the only source of randomness and is part of the checkpoint
    `folder/name.pt`, so that a killed training goes on as if it had not been. A checkpoint is written every few
    minutes (and every `save_every` steps), when the machine's time is over, which raises OutOfTime, and at the end.
    """
    model.to(machine.device)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _trapezoid(step, steps))
    parts = {"model": model, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    state = {"step": 0, "running": torch.zeros((), device=machine.device), "generator": machine.generator(seed)}
    path, saved = folder / f"{name}.pt", time.monotonic()
    if path.exists():
        _load(state, parts, path, machine)
    while state["step"] < steps:
        with machine.autocast():
            loss = loss_of(state["generator"])
        _update(model, loss, optimizer, schedule)
        averaged.update_parameters(model)
        state["step"] += 1
        state["running"].lerp_(loss.detach().float(), max(0.02, 1 / state["step"]))
        if state["step"] % 100 == 0 or state["step"] == steps:
            rate = (time.monotonic() - machine.started)
            print(f"{name} {state['step']}/{steps} loss {state['running'].item():.4f} {rate:.0f} s", flush=True)
        is_over = machine.is_over() and state["step"] < steps
        is_due = time.monotonic() - saved > SAVE_SECONDS or (save_every and state["step"] % save_every == 0)
        if is_over or is_due or state["step"] == steps:
            _save(state, parts, path)
            saved = time.monotonic()
        if is_over:
            raise OutOfTime
    return averaged.module


def _update(model: nn.Module, loss: Tensor, optimizer: torch.optim.Optimizer, schedule) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def _trapezoid(step: int, steps: int, warmup: float = 0.02, cooldown: float = 0.3, floor: float = 0.01) -> float:
    """The share of the learning rate at `step`: up, level for two thirds, down.

    While it is level a training can be lengthened: until the descent, checkpoints do not depend on `steps`.
    """
    up, down = step / (warmup * steps), (steps - step) / (cooldown * steps)
    return max(floor, min(1.0, up, down))


def _load(state: dict, parts: dict, path: Path, machine: Machine) -> None:
    saved = torch.load(path, weights_only=True, map_location=machine.device)
    state["step"], state["running"] = saved["step"], saved["running"]
    state["generator"].set_state(saved["generator"].cpu())
    for key, part in parts.items():
        part.load_state_dict(saved[key])


def _save(state: dict, parts: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    torch.save({"step": state["step"], "running": state["running"], "generator": state["generator"].get_state(),
                **{key: part.state_dict() for key, part in parts.items()}}, draft)
    os.replace(draft, path)


def save_half(model, folder: Path) -> None:
    """Write a model or pipeline at half the size: float16 files whose configs say float32, as which they are loaded."""
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)
    for config in folder.rglob("config.json"):
        config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
