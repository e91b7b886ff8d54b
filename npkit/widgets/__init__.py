"""Widgets: the interactive half of the kit, for a notebook or Voila. Read the modules in this order:

1. `requests`: what somebody asks, as plain values, JSON and a command line.
2. `answers`: plain functions from a request to a prompt, pictures, scores; a notebook calls them too.
3. `beam`: a search step by step. `pages`: answers as HTML.
4. `worker`: work in a thread. `controls`, `explorer`: the panel.
5. `voting`: two pictures to choose from. `moved`: a slider for each argument of a function.

What they show comes from traits, never from print.
"""


def __getattr__(name: str):
    """Import the panel at its first use: it loads torch and the judges' libraries."""
    if name == "explore":
        from npkit.widgets.explorer import explore
        return explore
    raise AttributeError(f"module 'npkit.widgets' has no attribute {name!r}")


__all__ = ["explore"]
