"""Takes the name or path of a published table; gives its numbers with their source and protocol.

A ledger is one YAML file: those of the paper are in ``published/``, others are their users' own. It
holds what was printed, misprints included; its notes say what cannot be right.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from results.documents import DocumentError, read

Percent = Annotated[float, Field(ge=0, le=100)]
Text = Annotated[str, Field(min_length=1)]
Quantity = Literal["mIoU", "sampling rate", "accuracy", "recall"]
Strings = Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]  # in YAML a list
Numbers = Annotated[tuple[Percent | None, ...], Field(strict=False)]


_FOLDER = Path(str(files("results"))) / "published"
_EXAMPLE = "results/published/table5.yaml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Protocol(_Frozen):
    """How numbers were measured.

    Args:
        encoder: the backbone.
        crop: side of the training crops in pixels.
        dataset: dataset and, where it has several, which of its labeled sets.
        splits: the labeled lists, as settings name them, by the paper's fraction.
        evaluation: what is scored.
        selection: the epoch that counts, or that the paper does not say.
    """

    encoder: Text
    crop: Annotated[int, Field(gt=0)]
    dataset: Text
    splits: Annotated[dict[Text, Text], Field(min_length=1)]
    evaluation: Text
    selection: Text

    def __str__(self) -> str:
        lists = "/".join(self.splits.values())
        return f"{self.encoder}, crop {self.crop}, {self.dataset}, splits {lists}"


class Block(_Frozen):
    """Rows of one protocol and quantity: a percentage per column, None where there is a dash."""

    quantity: Quantity
    protocol: Protocol
    rows: Annotated[dict[Text, Numbers], Field(min_length=1)]


class Note(_Frozen):
    """What is to be known of a cell, of a row or column, or of the whole table.

    ``row`` is a name that ``Ledger.find`` understands.
    """

    text: Text
    row: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        where = ", ".join(name for name in (self.row, self.column) if name is not None)
        return f"{where}: {self.text}" if where else self.text


class Ledger(_Frozen):
    """The numbers of one published table.

    A file says once, at its top, the ``protocol`` and ``quantity`` (mIoU unless it says) of every
    block, and each block only what differs. A table of one block has its ``rows`` at the top.

    Args:
        source: the table's number in the paper.
        paper: the paper's title.
        section: where the paper discusses it.
        caption: as printed.
        columns: what each row has a number for, in order: splits of the protocol, or no split.
        blocks: by name; the only one of a table without blocks is called "".
        notes: misprints, and what else a reader must know.
    """

    source: Text
    paper: Text
    section: Text
    caption: Text
    columns: Strings
    blocks: Annotated[dict[str, Block], Field(min_length=1)]
    notes: Annotated[tuple[Note, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Give every block what the file says once."""
        shared = {key: content[key] for key in Block.model_fields if key in content}
        rest = {key: value for key, value in content.items() if key not in shared}
        if "rows" in shared and "blocks" in rest:
            raise ValueError("rows stand both inside and outside of blocks")
        blocks = {"": {}} if "rows" in shared else rest.get("blocks")
        if isinstance(blocks, dict):
            rest["blocks"] = {name: _merged(shared, block) for name, block in blocks.items()}
        return rest

    @model_validator(mode="after")
    def _fits(self) -> Self:
        twice = next((c for i, c in enumerate(self.columns) if c in self.columns[:i]), None)
        if twice is not None:
            raise ValueError(f"the column {twice!r} stands twice")
        for name, block in self.blocks.items():
            for row, numbers in block.rows.items():
                if len(numbers) != len(self.columns):
                    raise ValueError(
                        f"row {_in_block(row, name)!r} has {len(numbers)} numbers for "
                        f"{len(self.columns)} columns"
                    )
            others = [column for column in self.columns if column not in block.protocol.splits]
            if others and len(others) < len(self.columns):
                raise ValueError(f"columns {', '.join(others)} have no list in protocol.splits")
        for note in self.notes:
            if (note.row is not None and self.find(note.row) is None) or (
                note.column is not None and note.column not in self.columns
            ):
                raise ValueError(f"a note is on a cell that is not there: {note}")
        return self

    @property
    def rows(self) -> tuple[str, ...]:
        """Every row's name; followed by its block, "CSL (513)", where several blocks have it."""
        places = [(row, name) for name, block in self.blocks.items() for row in block.rows]
        names = [row for row, _ in places]
        return tuple(row if names.count(row) == 1 else _in_block(row, at) for row, at in places)

    def find(self, row: str, block: str | None = None) -> tuple[str, Block] | None:
        """A row's name as printed, and its block; None if the paper has no such row.

        Args:
            row: as printed, or followed by its block in parentheses: ``CSL (513)``.
            block: the block's name; needed where several blocks have the row and ``row`` does not
                say which.

        Raises:
            DocumentError: nothing says which of several blocks is meant.
        """
        found = {
            name: (own, each)
            for name, each in self.blocks.items()
            for own in each.rows
            if (row == own and block in (None, name))
            or (name and block is None and row == _in_block(own, name))
        }
        if len(found) > 1:
            raise DocumentError(
                f"{self.source} has this row {len(found)} times",
                f"call it {' or '.join(_in_block(own, name) for name, (own, _) in found.items())}",
                key="row",
                value=row,
            )
        return next(iter(found.values()), None)

    def number(self, row: str, column: str, block: str | None = None) -> float | None:
        """The paper's percentage; None if it printed no such cell.

        Args:
            row, block: as for ``find``.
            column: one of ``columns``.

        Raises:
            DocumentError: nothing says which of several blocks is meant.
        """
        found = self.find(row, block)
        if found is None or column not in self.columns:
            return None
        own, within = found
        return within.rows[own][self.columns.index(column)]


def _merged(shared: dict[str, Any], block: Any) -> Any:
    """A block with what the top of its file says of all; its protocol may change some entries."""
    if not isinstance(block, dict):
        return block
    whole = {"quantity": "mIoU"} | shared | block
    mine, theirs = block.get("protocol"), shared.get("protocol")
    if isinstance(mine, dict) and isinstance(theirs, dict):
        whole["protocol"] = theirs | mine
    return whole


def _in_block(row: str, block: str) -> str:
    return f"{row} ({block})" if block else row


def names() -> tuple[str, ...]:
    """The paper's tables, in its order."""
    found = [path.name.removesuffix(".yaml") for path in _FOLDER.iterdir() if ".yaml" in path.name]
    return tuple(sorted(found, key=lambda name: (len(name), name)))


def load(name: str) -> Ledger:
    """The paper's ledger called ``name``, such as ``table5``, or one's own at a path.

    Args:
        name: one of ``names()``, or a path that ends in .yaml.

    Raises:
        DocumentError: there is no such ledger, or the file is none.
    """
    if name.endswith((".yaml", ".yml")):
        return read(Path(name), Ledger, _EXAMPLE)
    if name not in names():
        raise DocumentError(
            "no such ledger of published numbers",
            f"use one of {', '.join(names())}, or the path of a .yaml file",
            key="published",
            value=name,
        )
    return read(_FOLDER / f"{name}.yaml", Ledger, _EXAMPLE)
