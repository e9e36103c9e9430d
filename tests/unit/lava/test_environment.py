"""Lava's environment: where it is, when it is ready, how it is made, and that Lava runs in it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from icsnn_deploy.cli import app
from icsnn_deploy.environments.spec import default_folder
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava import environment, interpreters, worker_process
from icsnn_deploy.lava.environment import LAVA, find_worker
from icsnn_deploy.lava.interpreters import find_interpreter
from icsnn_deploy.lava.setup import self_test, set_up
from icsnn_deploy.lava.worker_process import run_in_worker

pytestmark = pytest.mark.slow

VERSIONS = {"python": "3.10.9", "lava-nc": "0.10.0", "numpy": "1.26.4"}

FAKE_PYTHON = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
*"-m venv"*) for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
*"-m pip"*) n=0
  while test -e "{pip_waits}" -a $n -lt 200; do sleep 0.05; n=$((n + 1)); done
  test ! -e "{pip_fails}" || {{ cat "{pip_fails}"; exit 1; }} ;;
*selftest*) test ! -e "{test_fails}" || {{ echo "two neurons are silent" >&2; exit 1; }}
  echo '{{"python": "{version}.9", "lava-nc": "0.10.0", "numpy": "1.26.4"}}' ;;
*) echo {numbers} ;;
esac
"""


