#!/usr/bin/env bash
# Builds the engine: pjproject and the native classes of this folder, as a wheel named pjsua2.
#
#   build.sh [--python PYTHON] [--print-key]
#
# The last line on stdout is the path of the wheel. Progress goes to stderr, compiler output to a log in the cache.
# What was built from the same inputs before is taken from the cache, without the network.
#
#   PJPROJECT_SRC=dir     use this pjproject source tree (2.17 or newer) instead of downloading Debian's
#   SIP_AGENT_CACHE=dir   cache folder; default ${XDG_CACHE_HOME:-~/.cache}/sip-agent
set -euo pipefail

readonly MIN_VERSION=2.17
readonly LOCAL_VERSION=sipagent.1
readonly WRAPPER_INPUTS=(pjsua2_ext.i ring.hpp playout.hpp pj_calls.hpp frame_port.hpp bridge_clock.hpp waker.hpp
  invite_gate.hpp message_tap.hpp fitted_buffers.hpp make_wheel.py
  faults.i impairment.hpp courier.hpp line.hpp noise_source.hpp vanisher.hpp)
readonly CONFIGURE_FLAGS=(--disable-shared --disable-sound --disable-video --enable-epoll --with-external-srtp
  --with-external-speex --enable-speex-resample --disable-speex-codec --disable-speex-aec --disable-gsm-codec
  --disable-ilbc-codec --disable-g7221-codec --disable-l16-codec --disable-libwebrtc --disable-libyuv --disable-v4l2
  --disable-upnp --disable-sdl --disable-ffmpeg --disable-openh264 --disable-vpx --disable-opencore-amr --disable-silk
  --disable-bcg729 --disable-lyra)
readonly LIBRARIES=(-lsrtp2 -lopus -lspeexdsp -lssl -lcrypto -luuid -lm)
# What must be there to build, and the Debian package that brings it: a command, or a header.
readonly NEEDED=("gcc:gcc" "g++:g++" "make:make" "swig:swig" "xz:xz-utils" "openssl/ssl.h:libssl-dev"
  "opus/opus.h:libopus-dev" "srtp2/srtp.h:libsrtp2-dev" "speex/speex.h:libspeex-dev"
  "speex/speex_resampler.h:libspeexdsp-dev" "uuid/uuid.h:uuid-dev")

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SIP_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sip-agent}/pjsua2
log=$cache/build.log
python=python3
print_key=false
while (($#)); do
  case $1 in
    --python) python=${2:?--python needs an argument}; shift 2 ;;
    --print-key) print_key=true; shift ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "build.sh: unknown argument $1" >&2; exit 2 ;;
  esac
done

say() { echo "pjsua2: $*" >&2; }
die() { say "$*"; exit 1; }
digest() { sha256sum | cut -c1-16; }

fail() {
  tail -n 30 "$log" >&2
  die "$* (full log: $log)"
}

# Runs a command with its output in the log; on failure shows where it broke.
logged() { "$@" >>"$log" 2>&1 || fail "failed: $1"; }

newest_tarball() { find "$cache/source" -name 'pjproject-*.tar.*' 2>/dev/null | sort -V | tail -n 1; }

# A name for the exact source: changes when the source does.
source_identity() {
  if [[ -n ${PJPROJECT_SRC:-} ]]; then
    find "$PJPROJECT_SRC" -name .git -prune -o -type f -printf '%P %s %T@\n' | LC_ALL=C sort | digest
  else
    basename "$(newest_tarball)"  # carries the version and the digest of its content
  fi
}

