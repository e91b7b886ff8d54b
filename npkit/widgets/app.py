"""App: how Voila shows the pictures of a lesson, which lie beside its folder; `voila.json` names this module."""
import base64
import mimetypes

from nbconvert.filters.markdown_mistune import IPythonRenderer
from voila.exporter import VoilaMarkdownRenderer

from npkit.study.artifacts import NOTEBOOKS


class Renderer(VoilaMarkdownRenderer):
    """Voila's renderer of text; its own looks for no picture outside the notebook's folder, and then never ends."""

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return a picture with all of it in its address."""
        path = NOTEBOOKS / url
        if path.is_file():
            kind, _ = mimetypes.guess_type(path)
            url = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        return IPythonRenderer.image(self, text, url, title)
