"""Takes tables, pictures and a store's attempts; gives one page that needs nothing else.

``runs`` (attempts as rows, and packed what lies behind each), ``pictures`` (figures as SVG),
``page`` (the HTML). The page's own program is ``page.js``, its looks are ``page.css``.
"""

from results.report.page import Findings, PlainTable, Section, render
from results.report.runs import Runs, read_runs

__all__ = ["Findings", "PlainTable", "Runs", "Section", "read_runs", "render"]