# Debian's asterisk source package carries pjproject as a component of its own. apt checks it against the archive key.
# This system's own package lists and settings stay untouched.
download_source() {
  local work=$1 uri suites sources=$1/debian.sources keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  local codename tarball="" version
  command -v apt-get >/dev/null || die "no apt-get here: get pjproject $MIN_VERSION or newer and set PJPROJECT_SRC"
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/get"
  local options=(-q -o "Dir::Etc::sourcelist=$sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none)
  while read -r uri suites; do
    [[ " $suites " == *" $codename "* ]] || continue  # not the security archive, not a third party's
    printf 'Types: deb-src\nURIs: %s\nSuites: sid\nComponents: main\n' "$uri" >"$sources"
    [[ ! -f $keyring ]] || echo "Signed-By: $keyring" >>"$sources"
    say "downloading the pjproject source through apt…"
    (cd "$work/get" && apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only asterisk) \
      >>"$log" 2>&1 || continue
    tarball=$(find "$work/get" -name '*pjproject*.tar.*' | head -n 1)
    [[ -z $tarball ]] || break
  done < <(apt_sources)
  [[ -n $tarball ]] || fail "apt has no pjproject source here: get pjproject $MIN_VERSION or newer and set PJPROJECT_SRC"
  version=$(tar -xOf "$tarball" --wildcards '*/version.mak' | version_of /dev/stdin)
  mkdir -p "$cache/source"
  mv "$tarball" "$cache/source/pjproject-$version-$(digest <"$tarball").tar.${tarball##*.}"
}

# "URI suite suite…" of every package archive this system uses, from both formats that apt reads.
apt_sources() {
  local files=(/etc/apt/sources.list.d/*.sources)
  [[ ! -e ${files[0]} ]] || awk '
    function flush() { if (uris != "") print uris, suites; uris = suites = "" }
    /^[ \t]*$/ { flush() } FNR == 1 { flush() }
    tolower($1) == "uris:" { uris = $2 }
    tolower($1) == "suites:" { $1 = ""; suites = $0 }
    END { flush() }' "${files[@]}"
  files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list)
  sed -n 's/^deb\(-src\)\{0,1\} \(\[[^]]*\] \)\{0,1\}\([^ ]*\) \([^ ]*\) .*main.*/\3 \4/p' "${files[@]}" 2>/dev/null || true
}

version_of() {
  awk '$2 ~ /^PJ_VERSION_(MAJOR|MINOR|REV)$/ && $4 != "" { printf "%s%s", dot, $4; dot = "." } END { print "" }' "$1"
}

ensure_packages() {
  local entry name missing=() install as_root=()
  for entry in "${NEEDED[@]}"; do
    name=${entry%%:*}
    case $name in
      *.h) echo "#include <$name>" | gcc -E -xc - >/dev/null 2>&1 || missing+=("${entry#*:}") ;;
      *) command -v "$name" >/dev/null || missing+=("${entry#*:}") ;;
    esac
  done
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || as_root=(sudo)
  install=("${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}")
  if command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }; then
    say "installing ${missing[*]}…"
    "${install[@]}" >>"$log" 2>&1 && return 0
    "${as_root[@]}" apt-get update >>"$log" 2>&1 && "${install[@]}" >>"$log" 2>&1 && return 0
    tail -n 30 "$log" >&2
  fi
  say "the build needs packages that are not installed. Type:"
  echo "    ${install[*]}" >&2
  exit 3
}

# What has to differ in the source itself; a newer source that has no such line needs no such change.
# edit FILE WHAT SED…: says so where the source is not the one that the change was made for.
edit() {
  local file=$1 what=$2 before
  shift 2
  before=$(cksum <"$file")
  sed -i "$@" "$file"
  [[ $(cksum <"$file") != "$before" ]] || say "this source of pjproject differs, so this was not changed: $what (${file##*/})"
}

