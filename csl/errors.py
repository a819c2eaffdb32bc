"""Takes what a user gave that cannot be used; gives a message with file, key, value, remedy."""


class InputError(ValueError):
    """Something the user gave is wrong and only the user can mend it.

    The command line prints it as one message and exits with code 2.

    Args:
        problem: what is wrong, in one clause.
        remedy: what to do about it.
        file: the file that holds it, if any.
        key: the dotted key or command-line option, if any.
        value: the offending value, if any.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: object = None,
        key: object = None,
        value: object = None,
    ) -> None:
        super().__init__(problem, remedy, file, key, value)
        self.problem = problem
        self.remedy = remedy
        self.file = file
        self.key = None if key is None else str(key)
        self.value = value

    def __str__(self) -> str:
        where = [
            f"{name}: {_one_line(given)}"
            for name, given in (("file", self.file), ("key", self.key), ("value", self.value))
            if given is not None
        ]
        return "\n  ".join([self.problem, *where, f"remedy: {self.remedy}"])

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments: without this the error cannot cross a process boundary.
        return _rebuild, (self.problem, self.remedy, self.file, self.key, self.value)


def _one_line(given: object) -> str:
    """Text as it is, unless a terminal would do anything but show it."""
    text = str(given)
    return text if text.isprintable() else repr(text)


def _rebuild(problem: str, remedy: str, file: object, key: object, value: object) -> InputError:
    return InputError(problem, remedy=remedy, file=file, key=key, value=value)


class StoppedError(Exception):
    """The training was asked to stop, and has: its checkpoint holds all it has done."""


class NotANumberError(ArithmeticError):
    """Logits or a loss became NaN or infinite: the training stops and is recorded as such."""
