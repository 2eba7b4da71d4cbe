"""What a person sees of a network: its summary, and the views of objects in notebooks."""

from paramesh.views.notebook import html_of
from paramesh.views.summary import CellRow, Summary, summarise

__all__ = ["CellRow", "Summary", "html_of", "summarise"]
