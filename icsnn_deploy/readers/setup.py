"""Create and test the environments of the readers; an environment that fails is removed."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import numpy as np

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.self_test import three_neurons
from icsnn_deploy.environments.build import lock_folder, run_program
from icsnn_deploy.environments.spec import default_folder, python_of
from icsnn_deploy.environments.stamp import write_stamp
from icsnn_deploy.errors import BackendUnavailableError, IcsnnError
from icsnn_deploy.exporters.nir.write.file import write
from icsnn_deploy.leftovers import temporary_folder
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.readers.environment import (
    ENVIRONMENTS,
    READERS,
    SETUP,
    ReaderEnvironment,
    find_environment,
    pins,
)
from icsnn_deploy.readers.launch import Request, run_requests

# What the readers import to read a file, in addition to torch and NumPy. Their other requirements
# (torchaudio, torchvision, tensorboard, samna, ...) are for data sets, plots and chips.
_DEPENDENCIES = {"readers": ("loguru", "matplotlib", "tqdm"), "sinabs": ("matplotlib", "pbr")}
_REMEDIES = (
    ("No space left on device", "Free 50 MB, or choose another folder with ICSNN_READERS"),
    (
        "require a different python version",
        "SpikingJelly 2.0.0 needs Python 3.11: install icsnn-deploy there",
    ),
    ("No matching distribution", "Check the network, and which index pip asks"),
    ("Connection", "Check the network, and which index pip asks"),
)


def set_up(name: str, progress: Progress = silent) -> ReaderEnvironment:
    """Create one of the environments; if it exists, test it.

    Args:
        name: a name of ENVIRONMENTS.
        progress: called at each stage.

    Raises:
        BackendUnavailableError: the folder holds other files, or pip or the self-test fails; the
            unfinished environment is removed, other files are not.
    """
    try:
        ready = find_environment(name)
    except BackendUnavailableError:
        pass
    else:
        check(name, ready)
        return ready
    spec = ENVIRONMENTS[name]
    folder = default_folder(spec)
    with lock_folder(spec, folder) as lock:
        _build(name, folder, lock, progress)
    return find_environment(name)


def check(name: str, environment: ReaderEnvironment) -> None:
    """Run the self-test in an existing environment.

    Raises:
        BackendUnavailableError: it fails; names what to do.
    """
    try:
        self_test(name, environment.python)
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            f"{environment.folder}: exists but fails its self-test; remove it and run: {SETUP}\n"
            f"{error}"
        ) from error


def self_test(name: str, python: Path) -> None:
    """Run three neurons in every reader of an environment.

    Raises:
        BackendUnavailableError: a reader fails, hangs, or gives wrong spikes.
    """
    network, inputs = three_neurons("direct"), np.ones((2, 1), np.int8)
    expected = ReferenceSimulator(network).run(inputs).spikes["population"]
    with temporary_folder("selftest") as folder:
        file = folder / "network.nir"
        write(network, file, "portable")
        requests = [Request(reader=r, file=file, inputs=inputs) for r in READERS[name]]
        try:
            recordings = run_requests(python, requests)
        except IcsnnError as error:
            raise BackendUnavailableError(f"self-test: {error}") from error
    for recording in recordings:
        if (recording.spikes["population"] != expected).any():
            raise BackendUnavailableError(f"self-test: {recording.backend} gives wrong spikes")


def _build(name: str, folder: Path, lock: int, progress: Progress) -> None:
    """Create the virtual environment, install and test the readers, write the stamp."""
    spec, python = ENVIRONMENTS[name], python_of(folder)
    progress(f"{spec.title}: virtual environment", 0, 1)
    run_program(spec, [sys.executable, "-I", "-m", "venv", str(folder)], lock, _REMEDIES)
    _share(folder)
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    exact = [f"{package}=={version}" for package, version in pins(name).items()]
    for done, arguments in enumerate((_DEPENDENCIES[name], ("--no-deps", *exact))):
        progress(f"{spec.title}: packages", done, 2)
        run_program(spec, [*install, *arguments], lock, _REMEDIES)
    progress(f"{spec.title}: self-test", 0, 1)
    self_test(name, python)  # each reader's module checks that its versions are the pinned ones
    write_stamp(spec, folder, pins(name))


def _share(folder: Path) -> None:
    """Add the running environment's packages to the end of the new one's search path."""
    paths = sysconfig.get_paths()
    shared = dict.fromkeys((paths["purelib"], paths["platlib"]))
    own = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    lines = [f"import site; site.addsitedir({path!r})\n" for path in shared]
    (own / "icsnn-shared.pth").write_text("".join(lines))
