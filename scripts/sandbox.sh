#!/bin/sh
# Runs a command in namespaces of its own (network, mount, PID; for an ordinary user also a user namespace), so that nothing it
# does reaches the machine's own network, and everything it started ends with it.
set -eu
if [ "$#" -eq 0 ]; then echo "usage: sandbox.sh COMMAND [ARGUMENT…]" >&2; exit 2; fi
inner='mount -t tmpfs -o mode=755 sluice-run /run && ip link set lo up && exec "$@"'
export SLUICE_SANDBOX=1
if [ "$(id -u)" -eq 0 ]; then
  exec unshare --net --mount --pid --fork --kill-child --mount-proc sh -c "$inner" sandbox "$@"
fi
exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc sh -c "$inner" sandbox "$@"
