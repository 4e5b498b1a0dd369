#!/bin/sh
# Runs tests in a sandbox; without arguments all of them. With Go those of a real API server and of flanneld too: these programs are
# built once, outside the sandbox, which has no network.
#
#     SLUICE_REQUIRE_APISERVER=1    that the API server cannot be built is an error, and not a line
#     SLUICE_REQUIRE_FLANNELD=1     the same for flanneld
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"
if [ "$#" -eq 0 ]; then set -- 'test/**/*.test.ts' 'packages/*/test/**/*.test.ts'; fi
if [ -z "${SLUICE_APISERVER:-}" ]; then
  if SLUICE_APISERVER=$(sh scripts/build-apiserver.sh); then
    export SLUICE_APISERVER
  elif [ "${SLUICE_REQUIRE_APISERVER:-}" = 1 ]; then
    exit 1
  else
    unset SLUICE_APISERVER
    echo "test: the tests of an API server are skipped" >&2
  fi
fi
if [ -z "${SLUICE_FLANNELD:-}" ]; then
  if SLUICE_FLANNELD=$(sh scripts/build-flanneld.sh); then
    export SLUICE_FLANNELD
  elif [ "${SLUICE_REQUIRE_FLANNELD:-}" = 1 ]; then
    exit 1
  else
    unset SLUICE_FLANNELD
    echo "test: the tests beside flanneld are skipped" >&2
  fi
fi
exec sh scripts/sandbox.sh mocha "$@"
