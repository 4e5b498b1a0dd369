# Sourced by the scripts that build Go programs from their modules, once, outside the checkout; it has what these share. They set `name`
# (their own, for what they say) and `bin` (a directory of $cache, named by version).
#
# `set -eu` holds. Exit status 3: something is missing, which is said in one line.
cache=${SLUICE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sluice}

say() { echo "$name: $*" >&2; }

found_already() { # DIRECTORY OPTION PROGRAM… – ends the script where it has nothing to do
  directory=$1
  option=$2
  shift 2
  for program in "$@"; do
    if [ ! -x "$directory/$program" ]; then
      [ "$option" != --find ] || exit 1
      return 0
    fi
  done
  echo "$directory"
  exit 0
}

needs() { # PROGRAM WHAT-FOR
  if ! command -v "$1" > /dev/null 2>&1; then
    say "$1 is not installed: $2"
    exit 3
  fi
}

prepare() { # makes $work, which ends with the script; one build at a time, and whoever waited finds it done
  mkdir -p "$bin"
  exec 9> "$cache/lock"
  flock 9
  export GOTOOLCHAIN=local GOFLAGS='-mod=mod -buildvcs=false'
  work=$(mktemp -d "$cache/build.XXXXXX")
  trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
}

downloaded() { # MODULE@VERSION FIELD
  (cd / && GOFLAGS='' go mod download -json "$1") | sed -n "s/.*\"$2\": \"\\(.*\\)\".*/\\1/p"
}

copy_module() { # MODULE@VERSION DIRECTORY – a copy that can be changed
  mkdir -p "$2"
  cp -r "$(downloaded "$1" Dir)/." "$2"
  chmod -R u+w "$2"
}

step() { # WHAT COMMAND…
  what=$1
  shift
  say "$what"
  started=$(date +%s)
  if ! (set -e; "$@") > "$work/log" 2>&1; then
    tail -n 20 "$work/log" >&2
    say "$what: failed"
    exit 1
  fi
  say "$what: $(($(date +%s) - started)) s"
}
