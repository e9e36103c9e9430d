"""What the demo needs is found before it starts."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from icsnn_deploy.demo import requirements
from icsnn_deploy.errors import BackendUnavailableError


def test_every_missing_package_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(requirements, "find_spec", find)
    message = r"needs scikit-learn, onnxruntime; run: pip install 'icsnn-deploy\[demo,cpu\]'"
    with pytest.raises(BackendUnavailableError, match=message):
        requirements.require_packages()


def test_missing_environments_are_said_with_their_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ICSNN_LAVA", "ICSNN_READERS", "ICSNN_SINABS"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    lava, readers = requirements.missing_environments()
    assert "icsnn lava setup" in lava
    assert "snntorch" in readers
    assert "sinabs" in readers
    assert "icsnn readers setup" in readers
    assert not requirements.lava_is_ready()
