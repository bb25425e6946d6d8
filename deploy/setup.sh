#!/usr/bin/env bash
# Sets up this repository: .venv with the pinned Python packages, the SIP engine and, for the tests, the SIP peers.
# What is already in place is left alone: a second run takes a moment.
#
#   setup.sh [run|dev|test]
#
#   run     what the agent needs (the default)
#   dev     that, and the linters and pytest
#   test    that, and the programs that the tests call with
#
#   PYTHON=python3.12     the interpreter; default: the first of python3, python3.12 … that is 3.11 to 3.13
#   ENGINE=native|light   native: fail where it cannot be built; light: do not build it;
#                         default: native, and where it cannot be built, light (4 calls at once, no Opus)
#   APT=no                never install system packages: print the line to type instead
#   RETRY=no              do not try again to build an engine that could not be built before
#   VENV=dir              the virtual environment; default .venv
set -euo pipefail

# What the engine is built with: what deploy/pjsua2/build.sh asks for, got here in one go.
readonly ENGINE_PACKAGES=(gcc g++ make swig xz-utils libssl-dev libopus-dev libsrtp2-dev libspeex-dev libspeexdsp-dev
  uuid-dev)
# What `make test` calls with, and why. Installed by `setup.sh test` alone, with their services left off.
readonly TEST_PACKAGES=(
  sip-tester   # SIPp: scripted calls, concurrency, malformed messages
  baresip-core # an independent softphone: digest, Opus, G.722, SRTP
  kamailio     # an independent registrar and proxy
  openssl      # certificates for the TLS tests
  nftables     # checks the rules that `sip-agent firewall nftables` prints
  postgresql   # the store on PostgreSQL
  shellcheck   # these scripts
  g++          # the engine's rings under sanitizers
  # Asterisk, an independent trunk, is in no stable Debian: deploy/asterisk.sh gets it into the cache
)
readonly TEST_SERVICES=(kamailio postgresql)
readonly service_policy=/usr/sbin/policy-rc.d

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly repository=$PWD
readonly venv=${VENV:-.venv}
readonly stamps=$venv/.setup # what each part was made from
readonly engine_choice=${ENGINE:-auto}
readonly pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
log_folder="" reported=false good_engines=() packages_missing=false
declare -A jobs=() begun=()

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
say() { printf '%s\n' "$*" >&2; }

# die WHAT [NEXT STEP]
die() {
  say "set-up: $1"
  (($# < 2)) || say "        $2"
  exit 1
}

# --- progress: one line for each step, its output in a log -----------------------------------------------------------

announce() {
  $reported || say "Setting up sip-agent with $(version_text) in $venv"
  reported=true
}

# start NAME COMMAND…: runs it in the background, in a process group of its own.
start() {
  local name=$1
  shift
  set -m
  "$@" >"$log_folder/$name.log" 2>&1 </dev/null 9>&- &
  set +m
  jobs[$name]=$!
  begun[$name]=$SECONDS
}

# finish NAME TEXT: shows TEXT and the time until the job ends; returns its status.
finish() {
  local name=$1 text=$2 pid=${jobs[$1]} begin=${begun[$1]} status=0 detail
  announce
  if [[ -t 2 ]]; then
    while kill -0 "$pid" 2>/dev/null; do
      detail=$(sed -n 's/^pjsua2: //p' "$log_folder/$name.log" | tail -n 1)
      printf '\r\033[K  %s… %d s%s' "$text" $((SECONDS - begin)) "${detail:+ ($detail)}" >&2
      sleep 0.3
    done
    printf '\r\033[K' >&2
  fi
  printf '  %s…' "$text" >&2
  wait "$pid" || status=$?
  unset "jobs[$name]"
  if ((status == 0)); then say " $((SECONDS - begin)) s"; else say " failed"; fi
  return "$status"
}

step() {
  local name=$1 text=$2
  shift 2
  start "$name" "$@"
  finish "$name" "$text"
}

# failed NAME: what a step printed, as far as it helps.
failed() { tail -n "${2:-15}" "$log_folder/$1.log" | sed 's/^/    /' >&2; }

stop_jobs() {
  local pid
  for pid in "${jobs[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
  [[ -z $log_folder ]] || rm -rf "$log_folder" || true
}

# --- system packages -------------------------------------------------------------------------------------------------

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }

may_install() {
  [[ ${APT:-} != no ]] && command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }
}

install_line() {
  local sudo=""
  ((EUID == 0)) || sudo="sudo "
  echo "${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends $*"
}

missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
  for package; do grep -qx "installed $package" <<<"$installed" || echo "$package"; done | awk '!seen[$0]++'
}

