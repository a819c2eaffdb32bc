"""Takes a named training and what a store knows; gives its state, and why in a clause."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ablations.naming import Named
from csl.config import flatten
from csl.identity import Identity
from results.schema import FINAL_FAILURES, Header
from results.store import Store, latest

State = Literal["stored", "failed", "unfinished", "new"]
CodePolicy = Literal["strict", "warn", "ignore"]

_SHOWN_CHANGES = 2


@dataclass(frozen=True)
class Policy:
    """What a user wants of records that exist.

    Args:
        code: whether a record of other sources counts: ``strict`` (no), ``warn`` (yes, and it is
            said), ``ignore``.
        retry_failed: run again what failed in a way that would repeat.
        force: run everything again; the new records count.
    """

    code: CodePolicy = "warn"
    retry_failed: bool = False
    force: bool = False


USUAL = Policy()
"""What counts where nobody says otherwise."""


@dataclass(frozen=True)
class Verdict:
    """A state and its reason.

    Args:
        kind: the reason without its particulars, to count by.
        other_code: it counts, but was trained by other sources than the ones at hand.
    """

    state: State
    kind: str
    reason: str
    other_code: bool = False


class History:
    """What a store holds, indexed for questions about trainings.

    Args:
        store: the store.
        code: the fingerprint of the sources at hand.
        policy: what the user wants of it.
    """

    def __init__(self, store: Store, code: str, policy: Policy) -> None:
        self.headers = store.headers()
        self.code = code
        self.policy = policy
        self._store = store

    @cached_property
    def latest(self) -> Mapping[str, Header]:
        """The attempt that counts of each training, under this policy."""
        counted = self.headers
        if self.policy.code == "strict":
            counted = tuple(h for h in counted if h.provenance.code_fingerprint == self.code)
        return latest(counted)

    def superseded(self, key: str) -> tuple[str, ...]:
        """Complete attempts at a training, which a new one is to replace."""
        return tuple(self._complete.get(key, ()))

    @cached_property
    def _complete(self) -> Mapping[str, list[str]]:
        attempts: defaultdict[str, list[str]] = defaultdict(list)
        for header in self.headers:
            if header.status == "complete":
                attempts[header.identity].append(header.attempt)
        return attempts

    @cached_property
    def _any_code(self) -> Mapping[str, Header]:
        return latest(self.headers)

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str], Header]:
        found: dict[tuple[str, str], Header] = {}
        for header in sorted(self.headers, key=lambda h: h.provenance.finished_at):
            found[header.launched_as, header.setting] = header
        return found

    @cached_property
    def _unfinished(self) -> frozenset[str]:
        found = self._store.work.glob("checkpoints/*/*resume.pt") if self._store.has_work else ()
        return frozenset(path.parent.name for path in found)

    def judge(self, named: Named, labels: Sequence[str]) -> Verdict:
        """Whether a training runs, and why; ``labels`` are what its cells are called."""
        record = self.latest.get(named.key)
        if self.policy.force:
            return Verdict("new", "forced", "forced by --force")
        if record is not None and record.failure is None:
            other = self.policy.code == "warn" and record.provenance.code_fingerprint != self.code
            said = f"complete in {record.launched_as}" + (", by other code" if other else "")
            return Verdict("stored", "stored", said, other)
        if record is not None and record.failure in FINAL_FAILURES and not self.policy.retry_failed:
            said = f"{record.failure}: it would fail again; --retry-failed runs it anyway"
            return Verdict("failed", f"failed: {record.failure}", said)
        if named.key in self._unfinished:
            return Verdict("unfinished", "unfinished", "resumes from its checkpoint")
        if record is not None:
            said = f"runs again after: {record.failure}"
            return Verdict("new", f"failed before: {record.failure}", said)
        kind, said = self._why_new(named, labels)
        return Verdict("new", kind, said)

    def _why_new(self, named: Named, labels: Sequence[str]) -> tuple[str, str]:
        if named.key in self._any_code:
            return "code changed", "code changed: its record is from other sources"
        setting = named.places[0].cell.setting.name
        before = next(
            (
                self._by_label[label, setting]
                for label in labels
                if (label, setting) in self._by_label
            ),
            None,
        )
        if before is None:
            return "not in the store", "not in the store"
        changes = _changes(before.configuration, named.training.config.model_dump_json())
        if changes:
            shown = ", ".join(changes[:_SHOWN_CHANGES])
            more = f" and {len(changes) - _SHOWN_CHANGES} more" if changes[_SHOWN_CHANGES:] else ""
            return "configuration changed", f"configuration changed: {shown}{more}"
        if named.identity is not None and (what := _data_changes(before, named.identity)):
            return "data changed", f"data changed: {what}"
        return "not in the store", "not in the store"


def _changes(before: str, now: str) -> list[str]:
    """ "loss.strong 0.25 → 0.5" for each key that differs between two configurations."""
    old, new = flatten(json.loads(before)), flatten(json.loads(now))
    return [
        f"{key} {_said(old, key)} → {_said(new, key)}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


def _said(values: Mapping[str, object], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "absent"


def _data_changes(before: Header, now: Identity) -> str:
    parts = {
        "split lists": (before.split_hash, now.split_hash),
        "dataset": (before.data_fingerprint, now.data_fingerprint),
        "weights": (before.weights_hash, now.weights_hash),
    }
    return ", ".join(
        f"{what} {old[:8]} → {new[:8]}" for what, (old, new) in parts.items() if old != new
    )
