#!/usr/bin/env bash
# The adapter's own tests: makes or reuses an environment with what they need, then runs pytest.
# usage: tools/adapt/test.sh [PYTEST_ARGUMENT...]     such as -k codec
# The environment is ~/.cache/cga/adapt-venv, or $CGA_ADAPT_VENV. Making it downloads PyTorch with its CUDA libraries,
# without which it cannot be imported, CPU or not: 3 GB, 5.5 GB on disk. It is made again when the requirements change.
set -euo pipefail
venv=$(realpath -m "${CGA_ADAPT_VENV:-$HOME/.cache/cga/adapt-venv}")
[[ -n ${CGA_ADAPT_VENV:-} ]] || own=yes
cd "$(dirname "$0")"
pins=../../tests/vectors/requirements.txt

copy="" # of the package, to build it from
trap '[[ -z $copy ]] || rm -rf "$copy"' EXIT

say() { echo "adapt/test.sh: $*" >&2; }
fail() { say "$@"; exit 6; }

wanted() { # what the environment was made for
  cat pyproject.toml "$pins" | sha256sum
}

is_ready() {
  [[ $(cat "$venv/cga-requirements" 2>/dev/null) == "$(wanted)" ]] &&
    "$venv/bin/python" -c 'import pytest, torch' 2>/dev/null
}

make_environment() {
  ../install-packages adapt
  [[ ! -e $venv || -e $venv/pyvenv.cfg || -z $(ls -A "$venv") ]] ||
    fail "$venv holds other files; name an environment, or an empty or new folder, with CGA_ADAPT_VENV"
  say "installing PyTorch and what else the tests need into $venv: a minute or two, 3 GB"
  # Our own is begun anew, so that it never mixes two installations; one that somebody named is only added to.
  python3 -m venv ${own:+--clear} "$venv" || fail "python3 -m venv $venv failed; see above"
  copy=$(mktemp -d)
  cp -r pyproject.toml cga_adapt "$copy" # building a package leaves files beside its sources
  # No cache: it would hold the same gigabytes once more. No byte code: most of PyTorch is never imported.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
    --constraint "$pins" "${copy}[test]" </dev/null >&2 ||
    fail "pip could not install the requirements; check the network, pip's configuration and the space in $venv," \
      "or name an environment that has them (pip install -c tests/vectors/requirements.txt './tools/adapt[test]')" \
      "with CGA_ADAPT_VENV"
  rm -rf "$copy"
  wanted >"$venv/cga-requirements"
}

mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock" # of two runs one installs, the other waits
flock 9
is_ready || make_environment
exec 9>&-
export HF_HUB_OFFLINE=1 # transformers reads what the tests write, and asks nobody
exec "$venv/bin/python" -m pytest -q "$@"
