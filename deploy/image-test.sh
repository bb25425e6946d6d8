#!/usr/bin/env bash
# Builds the image from nothing but Debian's packages, runs the agent from it, calls it with SIPp and with its own
# caller, and reads the records. Needs root; takes some five minutes; leaves nothing behind but a cached base system.
#
#   SIP_AGENT_CACHE=dir   cache folder; default ${XDG_CACHE_HOME:-~/.cache}/sip-agent
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

((EUID == 0)) || { echo "image-test: debootstrap and buildah need root here: sudo make image-test" >&2; exit 2; }
cache=${SIP_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sip-agent}
# What this machine's own apt needs to reach the archives, the image's needs too.
apt_settings=$(apt-config dump | grep -E '^Acquire::(Check-Valid-Until|https?::Proxy) ' || true)
base=$cache/debian-bookworm-$(sha256sum <<<"$apt_settings" | cut -c1-8).tar
work=$(mktemp -d "${TMPDIR:-/tmp}/sip-agent-image.XXXXXX")
agent_job=""
export BUILDAH_ISOLATION=chroot

buildah() { command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }
say() { echo "==> $*"; }

clean_up() {
  [[ -z $agent_job ]] || kill -TERM "$agent_job" 2>/dev/null || true
  buildah rm --all >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

fail() {
  echo "image-test: $*" >&2
  [[ ! -f $work/agent.log ]] || tail -n 30 "$work/agent.log" >&2
  exit 1
}

# in_image VARIABLE=VALUE… -- COMMAND…
in_image() {
  local variables=()
  while [[ $1 != -- ]]; do variables+=(--env "$1"); shift; done
  buildah run "${variables[@]}" "$container" "$@"
}

free_port() {
  python3 -c 'import socket
peer = socket.socket(type=socket.SOCK_DGRAM)
peer.bind(("127.0.0.1", 0))
print(peer.getsockname()[1])'
}

# answer JSON EXPRESSION: what the expression says of the document, named `it`.
answer() { python3 -c 'import json, sys; it = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "$2"; }

expect() { [[ $2 == "$3" ]] || fail "$1: $3 expected, but it is $2"; echo "    $1: $2"; }

missing=()
for package in buildah debootstrap sip-tester; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  install=(apt-get -y -qq -o DPkg::Lock::Timeout=600 install --no-install-recommends "${missing[@]}")
  "${install[@]}" >"$work/apt.log" 2>&1 || { apt-get -qq update && "${install[@]}"; } >"$work/apt.log" 2>&1 \
    || { tail -n 20 "$work/apt.log" >&2; exit 1; }
fi

if [[ ! -f $base ]]; then
  say "base system"
  mkdir -p "$cache"
  debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" 2>&1 \
    || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
  rm -rf "$work/base"/var/cache/apt/*.bin "$work/base"/var/cache/apt/archives/*.deb "$work/base"/var/lib/apt/lists/* \
    "$work/base"/usr/share/{doc,man,locale,info}/*
  echo "$apt_settings" >"$work/base/etc/apt/apt.conf.d/90this-machine"
  # This machine's own certificate authorities, for networks that have one.
  mkdir -p "$work/base/usr/local/share/ca-certificates"
  cp -r /usr/local/share/ca-certificates/. "$work/base/usr/local/share/ca-certificates/"
  tar -C "$work/base" -cf "$base.new" .
  mv "$base.new" "$base"
  rm -rf "$work/base"
fi
container=$(buildah from scratch)
buildah add --quiet "$container" "$base" / >/dev/null
buildah commit --quiet --rm "$container" sip-agent-base >/dev/null

say "image"
started=$SECONDS
# One layer for each stage: the vfs driver keeps a whole copy of each layer.
buildah bud --layers=false --format docker --build-arg BASE=localhost/sip-agent-base -t sip-agent-test . \
  >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail "the image does not build"; }
echo "    built in $((SECONDS - started)) s"
container=$(buildah from sip-agent-test)
mounted=$(buildah mount "$container")
echo "    $(du -sm "$mounted" | cut -f1) MB, of these the base system $(($(stat -c %s "$base") / 1000000)) MB"
expect "stop signal" "$(buildah inspect --format '{{.Docker.Config.StopSignal}}' --type image sip-agent-test)" SIGTERM
expect "health check" "$(buildah inspect --format '{{.Docker.Config.Healthcheck.Test}}' --type image sip-agent-test)" \
  "[CMD sip-agent ping]"
expect "user" "$(buildah inspect --format '{{.Docker.Config.User}}' --type image sip-agent-test)" sip-agent

say "the agent in the image"
port=$(free_port)
settings=("SIP_AGENT_SIP__UDP_PORT=$port" SIP_AGENT_SIP__TCP_PORT=0 SIP_AGENT_API__BIND=127.0.0.1:0)
# shellcheck disable=SC2016  # $$ is the container's shell's
in_image "${settings[@]}" -- sh -c 'echo $$ >/data/pid; exec sip-agent serve' >"$work/agent.log" 2>&1 &
buildah_job=$!
for _ in {1..60}; do
  in_image "${settings[@]}" -- sip-agent ping --timeout 0.5 >/dev/null 2>&1 && break
  kill -0 "$buildah_job" 2>/dev/null || fail "the agent ended"
done
echo "    health check: $(in_image "${settings[@]}" -- sip-agent ping)" || fail "the agent does not answer"
agent_job=$(cat "$mounted/data/pid" 2>/dev/null || in_image -- cat /data/pid)
expect "runs as" "$(stat -c %u "/proc/$agent_job")" 10001
doctor=$(in_image "${settings[@]}" -- sip-agent doctor --json 2>/dev/null || true)
engine=$(answer "$doctor" '[check["found"].split(",")[0] for check in it["checks"] if check["name"] == "engine"][0]')
expect "engine" "$engine" native

say "a call by SIPp"
sipp -sf tests/deploy/call.xml -m 1 -timeout 20s -timeout_error -i 127.0.0.1 -p "$(free_port)" "127.0.0.1:$port" \
  >"$work/sipp.log" 2>&1 </dev/null || { tail -n 40 "$work/sipp.log" >&2; fail "SIPp's call failed"; }
say "a call by the agent's own caller"
in_image -- sip-agent call "sip:echo@127.0.0.1:$port" -H 'X-Run-Id: 4712' --tone 440 --duration 3 --json \
  >"$work/call.json" || fail "the call failed: $(cat "$work/call.json")"

say "the records"
records=$(in_image "${settings[@]}" -- sip-agent calls list --json)
expect "calls" "$(answer "$records" 'len(it)')" 2
expect "run ids" "$(answer "$records" 'sorted(r["run_id"] for r in it)')" "['4711', '4712']"
expect "outcomes" "$(answer "$records" 'sorted({r["outcome"] for r in it})')" "['answered']"
heard=$(answer "$records" '[r["rtp"]["rx"]["packets"] > 100 for r in it if r["run_id"] == "4712"]')
expect "audio came in" "$heard" "[True]"
expect "recordings" "$(in_image -- sh -c 'find /data/recordings -name "*.wav" | wc -l')" 2

say "the end"
kill -TERM "$agent_job"
agent_job=""
status=0
wait "$buildah_job" || status=$?
expect "exit status after SIGTERM" "$status" 0
say "the image builds and answers calls ($SECONDS s)"
