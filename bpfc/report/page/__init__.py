"""One HTML page about runs, made of the files that they left; nothing is attacked or trained for it."""

from bpfc.report.page.render import render_page

__all__ = ["render_page"]
