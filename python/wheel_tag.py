"""Tags the wheel with the platform that its program runs on; the build backend calls this."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLATFORM = "ROOTGAN_WHEEL_PLATFORM"


class WheelTag(BuildHookInterface):
    """The hook of python/pyproject.toml."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Sets the tag. The program looks for torch beside its package, so both belong into the folder of platform packages."""
        if PLATFORM not in os.environ:
            raise SystemExit("error: cannot build a package without the program; run scripts/package, which builds both")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ[PLATFORM]}"