mend() {
  local udp=$1/pjmedia/src/pjmedia/transport_udp.c
  # Debian leaves out this non-free sound driver, but not its line in the Makefile.
  [[ -e $1/pjmedia/src/pjmedia-audiodev/bdimad_dev.c ]] || sed -i 's/ bdimad_dev\.o//' "$1/pjmedia/build/Makefile"
  # Unpacking an Opus packet writes up to a byte for each of its 48 frames past its end (mended upstream after 2.17).
  edit "$udp" "room behind Opus packets" \
    -e 's/rtp_pkt\[RTP_LEN\]/rtp_pkt[RTP_LEN + 64]/' -e 's/sizeof(\(udp\|tp\)->rtp_pkt)/RTP_LEN/'
  # After a packet wait for the next one to be announced: trying at once is a system call that finds none.
  edit "$udp" "no read that finds nothing" 's/\(udp->rtp_pkt, &bytes_read, \)0,/\1PJ_IOQUEUE_ALWAYS_ASYNC,/'
  # A packet that was sent at once leaves its buffer to the next one, which finds it warm in the cache.
  edit "$udp" "one buffer for what is sent" 's/^    udp->rtp_write_op_id = (/    if (pw->is_pending) &/'
  # A socket stays in epoll's set while its packets are handled, and leaves it only when an event finds that nobody reads:
  # two system calls less per packet.
  edit "$1/pjlib/src/pj/ioqueue_common_abs.c" "sockets stay in epoll's set" \
    -e '/Clear fdset if there is no pending read\./,+2d' -e '/^static pj_bool_t ioqueue_dispatch_read_event(/,/^}/ {
    /able to process the event\./,/return PJ_FALSE/ s/pj_ioqueue_unlock_key(h);/ioqueue_remove_from_set(ioqueue, h, READABLE_EVENT);\n        &/
    }'
  edit "$1/pjlib/src/pj/ioqueue_epoll.c" "an event without a reader leaves epoll's set" \
    '/events & EPOLLIN) && *$/ { N; s/&& *\n *(key_has_pending_read(h) || key_has_pending_accept(h)) && !/\&\& !/ }'
  # What the media thread leaves for the SIP thread (digits) ends its wait, through the Waker.
  edit "$1/pjsip/src/pjsua2/endpoint.cpp" "digits wake the SIP thread" \
    -e 's/^using namespace pj;/&\nextern "C" { void (*sip_agent_on_pending_job)(void); }/' \
    -e '/^ *pendingJobSize++;/,/^}/ s/pj_leave_critical_section();/&\n    if (sip_agent_on_pending_job) sip_agent_on_pending_job();/'
  # After a packet the thread of the media sockets leaves the next ones for 2 ms, to take them all at once.
  edit "$1/pjmedia/src/pjmedia/endpoint.c" "packets are taken together" \
    's/^\( *\)pj_ioqueue_poll(endpt->ioqueue, &timeout);/\1int events = pj_ioqueue_poll(endpt->ioqueue, \&timeout);\
\1if (events > 0 \&\& events < PJ_IOQUEUE_MAX_EVENTS_IN_SINGLE_POLL) pj_thread_sleep(2);/'
}

