"""README.md of a deployment."""

from __future__ import annotations

from collections.abc import Sequence

from icsnn_deploy.deploying.plans import Plan
from icsnn_deploy.deploying.referees import Step
from icsnn_deploy.version import __version__

_PAGE = """# Deployment to {target}

Written by icsnn-deploy {version}. The network and its exports are in `{bundle}`.

## What was done here

| step | outcome |
|---|---|
{steps}

## What to do on your machine

{next_steps}

## What was not proven here

{not_proven}
"""


def readme_text(
    target: str, bundle: str, steps: Sequence[Step], plan: Plan, notes: Sequence[str]
) -> str:
    """The page.

    Args:
        target: its name.
        bundle: the bundle with the exports, relative to the page.
        steps: what was done.
        plan: of the target.
        notes: of the check.
    """
    numbered = (
        f"{number}. {text.replace('{bundle}', bundle)}"
        for number, text in enumerate(plan.next_steps, start=1)
    )
    skipped = [f"{step.name}: {step.outcome}" for step in steps if not step.ran]
    return _PAGE.format(
        target=target,
        version=__version__,
        bundle=bundle,
        steps="\n".join(f"| {step.name} | {_cell(step.outcome)} |" for step in steps),
        next_steps="\n".join(numbered),
        not_proven="\n".join(f"- {text}" for text in (*plan.not_proven, *skipped, *notes)),
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
