"""Takes a table; gives it in GitHub-flavored Markdown."""

from results.escape import markdown
from results.render import words
from results.table import Cell, Table


def render(table: Table) -> str:
    """A title, a pipe table with aligned source, and the notes as a list."""
    heading = ["Variant"]
    for column in table.columns:
        heading += [column, "paper"] if table.has_paper else [column]
    rows = [[markdown(name) for name in heading]]
    for row in table.rows:
        texts = [markdown(row)]
        for column in table.columns:
            cell = table.cell(row, column)
            texts.append(_ours(cell))
            if table.has_paper:
                texts.append(_lines(words.paper(cell.paper)))
        rows.append(texts)
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
    head, *body = (
        "| "
        + " | ".join(
            text.rjust(width) if index else text.ljust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    )
    rule = "|".join(
        "-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths)
    )
    notes = [f"- {markdown(note)}" for note in table.footer]
    lines = [f"**{markdown(table.title)}**", "", head, f"|{rule}|", *body, "", *notes]
    return "\n".join(lines) + "\n"


def _ours(cell: Cell) -> str:
    first, *rest = (markdown(line) for line in words.ours(cell))
    return "<br>".join([f"**{first}**" if cell.leading else first, *rest])


def _lines(lines: list[str]) -> str:
    return "<br>".join(markdown(line) for line in lines)
