"""Prints the platform tag of a wheel with a program in it, such as manylinux_2_34_x86_64: the lowest one whose promises cover
the versioned symbols and the libraries that the program needs. Symbols without a version are not compared.

    python scripts/platform_tag.py PROGRAM --beside FOLDER_OF_TORCH_LIBRARIES
"""

import argparse
import json
import sys
from importlib import resources
from pathlib import Path


class Failure(Exception):
    """What went wrong and what to do about it, in one line."""


def platform_tag(versions: dict[str, set[str]], libraries: set[str], policies: list[dict], machine: str = "x86_64") -> str:
    """Returns the lowest tag of `policies` (auditwheel's list) that allows all of `versions`, as in {"GLIBC": {"2.34"}}, and
    `libraries`, as in {"libc.so.6"}."""
    def glibc(policy: dict) -> tuple[int, ...]:
        return tuple(int(part) for part in policy["name"].split("_")[1:])

    named = sorted((policy for policy in policies if policy["name"].startswith("manylinux_")), key=glibc)
    if not named:
        raise Failure("cannot choose a platform tag: the list of platforms is empty; install auditwheel again")
    for policy in named:
        missing = beyond(versions, libraries, policy, machine)
        if not missing:
            return f"{policy['name']}_{machine}"
    raise Failure(f"cannot choose a platform tag: even {named[-1]['name']} lacks {', '.join(missing)}; build on an older system, "
                  "or take a newer auditwheel")


def beyond(versions: dict[str, set[str]], libraries: set[str], policy: dict, machine: str) -> list[str]:
    """Lists what a program needs and a platform does not promise."""
    promised = policy["symbol_versions"].get(machine, {})
    symbols = [f"{name}_{version}" for name, needed in sorted(versions.items())
               for version in sorted(needed - set(promised.get(name, [])))]
    return symbols + sorted(libraries - set(policy["lib_whitelist"]))


def needs(program: Path, beside: set[str]) -> tuple[dict[str, set[str]], set[str]]:
    """Reads the versions and libraries that a program needs of its system, so not those in `beside`, which come with torch."""
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    versions: dict[str, set[str]] = {}
    libraries: set[str] = set()
    with open(program, "rb") as file:
        for section in ELFFile(file).iter_sections():
            if isinstance(section, DynamicSection):
                libraries |= {tag.needed for tag in section.iter_tags("DT_NEEDED")}
            elif isinstance(section, GNUVerNeedSection):
                symbols = [symbol.name for library, names in section.iter_versions() if library.name not in beside
                           for symbol in names]
                for symbol in symbols:
                    name, _, version = symbol.partition("_")
                    versions.setdefault(name, set()).add(version)
    # The loader comes with glibc; lists of libraries leave it out.
    return versions, {name for name in libraries - beside if not name.startswith("ld-linux")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--beside", type=Path, required=True, help="folder of libraries that the wheel requires")
    args = parser.parse_args()
    policies = json.loads(resources.files("auditwheel.policy").joinpath("manylinux-policy.json").read_text())
    try:
        print(platform_tag(*needs(args.program, {path.name for path in args.beside.iterdir()}), policies))
    except (Failure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
