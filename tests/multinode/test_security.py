"""What a run shows to others: no port beyond this machine, and its token nowhere."""

import subprocess
import time
from pathlib import Path

import psutil

from tests.faults.conftest import CSL, ONE_VARIANT, SMALL, Csl
from tests.multinode.conftest import ROOT, Ray

ONE_EPOCH = ("--set", "schedule.epochs=1")


def files_with(secret: str, *folders: Path) -> list[Path]:
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert paths
    return [path for path in paths if secret.encode() in path.read_bytes()]


def commands_with(secret: str) -> list[list[str]]:
    seen = (each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"]))
    return [command for command in seen if secret in " ".join(command)]


def test_a_local_ray_is_on_loopback_and_its_token_is_nowhere(tmp_path: Path) -> None:
    spec, store = tmp_path / "one.yaml", tmp_path / "store"
    spec.write_text(ONE_VARIANT)
    command = [*CSL, "run", str(spec), *SMALL, *ONE_EPOCH, "--store", str(store)]
    with (tmp_path / "output").open("wb") as output:
        driver = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        while not list(store.glob("checkpoints/*/worker-0.log")):
            assert driver.poll() is None, "the run ended before it could be looked at"
            time.sleep(0.05)
        tree = psutil.Process(driver.pid).children(recursive=True)
        (raylet, *_) = (each for each in tree if each.name() == "raylet")
        token = raylet.environ()["RAY_AUTH_TOKEN"]
        assert not commands_with(token)
        listening = {
            each.laddr.ip.removeprefix("::ffff:")
            for process in tree
            for each in process.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        assert driver.wait(timeout=300) == 0, (tmp_path / "output").read_text()
    finally:
        driver.kill()
        driver.wait()
    assert not files_with(token, tmp_path)


def test_the_token_of_a_joined_ray_is_nowhere(csl: Csl, ray: Ray, tmp_path: Path) -> None:
    token, store = ray.environment["RAY_AUTH_TOKEN"], tmp_path / "store"
    spec = tmp_path / "one.yaml"
    spec.write_text(ONE_VARIANT)
    job = csl(
        ray, "run", "one.yaml", *SMALL, *ONE_EPOCH, "--store", store, "--address", ray.url,
        cwd=tmp_path,
    ).stdout  # fmt: skip
    assert token not in job
    followed = csl(ray, "watch", job.split()[4].rstrip(","), "--address", ray.url)
    assert token not in followed.stdout
    assert not files_with(token, tmp_path, ray.folder), "records, logs, Ray's own logs"
    assert not commands_with(token)
