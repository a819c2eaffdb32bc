"""Takes the columns of a record; gives them as the Markdown table of docs/store.md.

``python -m results.describe`` prints it.
"""

import pyarrow as pa

from results.columns import COLUMNS


def columns_table() -> str:
    """A line per column, those of structs below them."""
    lines = ["| column | type | what it is |", "|---|---|---|"]
    lines += [line for field in COLUMNS for line in _lines(field, "")]
    return "\n".join(lines) + "\n"


def _lines(field: pa.Field, above: str) -> list[str]:
    name, kind, several = f"{above}{field.name}", field.type, ""
    if pa.types.is_list(kind):
        kind, several = kind.value_type, "list of "
    inner = pa.types.is_struct(kind)
    shown = several + ("struct" if inner else str(kind)) + (" or null" if field.nullable else "")
    what = field.metadata[b"description"].decode().replace("|", r"\|").replace("*", r"\*")
    below = [line for part in (kind if inner else ()) for line in _lines(part, f"{name}.")]
    return [f"| `{name}` | {shown} | {what} |", *below]


if __name__ == "__main__":
    print(columns_table(), end="")
