"""Errors: every mistake a user can make, told in one sentence that says what was wrong and what is allowed."""
from collections.abc import Iterator
from contextlib import contextmanager


class NpkitError(ValueError):
    """Wrong settings or input; the command line prints the sentence and exits with code 2."""


class MissingArtifact(NpkitError):
    """A stage needs what an earlier notebook has not written yet."""


class PrefixTooLong(NpkitError):
    """A prefix has more tokens than the policy takes."""


class PromptTooLong(NpkitError):
    """A prompt has more tokens than the policy or the image model's text encoder takes."""


class NotebookFailed(Exception):
    """A notebook stopped for another reason; the message says where and why, and the exit code is 1."""


class ClausesTooLong(NpkitError):
    """Clauses that need more new tokens than there are."""


class Faults:
    """What several checks found wrong, to be told together: a sentence a line."""

    def __init__(self):
        self.errors: list[NpkitError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note an error of the block instead of letting it end the other checks."""
        try:
            yield
        except NpkitError as error:
            self.errors.append(error)

    def tell(self) -> None:
        """Raise what was noted, if anything was; the command line prints every line as a sentence of its own."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise NpkitError("\n".join(dict.fromkeys(map(str, self.errors))))
