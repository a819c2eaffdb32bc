"""The deployment files as they are shipped, and as they are once their values are filled in."""

import re
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "cluster" / "deploy"
MARK = "FILL_IN"
LAST_LINE = r"^FILL_IN: .*\n"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())

_VALUES = {
    "FILL_IN_AMI": "ami-0123456789abcdef0",
    "FILL_IN_ZONE": "us-west1-a",
    "FILL_IN_HEAD_ADDRESS": "192.0.2.1",  # of the documentation's own network
    "FILL_IN_WORKER_ADDRESS": "192.0.2.2",
    "FILL_IN_PYTHON_OF_THE_CLUSTER": "3.12",
    "FILL_IN_SPOT_LABEL": "example.com/spot",
    "FILL_IN_SPOT_VALUE": '"true"',
}


def filled(name: str, values: dict[str, str] | None = None) -> str:
    """A file's text with every value filled in: ``values``, or some that could be a user's."""

    def value(match: re.Match[str]) -> str:
        mark = match[0]
        known = _VALUES | (values or {})
        return known.get(mark, mark.removeprefix("FILL_IN_").lower().replace("_", "-"))

    text = re.sub(r"FILL_IN_[A-Z_]*[A-Z]", value, (DEPLOY / name).read_text())
    return re.sub(LAST_LINE, "", text, flags=re.MULTILINE)
