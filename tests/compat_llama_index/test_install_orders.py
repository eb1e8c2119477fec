"""Another distribution's `workflows` over ours, or ours over it, is noticed and told with the fix."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEER = "llama-index-workflows==2.26.1"
ASK = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("ownership", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.installed_over())
"""
USES = {
    "workflows_otel.setup": "import workflows_otel; workflows_otel.setup('console'); workflows_otel.setup('console')",
    "workflows_otel.instrument": "import workflows_otel; workflows_otel.instrument(); workflows_otel.instrument()",
    "mlflow_flavor.autolog": "import mlflow_flavor; mlflow_flavor.autolog(); mlflow_flavor.autolog()",
}
FIX = "Run `pip uninstall -y spanflow llama-index-workflows`, then install spanflow again"

pytestmark = pytest.mark.server


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("spanflow-*.whl")
    return wheel


def install_into(place: Path, *things: str | Path) -> dict[str, str]:
    """Installs one thing after the other into an empty place; gives an environment in which they are found first."""
    for thing in things:
        pip("install", "--no-deps", "--ignore-installed", "--no-warn-conflicts", "--prefix", str(place), str(thing))
    return {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib", vars={"base": str(place)})}


def told(environment: dict[str, str], code: str) -> str:
    """What a process says on its standard error."""
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stderr


@pytest.fixture(scope="session")
def peer_over_us(tmp_path_factory: pytest.TempPathFactory, ours: Path) -> dict[str, str]:
    return install_into(tmp_path_factory.mktemp("peer_over_us"), ours, PEER)


@pytest.fixture(scope="session")
def us_over_the_peer(tmp_path_factory: pytest.TempPathFactory, ours: Path) -> dict[str, str]:
    return install_into(tmp_path_factory.mktemp("us_over_the_peer"), PEER, ours)


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., str]:
    """Installs one thing after the other into an empty place, and gives what our check then says."""

    def run(*things: str | Path) -> str:
        environment = install_into(tmp_path, *things)
        command = [sys.executable, "-c", ASK, str(Path(environment["PYTHONPATH"]) / "workflows_otel" / "_ownership.py")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    return run


def test_alone_all_is_well(install: Callable[..., str], ours: Path) -> None:
    assert install(ours) == "None"


def test_with_our_bridge_all_is_well(install: Callable[..., str], ours: Path) -> None:
    assert install(ours, ROOT / "compat" / "llama-index-workflows") == "None"


def test_the_peer_over_us_is_noticed(install: Callable[..., str], ours: Path) -> None:
    said = install(ours, PEER)
    assert "llama-index-workflows 2.26.1 was installed over Spanflow" in said
    assert "`pip uninstall -y spanflow llama-index-workflows`" in said


def test_us_over_the_peer_is_noticed(install: Callable[..., str], ours: Path) -> None:
    assert "Spanflow was installed over llama-index-workflows 2.26.1" in install(PEER, ours)


@pytest.mark.parametrize("use", USES)
def test_where_the_peer_is_over_us_the_import_fails_with_the_fix(use: str, peer_over_us: dict[str, str]) -> None:
    assert told(peer_over_us, USES[use]).splitlines()[-1].startswith("ImportError: The installed package `workflows`")


@pytest.mark.parametrize("use", USES)
def test_where_we_are_over_the_peer_the_user_is_warned_once(use: str, us_over_the_peer: dict[str, str]) -> None:
    assert told(us_over_the_peer, USES[use]).count(FIX) == 1


def test_both_packages_hold_the_same_check() -> None:
    first, second = (ROOT / "src" / name / "_ownership.py" for name in ("workflows_otel", "mlflow_flavor"))
    assert first.read_text() == second.read_text()