# Compiles pjproject's static libraries and keeps what the wrapper needs: headers, libraries, SWIG files.
build_libraries() {
  local target=$1 work=$2 tree=$2/tree archive folder version
  mkdir -p "$tree"
  if [[ -n ${PJPROJECT_SRC:-} ]]; then
    tar -C "$PJPROJECT_SRC" --exclude=.git -cf - . | tar -C "$tree" -xf -
  else
    archive=$(newest_tarball)
    tar -C "$tree" --strip-components=1 -xf "$archive"
  fi
  version=$(version_of "$tree/version.mak")
  printf '%s\n' "$MIN_VERSION" "$version" | sort -V -C || die "pjproject $version is too old, $MIN_VERSION is needed"
  cp "$here/config_site.h" "$tree/pjlib/include/pj/config_site.h"
  mend "$tree"
  say "compiling pjproject $version (about a minute)…"
  export CFLAGS="-O3 -fPIC -DNDEBUG" CXXFLAGS="-O2 -fPIC -DNDEBUG"
  (cd "$tree" && logged ./configure "${CONFIGURE_FLAGS[@]}" && logged make -j"$(nproc)" lib)
  mkdir "$work/kept" "$work/kept/lib"
  for folder in pjlib pjlib-util pjnath pjmedia pjsip; do
    mkdir -p "$work/kept/$folder"
    mv "$tree/$folder/include" "$work/kept/$folder/"
    mv "$tree/$folder"/lib/*.a "$work/kept/lib/"
  done
  mv "$tree/pjsip-apps/src/swig" "$tree/version.mak" "$work/kept/"
  publish "$work/kept" "$target"
}

build_wheel() {
  local target=$1 work=$2 libraries=$3 version suffix include folder includes=()
  mkdir -p "$work/out"
  version=$(version_of "$libraries/version.mak")+$LOCAL_VERSION
  for folder in pjlib pjlib-util pjnath pjmedia pjsip; do includes+=("-I$libraries/$folder/include"); done
  suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
  include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  if [[ ! -f $include/Python.h ]]; then
    say "$python has no headers ($include/Python.h). Type:"
    echo "    sudo apt-get install -y python3-dev" >&2
    exit 3
  fi
  say "compiling the Python module for $("$python" -V) (about a minute)…"
  logged swig "${includes[@]}" "-I$here" "-I$libraries/swig" -c++ -w312 -threads -python -outdir "$work" \
    -o "$work/wrap.cpp" "$here/pjsua2_ext.i"
  # -O1: the wrapper is glue, and takes half the time to compile. But samples are copied in loops.
  logged g++ -std=c++17 -O1 -ftree-vectorize -fPIC -DNDEBUG -DPJ_AUTOCONF=1 -fvisibility=hidden "-I$here" "-I$include" \
    "${includes[@]}" -c "$work/wrap.cpp" -o "$work/wrap.o"
  # --exclude-libs: PyPI's pjsua2 may be loaded beside this one; neither may see the other's pjlib.
  logged g++ -shared -s "$work/wrap.o" -o "$work/_pjsua2_native$suffix" -Wl,--as-needed -Wl,--exclude-libs,ALL \
    -Wl,--start-group "$libraries"/lib/*.a -Wl,--end-group "${LIBRARIES[@]}"
  logged "$python" "$here/make_wheel.py" "$version" "$work/pjsua2_native.py" "$work/_pjsua2_native$suffix" \
    "$work/out"
  publish "$work/out" "$target"
}

# Nobody ever sees half a result: it appears under its final name in one step.
publish() {
  rm -rf "$2.new" "$2"
  cp -r "$1" "$2.new"
  mv "$2.new" "$2"
}

find_wheel() { find "$cache/$key" -name '*.whl' 2>/dev/null | head -n 1; }

compute_keys() {
  local machine
  machine=$(uname -m)
  library_key=$({ cat "$here/config_site.h"; declare -f mend build_libraries
    echo "${CONFIGURE_FLAGS[*]} $machine $(source_identity)"; } | digest)
  key=$({ (cd "$here" && cat "${WRAPPER_INPUTS[@]}"); declare -f build_wheel
    echo "$LOCAL_VERSION ${LIBRARIES[*]}"
    "$python" -c 'import sys, sysconfig; print(sys.version_info[:2], sysconfig.get_config_var("SOABI"))'
    echo "$library_key"; } | digest)
}

main() {
  command -v "$python" >/dev/null || die "no such Python: $python"
  [[ -z ${PJPROJECT_SRC:-} || -f $PJPROJECT_SRC/pjlib/include/pjlib.h ]] || die "no pjproject in $PJPROJECT_SRC"
  mkdir -p "$cache"
  library_key="" key="" workspace=""
  if [[ -n ${PJPROJECT_SRC:-} || -n $(newest_tarball) ]]; then
    compute_keys
    if $print_key; then echo "$key"; exit 0; fi
    if [[ -n $(find_wheel) ]]; then find_wheel; exit 0; fi
  fi

  exec 9>"$cache/lock"
  flock -n 9 || { say "another build is running, waiting for it…"; flock 9; }
  : >"$log"
  workspace=$(mktemp -d "${TMPDIR:-/tmp}/pjsua2-build.XXXXXX")
  trap 'rm -rf "$workspace"' EXIT
  mkdir "$workspace/apt" "$workspace/libraries" "$workspace/wheel"
  [[ -n ${PJPROJECT_SRC:-} || -n $(newest_tarball) ]] || download_source "$workspace/apt"
  compute_keys
  if $print_key; then echo "$key"; exit 0; fi
  if [[ -z $(find_wheel) ]]; then
    ensure_packages
    [[ -d $cache/libraries-$library_key ]] || build_libraries "$cache/libraries-$library_key" "$workspace/libraries"
    build_wheel "$cache/$key" "$workspace/wheel" "$cache/libraries-$library_key"
  fi
  find_wheel
}

main
