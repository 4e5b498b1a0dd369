#!/bin/sh
# Runs a command in network, mount and PID namespaces of its own (for an ordinary user also in a user namespace), so that nothing
# it does reaches the machine's own network, and that everything it started ends with it, however it ends: by itself, by Ctrl-C,
# by SIGTERM, or with this script killed by SIGKILL. /run is a tmpfs of the sandbox; the rest of the file system is the machine's.
#
# In the command's environment: SLUICE_SANDBOX=1, and SLUICE_SANDBOX_PID, a process of the sandbox as seen from outside it
# (`nsenter -t $SLUICE_SANDBOX_PID -a` enters).
set -eu
if [ "$#" -eq 0 ]; then
  echo "usage: sandbox.sh COMMAND [ARGUMENT…]" >&2
  exit 2
fi
# Where Debian keeps ip and nft; not in an ordinary user's PATH.
PATH="$PATH:/usr/sbin:/sbin"
export PATH

missing=
for pair in unshare:util-linux setpriv:util-linux mount:mount ip:iproute2; do
  command -v "${pair%%:*}" > /dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
  echo "sandbox: programs are missing; install them with: apt-get install$missing" >&2
  exit 127
fi

# Read before /proc is mounted anew: until then it says how this process is called outside. The shell stays as process 1 of the
# sandbox: it reaps orphans, and Ctrl-C reaches the command, which as process 1 would be deaf to it.
inner='
  read -r SLUICE_SANDBOX_PID rest < /proc/self/stat
  export SLUICE_SANDBOX=1 SLUICE_SANDBOX_PID
  mount -t proc proc /proc && mount -t tmpfs -o mode=755 sluice-run /run && ip link set lo up || exit 126
  "$@"
  exit $?'

user=
[ "$(id -u)" -eq 0 ] || user="--user --map-root-user"

# unshare blocks SIGTERM and SIGINT while it waits, so this script stays in front of it and listens. --pdeathsig: if this script is
# killed, unshare is; --kill-child: if unshare is, the sandbox is. Background commands get no stdin and ignore SIGINT: both undone.
exec 3<&0
# shellcheck disable=SC2086
setpriv --pdeathsig KILL env --default-signal=INT,QUIT \
  unshare $user --net --mount --pid --fork --kill-child sh -c "$inner" sandbox "$@" <&3 3<&- &
child=$!
exec 3<&-

end() { # SIGNAL-NUMBER
  kill -KILL "$child" 2> /dev/null || :
  wait "$child" 2> /dev/null || :
  exit $((128 + $1))
}
# Ctrl-C has reached the command too: it has five seconds to end by itself.
interrupted() {
  tenths=0
  while [ "$tenths" -lt 50 ] && kill -0 "$child" 2> /dev/null; do
    sleep 0.1
    tenths=$((tenths + 1))
  done
  end 2
}
trap 'end 15' TERM
trap 'end 1' HUP
trap interrupted INT

status=0
wait "$child" || status=$?
exit "$status"
