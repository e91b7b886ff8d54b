"""npkit: the study kit for NeuroPrompts; notebooks argue, this package computes."""
__version__ = "0.1.0"


def __getattr__(name: str):
    """Import `start` at its first use, so that `import npkit` and `npkit --help` are instant."""
    if name == "start":
        from npkit.study.artifacts import start
        return start
    raise AttributeError(f"module 'npkit' has no attribute {name!r}")