def fake_python(folder: Path, version: str = "3.10") -> Path:
    """A Python that notes what it is asked in `asked`, and fails or waits where a file says so."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"python{version}"
    path.write_text(
        FAKE_PYTHON.format(
            log=folder / "asked",
            pip_waits=folder / "pip-waits",
            pip_fails=folder / "pip-fails",
            test_fails=folder / "test-fails",
            version=version,
            numbers=version.replace(".", " "),
        )
    )
    path.chmod(0o755)
    return path


def asked(python: Path) -> list[str]:
    """What was asked of a fake Python, the question for its version left out."""
    lines = (python.parent / "asked").read_text().splitlines()
    return [line for line in lines if " -c " not in line]


def write_stamp(folder: Path, content: str) -> None:
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin" / "python").touch()
    (folder / LAVA.stamp).write_text(content)


# Where it is


@pytest.fixture
def no_named_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICSNN_LAVA", raising=False)


def test_the_folder_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ICSNN_LAVA", str(tmp_path / "named"))
    assert default_folder(LAVA) == tmp_path / "named"


@pytest.mark.usefixtures("no_named_folder")
def test_the_folder_beside_the_active_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/somewhere/.venv")
    assert default_folder(LAVA) == Path("/somewhere/.venv-lava")


@pytest.mark.usefixtures("no_named_folder")
def test_the_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder(LAVA) == tmp_path / "icsnn-deploy" / "venv-lava"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder(LAVA) == tmp_path / ".local" / "share" / "icsnn-deploy" / "venv-lava"


@pytest.mark.usefixtures("no_named_folder")
def test_the_running_environment_where_it_holds_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    info = namedtuple("info", "major minor micro")
    monkeypatch.setattr(sys, "version_info", info(3, 10, 9))
    monkeypatch.setattr(metadata, "version", VERSIONS.__getitem__)
    assert find_worker().python == Path(sys.executable)
    monkeypatch.setattr(sys, "version_info", info(3, 11, 0))
    assert environment.own_environment() is None


# When it is ready


def test_a_missing_one_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="run: icsnn lava setup --at"):
        find_worker(tmp_path / "none")


def test_a_stamp_is_enough(tmp_path: Path) -> None:
    write_stamp(tmp_path, json.dumps({**VERSIONS, "more": 1}))
    found = find_worker(tmp_path)  # its Python is an empty file: nothing is started
    assert found.versions == VERSIONS
    assert found.python == tmp_path / "bin" / "python"
    assert not found.is_shimmed


@pytest.mark.parametrize(
    "stamp",
    ["", "{}", "[1]", "[" * 5000, '{"python": 3}', json.dumps({**VERSIONS, "lava-nc": "0.9.0"})],
)
def test_a_stamp_that_says_something_else(tmp_path: Path, stamp: str) -> None:
    write_stamp(tmp_path, stamp)
    with pytest.raises(BackendUnavailableError, match=f"{LAVA.stamp}: .*icsnn lava setup"):
        find_worker(tmp_path)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendUnavailableError, match="file: not a folder; choose another"):
        find_worker(tmp_path / "file")


def test_a_stamp_without_its_python(tmp_path: Path) -> None:
    write_stamp(tmp_path, json.dumps(VERSIONS))
    (tmp_path / "bin" / "python").unlink()
    with pytest.raises(BackendUnavailableError, match="does not exist"):
        find_worker(tmp_path)


# Which Python makes it


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any Python: PATH is `bin`, pyenv's folder is `pyenv`, under its path."""
    monkeypatch.setattr(interpreters, "sys", namedtuple("sys", "version_info")((3, 14, 0)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(shutil, "which", lambda name: _in(tmp_path / "bin", name))
    return tmp_path


def _in(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


def test_the_version_that_lava_was_made_for_is_preferred(machine: Path) -> None:
    fake_python(machine / "bin", "3.11")
    wanted = fake_python(machine / "pyenv" / "versions" / "3.10.13" / "bin", "3.10")
    found = find_interpreter()
    assert (found.path, found.version, found.name) == (wanted, (3, 10), "3.10")
    assert find_interpreter("3.11").path == machine / "bin" / "python3.11"


def test_a_name_on_path_that_does_not_run_is_passed_over(machine: Path) -> None:
    broken = fake_python(machine / "bin", "3.10")
    broken.write_text("#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2; exit 127\n")
    good = fake_python(machine / "bin", "3.12")
    assert find_interpreter().path == good
    good.unlink()
    with pytest.raises(BackendUnavailableError, match=r"pyenv: python3\.10: command not found"):
        find_interpreter()


def test_no_python_at_all_says_how_to_get_one(machine: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"3\.10 or 3\.11 or 3\.12.*pyenv install"):
        find_interpreter()


def test_later_pythons_are_refused_with_the_reason(machine: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"Python 3\.13: lava-nc supports 3\.10"):
        find_interpreter("3.13")
    with pytest.raises(BackendUnavailableError, match=r"Python 3\.13: lava-nc supports 3\.10"):
        find_interpreter(str(fake_python(machine / "bin", "3.13")))
    with pytest.raises(BackendUnavailableError, match=r"can't be started.*pass --python 3\.10"):
        find_interpreter(str(machine / "nothing"))


# How it is made


def test_it_is_made_once_and_left_alone(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin")
    made = set_up(tmp_path / "env", str(python))
    assert made.versions == VERSIONS
    steps = asked(python)
    last_words = [step.split()[-1] for step in steps]
    assert last_words == [str(tmp_path / "env"), "lava-nc==0.10.0", "icsnn_lava.selftest"]
    assert set_up(tmp_path / "env") == set_up(tmp_path / "env", str(python)) == made
    assert asked(python) == [*steps, "-m icsnn_lava.selftest", "-m icsnn_lava.selftest"]


def test_one_that_no_longer_runs_is_left_and_told(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin")
    folder = tmp_path / "env"
    set_up(folder, str(python))
    (tmp_path / "bin" / "test-fails").touch()
    with pytest.raises(
        BackendUnavailableError, match=f"remove it and run: icsnn lava setup --at {folder}"
    ):
        set_up(folder)
    result = CliRunner().invoke(app, ["lava", "status", "--at", str(folder)])
    assert result.exit_code == 2
    assert "two neurons are silent" in result.stderr
    assert find_worker(folder).versions == VERSIONS


def test_later_pythons_get_its_dependencies_by_name(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin", "3.12")
    assert set_up(tmp_path / "env", str(python)).is_shimmed
    installs = [step for step in asked(python) if "install" in step]
    assert "numpy<2.4" in installs[0]
    assert installs[1].endswith("--ignore-requires-python --no-deps lava-nc==0.10.0")


def test_another_version_is_made_anew(tmp_path: Path) -> None:
    old = fake_python(tmp_path / "old", "3.11")
    set_up(tmp_path / "env", str(old))
    new = fake_python(tmp_path / "new", "3.10")
    assert set_up(tmp_path / "env", str(new)).versions["python"] == "3.10.9"


def test_a_half_made_one_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "half").touch()
    (folder / LAVA.unfinished).touch()
    set_up(folder, str(fake_python(tmp_path / "bin")))
    assert sorted(path.name for path in folder.iterdir()) == ["bin", LAVA.stamp]


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1").write_text("all of it")
    python = fake_python(tmp_path / "bin")
    with pytest.raises(BackendUnavailableError, match="was not created by icsnn lava setup"):
        set_up(folder, str(python))
    assert [path.name for path in folder.iterdir()] == ["chapter1"]
    with pytest.raises(BackendUnavailableError, match="not a folder; choose another with --at"):
        set_up(folder / "chapter1", str(python))


@pytest.mark.parametrize(
    ("printed", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", "Free 400 MB"),
        ("Failed to establish a new connection: Connection refused", "Check the network"),
        ("something else", "See its output below"),
    ],
)
def test_pips_failure_is_one_error(tmp_path: Path, printed: str, remedy: str) -> None:
    python = fake_python(tmp_path / "bin")
    (tmp_path / "bin" / "pip-fails").write_text("a line before\n" * 50 + printed)
    with pytest.raises(BackendUnavailableError) as caught:
        set_up(tmp_path / "env", str(python))
    message = str(caught.value)
    assert remedy in message
    assert message.endswith(f"| {printed}")
    assert len(message.splitlines()) < 12
    assert not (tmp_path / "env").exists()


def test_a_failing_self_test_makes_no_environment(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin")
    (tmp_path / "bin" / "test-fails").touch()
    with pytest.raises(BackendUnavailableError, match="two neurons are silent"):
        set_up(tmp_path / "env", str(python))
    assert not (tmp_path / "env").exists()


def test_two_do_not_make_it_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    folder.mkdir()
    with (folder / LAVA.unfinished).open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        with pytest.raises(BackendUnavailableError, match="another process"):
            set_up(folder, str(fake_python(tmp_path / "bin")))
    assert (folder / LAVA.unfinished).exists()


def test_a_pip_that_outlives_its_set_up_keeps_the_folder(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin")
    waits = python.parent / "pip-waits"
    waits.touch()
    code = "import sys; from icsnn_deploy.cli import main; sys.argv[0] = 'icsnn'; main()"
    arguments = ["lava", "setup", "--python", str(python), "--at", str(tmp_path / "env")]
    first = subprocess.Popen([sys.executable, "-c", code, *arguments])
    log = python.parent / "asked"
    while not (log.exists() and "-m pip" in log.read_text()):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    with pytest.raises(BackendUnavailableError, match="another process"):
        set_up(tmp_path / "env", str(python))
    waits.unlink()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert set_up(tmp_path / "env", str(python)).versions == VERSIONS
            return
        except BackendUnavailableError:  # it has not ended yet
            time.sleep(0.05)
    pytest.fail("the folder stays locked")


# How a program runs in it


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of the worker's package."""
    monkeypatch.setattr(worker_process, "WORKER", tmp_path)
    return tmp_path


def test_what_a_program_prints_comes_back(programs: Path) -> None:
    (programs / "good.py").write_text("import sys; print('done', *sys.argv[1:])")
    printed = run_in_worker(Path(sys.executable), "good", "a", "b", timeout_s=60)
    assert printed == "done a b\n"


def test_a_failing_program_shows_the_end_of_its_log(programs: Path) -> None:
    (programs / "bad.py").write_text("print('line\\n' * 999)\nraise ValueError('reason')")
    with pytest.raises(BackendUnavailableError, match="exit code 1") as caught:
        run_in_worker(Path(sys.executable), "bad", timeout_s=60)
    assert str(caught.value).endswith("| ValueError: reason")


def test_a_hanging_program_is_ended_with_its_children(programs: Path) -> None:
    (programs / "hang.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('child', child.pid, file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(BackendUnavailableError, match="hang hangs: ended after 2 s") as caught:
        run_in_worker(Path(sys.executable), "hang", timeout_s=2)
    assert_ends(int(str(caught.value).split()[-1]))


def test_children_that_are_left_behind_are_ended(programs: Path) -> None:
    (programs / "leave.py").write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid)\n"
        "child.returncode = 0\n"
    )
    assert_ends(int(run_in_worker(Path(sys.executable), "leave", timeout_s=60)))


def assert_ends(pid: int) -> None:
    """The process is gone, or dead and waits for its parent, soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        )
        if state.stdout.strip()[:1] in ("", "Z"):
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail(f"process {pid} was left behind")


# Lava itself


def test_two_neurons_run_in_lava() -> None:
    worker = find_worker()
    assert self_test(worker.python) == worker.versions
    assert worker.versions["lava-nc"] == "0.10.0"


def test_the_shim_changes_reshaping_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """ReshapePort gives no warning, which NumPy has from 2.1 on where it is not patched."""
    monkeypatch.setenv("PYTHONPATH", str(worker_process.WORKER))
    code = (
        "from icsnn_lava import shim; shim.apply()\n"
        "import warnings; warnings.simplefilter('error')\n"
        "import numpy as np\n"
        "from lava.magma.core.process.ports.ports import ReshapePort\n"
        "port = ReshapePort(new_shape=(2, 3), old_shape=(6,))\n"
        "values = port.get_transform_func_fwd()(np.arange(6))\n"
        "assert values.tolist() == [[0, 1, 2], [3, 4, 5]]\n"
        "assert port.get_transform_func_bwd()(values).tolist() == list(range(6))\n"
    )
    subprocess.run([find_worker().python, "-c", code], check=True, timeout=60)


def test_the_commands_tell_what_there_is() -> None:
    result = CliRunner().invoke(app, ["lava", "status", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    worker = find_worker()
    assert facts == {
        "folder": str(worker.folder),
        "python": str(worker.python),
        "versions": dict(worker.versions),
        "shim": worker.is_shimmed,
        "self_test": "passed",
    }
    assert CliRunner().invoke(app, ["lava", "setup"]).exit_code == 0


def test_the_commands_exit_with_2_and_the_command_to_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["lava", "status", "--at", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "icsnn lava setup" in result.stderr
