"""Checkpoints: what a killed training goes on from; one that is torn is never used, one of another model refused."""
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedModel, TrainerState

from npkit.errors import NpkitError
from npkit.training import processes

TRAINER_STATE = "trainer_state.json"
PROCESSES = "processes.json"  # how many wrote the checkpoint, each with a file of its generators' states, and threads
COMPARED = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "max_position_embeddings")


def newest_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written whole, None where there is none."""
    return next((str(checkpoint) for checkpoint in checkpoints(folder) if is_whole(checkpoint)), None)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest first, torn ones among them."""
    return sorted(Path(folder).glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2]))


def is_whole(checkpoint: Path) -> bool:
    """Say whether all files of a checkpoint are there and none was cut: a kill, or a full disk, can stop any write."""
    try:
        json.loads((checkpoint / TRAINER_STATE).read_text())  # the main process writes it last
        num_processes = json.loads((checkpoint / PROCESSES).read_text())["num_processes"]
        models = [*checkpoint.glob("*.safetensors")]
        archives = [checkpoint / name for name in ("optimizer.pt", "scheduler.pt", *rng_files(num_processes))]
        for file in models:
            with safe_open(file, "pt"):  # holds the header against the length of the file
                pass
        for file in archives:
            ZipFile(file).close()  # an archive's table of contents is at its end
    except (OSError, ValueError, KeyError, SafetensorError, BadZipFile):
        return False
    return bool(models)


def rng_files(num_processes: int) -> list[str]:
    """Return the names under which Trainer saves the states of the processes' random generators."""
    return ["rng_state.pth"] if num_processes == 1 else [f"rng_state_{rank}.pth" for rank in range(num_processes)]


def resume_point(folder: Path, model: PreTrainedModel) -> str | None:
    """Return the checkpoint from which `model` can go on exactly, None for a fresh start; torn ones are removed.

    One of another model, or written by another number of processes, raises: nobody would know what came of it.
    """
    found = newest_checkpoint(folder)
    if found:
        check_model(Path(found), model)
        check_processes(Path(found))
    if processes.is_main():
        for checkpoint in checkpoints(folder):
            if not is_whole(checkpoint):
                shutil.rmtree(checkpoint)
    return found


def check_model(checkpoint: Path, model: PreTrainedModel) -> None:
    """Raise where a checkpoint is of a model of another kind or size."""
    config = AutoConfig.from_pretrained(checkpoint)
    for name in COMPARED:
        there, here = getattr(config, name, None), getattr(model.config, name, None)
        if there != here:
            raise NpkitError(f"{checkpoint} is a checkpoint of another model, with {name} {there} where this one has "
                             f"{here}: remove {checkpoint.parent} to start again")


def check_processes(checkpoint: Path) -> None:
    """Raise where another number of processes wrote a checkpoint."""
    there = json.loads((checkpoint / PROCESSES).read_text())["num_processes"]
    if there != processes.count():
        raise NpkitError(f"{checkpoint} was written by {there} process(es) and this run has {processes.count()}: "
                         f"go on with {there}, or remove {checkpoint.parent} to start again")


@contextmanager
def threads_of(checkpoint: str | None) -> Iterator[None]:
    """Compute inside the block with as many CPU threads as wrote the checkpoint, and say so where that is a change.

    Threads share a sum among them, and sums in another order round differently: with another number, the losses of a
    resumed training would leave those of an uninterrupted one in the last digit, and from there on.
    """
    before = torch.get_num_threads()
    wanted = before
    if checkpoint:
        wanted = json.loads(Path(checkpoint, PROCESSES).read_text()).get("num_threads", before)
    if wanted != before:
        print(f"{checkpoint} was written with {wanted} thread(s), this run has {before}: it goes on with {wanted}, "
              "to the same bits", file=sys.stderr)
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Remove the half of a file or folder that could not be written whole, and raise a sentence that says why."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # pandas's; torch's; safetensors's
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        last = newest_checkpoint(path.parent)
        reason = (str(error).splitlines() or [""])[0]
        raise NpkitError(f"{path} cannot be written, is the disk full? ({type(error).__name__}: {reason}); free some "
                         f"space and run again, to go on from {Path(last).name if last else 'the start'}") from error


class WholeCheckpoints:
    """Mixin of a Trainer: a checkpoint knows how many processes wrote it, and one that cannot be written says so."""

    def train_on(self, model: PreTrainedModel) -> None:
        """Train to the last step, from the newest whole checkpoint on where there is one, to the same bits."""
        found = resume_point(Path(self.args.output_dir), model)
        with threads_of(found):
            self.go_on(found)

    def go_on(self, found: str | None) -> None:
        """Train to the last step from a checkpoint, or from the start.

        Trainer itself, resumed from a last step that does not end an epoch, would make one step more.
        """
        state = found and TrainerState.load_from_json(str(Path(found, TRAINER_STATE)))
        last_step = self.args.max_steps if self.args.max_steps > 0 else state and state.max_steps
        if found and state.global_step >= last_step:
            self._load_from_checkpoint(found)
            self.state = state
        else:
            self.train(resume_from_checkpoint=found)

    def _save_checkpoint(self, model, trial) -> None:
        checkpoint = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        with saving(checkpoint):
            if self.args.should_save:
                checkpoint.mkdir(parents=True, exist_ok=True)
                (checkpoint / PROCESSES).write_text(json.dumps({"num_processes": processes.count(),
                                                                   "num_threads": torch.get_num_threads()}))
            super()._save_checkpoint(model, trial)
