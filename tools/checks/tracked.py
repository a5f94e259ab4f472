"""What the checks share: the files under version control, and how a check reports."""

import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True

CPP = (".h", ".cpp", ".cuh", ".cu")


def root_from_arguments() -> pathlib.Path:
    """`--root DIR` (used by the checks' own tests), or the checkout this script belongs to."""
    if len(sys.argv) == 3 and sys.argv[1] == "--root":
        return pathlib.Path(sys.argv[2]).resolve()
    if len(sys.argv) > 1:
        sys.exit(f"usage: {sys.argv[0]} [--root DIR]")
    return pathlib.Path(__file__).resolve().parents[2]


def tracked(root: pathlib.Path, suffixes: tuple[str, ...] = ()) -> list[pathlib.PurePosixPath]:
    """Tracked files that exist, relative to `root`, in order; those with one of `suffixes`, if any are given."""
    # safe.directory: in CI the checkout may belong to another user than the one who runs the checks.
    listing = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"],
                             check=True, capture_output=True, text=True).stdout
    paths = [pathlib.PurePosixPath(name) for name in listing.split("\0") if name]
    return [p for p in sorted(paths) if (not suffixes or p.suffix in suffixes) and (root / p).is_file()]


def finish(violations: list[str]) -> None:
    """Prints the violations and ends the check with its verdict."""
    for violation in violations:
        print(violation)
    sys.exit(1 if violations else 0)
