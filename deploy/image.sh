#!/usr/bin/env bash
# Builds the container image with whatever builder this machine has: Docker, Podman or buildah.
#
#   image.sh [NAME]       default: IMAGE, or sip-agent
#   BASE=debian:bookworm-slim
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=${1:-${IMAGE:-sip-agent}}
arguments=(-t "$name" ${BASE:+--build-arg "BASE=$BASE"} .)
if docker info >/dev/null 2>&1; then
  exec docker build "${arguments[@]}"
elif command -v podman >/dev/null; then
  # Only Docker's format knows health checks.
  exec podman build --format docker "${arguments[@]}"
elif command -v buildah >/dev/null; then
  exec buildah bud --format docker "${arguments[@]}"
fi
echo "image: no Docker, Podman or buildah here. On Debian: apt-get install -y buildah" >&2
exit 1
