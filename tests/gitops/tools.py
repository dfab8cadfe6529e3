"""
The real Flux and the real Argo CD, built from source like the control plane, and what they need.

Each is one program.  Argo CD acts by the name that it is called by, keeps what it has rendered in
Redis, and reads its sources with git; those two come from the machine.
"""

import shutil
import sys
from pathlib import Path
from typing import Final

from tests.sandbox.build import Recipe, built, say_on_stderr
from tests.sandbox.errors import SandboxError, ToolMissingError
from tests.sandbox.processes import Processes

HERE: Final = Path(__file__).parent

FLUX: Final = Recipe(
    cache="flux",
    what="Flux's kustomize-controller",
    module=HERE / "flux",
    files=("kustomize-controller",),
    minutes=6,
    crds=(
        ("github.com/fluxcd/kustomize-controller", "config/crd/bases/*.yaml"),
        # Only its kinds are wanted; go.mod pins their API, of the same version.
        ("github.com/fluxcd/source-controller@v1.9.0", "config/crd/bases/*.yaml"),
    ),
)
ARGO_CD: Final = Recipe(
    cache="argocd",
    what="Argo CD",
    module=HERE / "argocd",
    files=("cmd",),
    minutes=7,
    crds=(("github.com/argoproj/argo-cd/v3", "manifests/crds/*-crd.yaml"),),
)
NEEDED: Final = {"redis-server": "redis-server", "git": "git"}
"""What Argo CD finds on the machine: programs, and the Debian packages that hold them."""


def see_that_all_is_there() -> None:
    """Raise ToolMissingError that names every missing program, and how to install them."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        packages = " ".join(NEEDED[name] for name in missing)
        raise ToolMissingError(
            f"no {' and no '.join(missing)} on PATH, which Argo CD needs; "
            f"on Debian or Ubuntu: apt-get install {packages}"
        )


def main() -> int:
    """Build both, for a Makefile.  Errors are one line."""
    try:
        see_that_all_is_there()  # First: it would be a pity to hear of it after ten minutes.
        with Processes() as processes:
            for recipe in (FLUX, ARGO_CD):
                built(recipe, processes)
    except SandboxError as error:
        say_on_stderr(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
