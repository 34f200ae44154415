"""A transcript as a file that people read or watch: plain text, SubRip, WebVTT, a table. Pure."""

from tasks.transcript.captions.forms import FORMS, render

__all__ = ["FORMS", "render"]
