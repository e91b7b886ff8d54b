"""Checkpoints: what cannot be written (a full disk) is told in a sentence, and the last good checkpoint stays."""
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from npkit.errors import NpkitError


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Remove the half of a file or folder that could not be written whole, and raise a sentence that says why."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # pandas's; torch's; safetensors's
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise NpkitError(f"{path} cannot be written ({type(error).__name__}: {str(error).splitlines()[0]}); the "
                         "checkpoints before it are kept: free some space and run again, to go on from the newest"
                         ) from error


class WholeCheckpoints:
    """Mixin of a Trainer whose checkpoints are saved under `saving`."""

    def _save_checkpoint(self, model, trial) -> None:
        with saving(Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")):
            super()._save_checkpoint(model, trial)
