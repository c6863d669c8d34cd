#!/usr/bin/env bash
# usage: make_env.sh RELEASE DIR
#
# Makes a virtual environment in DIR with LeRobot RELEASE (0.4.4 or 0.6.1) that parses and trains on a CPU, in about a
# minute and 2 GB. $PYTHON makes it, or the first of python3.11, 3.12, 3.13; 0.6.1 runs on 3.11 with shims/ on PYTHONPATH.
#
# LeRobot and torchvision go in without their dependencies: their pins ask for a CUDA torch of several gigabytes.
# The requirements file holds what they import instead. Whatever cannot be installed or imported ends this with an error.
set -euo pipefail

release=${1:?usage: make_env.sh RELEASE DIR}
dir=${2:?usage: make_env.sh RELEASE DIR}
here=$(cd "$(dirname "$0")" && pwd)
requirements="$here/requirements-$release.txt"
[ -f "$requirements" ] || { echo "make_env.sh: no $requirements; releases: 0.4.4, 0.6.1" >&2; exit 2; }

python=${PYTHON:-$(command -v python3.11 || command -v python3.12 || command -v python3.13 || true)}
[ -n "$python" ] || { echo "make_env.sh: needs Python 3.11 or newer; name one in PYTHON" >&2; exit 2; }
"$python" -m venv --clear "$dir"
pip=("$dir/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install torch==2.13.0
"${pip[@]}" install -r "$requirements"
"${pip[@]}" install --no-deps torchvision==0.28.0
"${pip[@]}" install --no-deps --ignore-requires-python "lerobot==$release"

PYTHONPATH="$here/shims" "$dir/bin/python" -c 'import lerobot.scripts.lerobot_train'
echo "LeRobot $release: $dir/bin/python"
