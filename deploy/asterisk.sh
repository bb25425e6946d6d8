#!/usr/bin/env bash
# Gets Asterisk as a peer of the tests, and prints the program's path.
#
#   asterisk.sh [--got]   --got: only tell, by the exit status, whether it is there
#
# Debian's stable releases carry none, its development branch does: apt fetches it from there into the cache, checked
# against the archive key, and it runs with the C library that came with it. Nothing is installed on this system.
#
#   SIP_AGENT_CACHE=dir   cache folder; default ${XDG_CACHE_HOME:-~/.cache}/sip-agent
set -euo pipefail

readonly home=${SIP_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sip-agent}/asterisk
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die() { echo "asterisk: $*" >&2; exit 1; }

# The archive that this system gets its own packages from, in both formats that apt reads.
archive() {
  local codename
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  # shellcheck disable=SC2016  # apt's own placeholders
  apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 2>/dev/null \
    | awk -v codename="$codename" '$2 == codename && !found { print $1; found = 1 }'
}

if [[ ${1:-} == --got ]]; then
  [[ -x $home/asterisk ]]
  exit
fi
if [[ ! -x $home/asterisk ]]; then
  [[ -f $keyring ]] || die "no Debian here: install Asterisk 20 or newer yourself"
  uri=$(archive)
  [[ -n $uri ]] || die "apt names no archive of this system: run apt-get update first"
  mkdir -p "$home"
  work=$(mktemp -d "$home/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/get" "$work/tree"
  : >"$work/status" # as on a machine without any package: all that Asterisk needs is fetched
  printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: %s\n' "$uri" "$keyring" >"$work/sid.sources"
  options=(-q -o "Dir::Etc::sourcelist=$work/sid.sources" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
    -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3)
  apt-get "${options[@]}" update >&2
  mapfile -t packages < <(apt-get "${options[@]}" --print-uris -y --no-install-recommends install asterisk \
    | sed -n "s/^'[^']*' \(\(lib\|zlib\|asterisk\)[^_]*\)_.*/\1/p" | grep -Ev 'sounds|libperl|libsnmp|libcodec2')
  ((${#packages[@]} > 10)) || die "apt finds no asterisk in $uri sid"
  (cd "$work/get" && apt-get "${options[@]}" download "${packages[@]}") >&2
  for package in "$work"/get/*.deb; do dpkg-deb -x "$package" "$work/tree"; done
  rm -rf "$home/tree"
  mv "$work/tree" "$home/tree"
  loader=$(find "$home/tree" -name 'ld-linux*.so.*' | head -n 1)
  libraries=$(dirname "$(find "$home/tree" -name libasteriskpj.so.2 | head -n 1)")
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
    "$loader" "$libraries" "$home/tree/usr/sbin/asterisk" >"$work/asterisk"
  chmod 755 "$work/asterisk"
  "$work/asterisk" -V >&2 || die "it does not start"
  mv "$work/asterisk" "$home/asterisk"
fi
echo "$home/asterisk"