# apt_install PACKAGE…: no question, no service started; the package lists are fetched only if they have to be.
# Runs in a subshell of its own, whose exit takes the policy back.
apt_install() {
  local options=(-y -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3) try
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install --no-install-recommends "$@")
  if [[ ! -e $service_policy ]]; then
    trap 'as_root rm -f "$service_policy"' EXIT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$service_policy" >/dev/null
    as_root chmod 755 "$service_policy"
  fi
  as_root "${install[@]}" && return 0
  for try in {1..60}; do
    # apt-get waits for dpkg's lock by itself, but not for that of the package lists.
    as_root apt-get -q update 2>&1 | tee /dev/stderr | grep -q 'Could not get lock' || break
    echo "the package lists are locked, waiting ($try)"
    sleep 5
  done
  as_root "${install[@]}"
}

# complete_system LEVEL: the system packages of this level, in one go, or what to type for them.
complete_system() {
  local level=$1 version wanted=() missing service
  version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  if command -v dpkg-query >/dev/null; then
    # Debian's Python leaves out what makes virtual environments, and the headers that the engine is compiled with.
    if "$python" -c 'import sys; sys.exit(sys.base_prefix != "/usr")'; then
      has_ensurepip || wanted+=("$version-venv")
      [[ $engine_choice == light ]] || has_headers || wanted+=("$version-dev")
    fi
    [[ $engine_choice == light ]] || engine_is_done || wanted+=("${ENGINE_PACKAGES[@]}")
    [[ $level != test ]] || wanted+=("${TEST_PACKAGES[@]}")
  elif [[ $level == test ]]; then
    say "  Not a Debian: tests that need SIPp, baresip, Kamailio and the like are left out unless you install them."
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  if ((${#missing[@]})); then
    if may_install && step apt "System packages (${#missing[@]})" apt_install "${missing[@]}"; then
      # The peers are wanted as programs: as services they would take SIP's and PostgreSQL's ports at the next boot.
      for service in "${TEST_SERVICES[@]}"; do
        [[ ! -d /run/systemd/system || " ${missing[*]} " != *" $service "* ]] \
          || as_root systemctl disable --quiet "$service" || true
      done
    else
      [[ ! -f $log_folder/apt.log ]] || failed apt
      say "  Some system packages are missing. To have all that this needs, type this, then the same command again:"
      say "      $(install_line "${missing[@]}")"
      [[ ${CI:-} != true ]] || die "CI needs all of them"
      [[ $level != test ]] || say "  Without them, the tests that need them are left out."
      packages_missing=true
    fi
  fi
  if [[ $level == test && ${APT:-} != no ]] && ! command -v asterisk >/dev/null && ! deploy/asterisk.sh --got; then
    if ! step asterisk "Asterisk, for the tests" deploy/asterisk.sh; then
      failed asterisk
      [[ ${CI:-} != true ]] || die "CI needs it"
      say "  Without it, the tests that call through it fail."
    fi
  fi
  has_ensurepip || die "$python cannot make virtual environments (it has no ensurepip)" \
    "Install the packages above, or choose another: make setup PYTHON=/path/to/python3.12"
}

# --- Python ----------------------------------------------------------------------------------------------------------

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

version_text() { "$python" -c 'import platform; print("Python", platform.python_version())'; }

choose_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON: there is no such program"
    suits "$PYTHON" || die "PYTHON=$PYTHON is $("$PYTHON" -V 2>&1): Python 3.11, 3.12 or 3.13 is needed"
    python=$(command -v "$PYTHON")
    return
  fi
  for candidate in python3 python3.12 python3.11 python3.13; do
    python=$(command -v "$candidate") && suits "$python" && return
  done
  die "no Python 3.11, 3.12 or 3.13 found" \
    "Install one, and if it is not in PATH: make setup PYTHON=/path/to/python3.12"
}

has_ensurepip() { "$python" -c 'import ensurepip' 2>/dev/null; }

has_headers() { [[ -f $("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h ]]; }

# The virtual environment is made anew when its interpreter is gone or another one is asked for.
venv_is_good() {
  [[ -x $venv/bin/python ]] && suits "$venv/bin/python" || return 1
  [[ -z ${PYTHON:-} ]] || [[ $("$venv/bin/python" -V) == "$("$PYTHON" -V)" ]]
}

# What the Python packages follow from. The path is part of it: a virtual environment cannot be moved.
python_key() { { echo "$repository $("$venv/bin/python" -VV)"; cat pyproject.toml constraints.txt; } | sha256sum; }

python_is_done() {
  local key level
  venv_is_good || return 1
  key=$(python_key)
  case $1 in
    run) set -- run dev ;;
    *) set -- dev ;;
  esac
  for level; do
    [[ $(cat "$stamps/python-$level" 2>/dev/null) != "$key" ]] || return 0
  done
  return 1
}

pip_install() {
  local install=("${pip[@]}" install --progress-bar off -c constraints.txt) groups=()
  [[ $1 == run ]] || groups=(--group dev)
  venv_is_good || "$python" -m venv --clear "$venv" || return
  # pip of a known version first: older ones know no dependency groups. What builds packages is pinned like the rest.
  "${install[@]}" pip hatchling editables setuptools wheel || return
  "${install[@]}" --no-build-isolation -e ".[postgres]" "${groups[@]}" || return
  mkdir -p "$stamps"
  python_key >"$stamps/python-$1"
}

# --- the engine ------------------------------------------------------------------------------------------------------

engine_key() {
  { echo "$engine_choice ${PJPROJECT_SRC:-}" "$("$venv/bin/python" -VV)"
    find deploy/pjsua2 -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 cat; } | sha256sum
}

native_installed() { compgen -G "$venv/lib/python3*/site-packages/pjsua2-*.dist-info" >/dev/null; }

# The engine of these inputs is installed, as one of the kinds that are good enough.
engine_is_done() {
  local key kind
  venv_is_good || return 1
  key=$(engine_key)
  for kind in "${good_engines[@]}"; do
    [[ $(cat "$stamps/engine" 2>/dev/null) == "$kind $key" ]] || continue
    case $kind in
      native) native_installed && return 0 ;;
      *) native_installed || return 0 ;;
    esac
  done
  return 1
}

# It is compiled while pip downloads.
start_engine() {
  local command=(env TMPDIR="$log_folder" deploy/pjsua2/build.sh --python "$python")
  # The build would install what it lacks by itself.
  ! $packages_missing || [[ ${APT:-} != no ]] || command=(false)
  [[ $engine_choice == light ]] || start engine "${command[@]}"
}

install_engine() {
  local kind=native status=0 wheel
  if [[ $engine_choice == light ]]; then
    kind=light
  else
    [[ -n ${jobs[engine]:-} ]] || start_engine
    finish engine "SIP engine" || status=$?
    if ((status == 0)); then
      wheel=$(tail -n 1 "$log_folder/engine.log")
      step wheel "SIP engine, installed" "${pip[@]}" install --no-deps --no-index --force-reinstall "$wheel" \
        || { failed wheel; status=1; }
    elif ! $packages_missing; then
      failed engine
    fi
    ((status == 0)) || kind=fallback
  fi
  if [[ $kind != native ]]; then
    ! native_installed || "${pip[@]}" --quiet uninstall -y pjsua2 >&2
    "$venv/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("pjsua2") is None)' \
      || die "no SIP engine: PyPI has no light one for $("$venv/bin/python" -V), and the native one is not built" \
        "See above, or use Python 3.11 or 3.12: make setup PYTHON=python3.12"
  fi
  echo "$kind $(engine_key)" >"$stamps/engine"
  [[ $kind == fallback ]] || return 0
  # CI must not pass on the smaller engine because the real one broke.
  [[ $engine_choice != native && ${CI:-} != true ]] \
    || die "the native SIP engine could not be built" "The reason is above."
  say "  Going on with the light engine: at most 4 calls at once, no Opus."
  say "  'make setup' tries to build the native one again."
}

main() {
  local level=$1
  # A build that failed is tried again by 'make setup' and by the tests, not each time the agent is started.
  case $engine_choice in
    auto) [[ ${RETRY:-yes} == yes ]] && good_engines=(native) || good_engines=(native fallback) ;;
    native | light) good_engines=("$engine_choice") ;;
    *) say "set-up: ENGINE=$engine_choice: write native or light"; exit 2 ;;
  esac

  exec 9>.setup-stamp.lock
  flock -n 9 || { say "Another set-up is running, waiting for it…"; flock 9; }
  log_folder=$(mktemp -d "${TMPDIR:-/tmp}/sip-agent-setup.XXXXXX")
  trap stop_jobs EXIT
  trap 'exit 130' INT TERM HUP

  if venv_is_good; then
    python=$("$venv/bin/python" -c 'import sys; print(sys._base_executable)')
  else
    choose_python
  fi
  if python_is_done "$level" && engine_is_done; then
    [[ $level != test ]] || complete_system "$level"
    return
  fi
  announce
  complete_system "$level"
  engine_is_done || start_engine
  if ! python_is_done "$level"; then
    step python "Python packages" pip_install "$level" || {
      failed python
      die "the Python packages could not be installed" "The reason is above. Type the same command again to go on."
    }
  fi
  engine_is_done || install_engine
  say "  Ready after $SECONDS s."
}

case ${1:-run} in
  run | dev | test) (($# <= 1)) || { usage >&2; exit 2; }; main "${1:-run}" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
