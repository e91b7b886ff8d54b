"""Processes: several of them, started by torchrun, train one model; alone, every function here gives back what it got.

Each step is shared such that its result is that of one process, up to the rounding of a sum in another order.
"""
import os

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from npkit.errors import NpkitError


def join(on_cpu: bool) -> None:
    """Join the other processes where torchrun started some (gloo on a CPU, NCCL on GPUs)."""
    PartialState(cpu=on_cpu)
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if count() != wanted:
        raise NpkitError(f"WORLD_SIZE asks for {wanted} processes and {count()} joined: start them with "
                         f"torchrun --nproc-per-node {wanted} -m npkit train")


def count() -> int:
    """Return the number of processes at work on this training."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Say whether this process is the one that writes."""
    return rank() == 0


def divide(number: int, setting: str) -> int:
    """Return the share of `number` that one process takes; what cannot be shared evenly raises."""
    if number % count():
        raise NpkitError(f"{setting} is {number}, which {count()} processes cannot share evenly: "
                         f"choose a multiple of {count()}, or another number of processes")
    return number // count()


def share(rows: Tensor) -> Tensor:
    """Return the rows, of all that a step has, that this process takes."""
    return rows.tensor_split(count())[rank()]


def collect(items: list) -> list:
    """Return the items of every process, in their order."""
    return gather_object(items)


def from_main(value):
    """Return the main process's value, whatever it is."""
    return broadcast_object_list([value])[0]


def add_up(tensor: Tensor) -> Tensor:
    """Return the sum over the processes, the same bits in each."""
    if count() > 1:
        dist.all_reduce(tensor)
    return tensor


def add_gradients(model: nn.Module) -> None:
    """Replace every gradient by its sum over the processes."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if count() > 1 and gradients:
        total = add_up(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, total.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
