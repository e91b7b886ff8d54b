"""Errors: every mistake a user can make, told in one sentence that says what was wrong and what is allowed."""


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
