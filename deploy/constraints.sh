#!/usr/bin/env bash
# Writes constraints.txt: the newest releases that pyproject.toml allows, resolved in a fresh environment of
# Python 3.11. The same versions serve 3.12 and 3.13.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3.11}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
  || { echo "constraints.txt is made with Python 3.11: name one by PYTHON=" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work"
pip=("$work/bin/python" -m pip --quiet --disable-pip-version-check --no-input)
echo "Resolving…" >&2
"${pip[@]}" install --upgrade pip hatchling editables setuptools wheel
# Not Agora's SDK: to install it is to download a native library, without a check of the server's certificate.
extras=$("$python" -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    extras = tomllib.load(file)["project"].get("optional-dependencies", {})
print(*(name for name in extras if name != "agora"), sep=",")')
"${pip[@]}" install --no-build-isolation "$PWD${extras:+[$extras]}" --group dev
{
  echo "# Every Python package of the set-up, pinned. Made by 'make constraints'; pyproject.toml has the lower bounds."
  "${pip[@]}" freeze --all --exclude sip-agent
} >"$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
echo "constraints.txt: $(grep -c == constraints.txt) packages" >&2
