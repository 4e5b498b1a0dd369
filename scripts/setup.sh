#!/bin/sh
# Brings a fresh checkout to where `npm start` can run: the npm packages of package-lock.json (Node included), and the Debian packages
# whose programs the lab calls; with --tests, to where `npm test` can: those that only tests call, too. Quick when there is nothing to do.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

stamp=node_modules/.sluice-setup
wanted=$(cksum package-lock.json package.json packages/*/package.json .npmrc)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  say "installing the npm packages of package-lock.json"
  # No install scripts: what is native in here comes as a ready package. Not `npm ci`, which refuses a lock file that lacks the
  # optional packages of other platforms; --no-save keeps to the lock file and leaves it as it is.
  npm install --ignore-scripts --no-save --no-audit --no-fund --loglevel=error >&2
  echo "$wanted" > "$stamp"
fi
if ! node_modules/.bin/node --version > /dev/null 2>&1; then
  say "node_modules/.bin/node does not run here; Sluice needs Node 24 or newer on Linux (x64, arm64)"
  if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)'; then exit 1; fi
fi

# program:package
pairs="nft:nftables ip:iproute2 unshare:util-linux nsenter:util-linux"
[ "${1:-}" != --tests ] || pairs="$pairs conntrack:conntrack iptables:iptables ping:iputils-ping host-local:containernetworking-plugins prometheus:prometheus"
missing=""
for pair in $pairs; do
  # CNI plugins are where only container runtimes look: Debian's, and where others put them.
  PATH="$PATH:/usr/sbin:/sbin:/usr/lib/cni:/opt/cni/bin:/usr/libexec/cni" command -v "${pair%%:*}" > /dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
  install="apt-get install -y --no-install-recommends$missing"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null 2>&1; then
    say "missing Debian packages:$missing"
    say "install them with: sudo $install"
    exit 1
  fi
  say "installing Debian packages:$missing"
  log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive $install; } > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "that failed; the command was: $install"
    exit 1
  fi
  rm -f "$log"
fi

if ! PATH="$PATH:/usr/sbin:/sbin" sh scripts/sandbox.sh true 2> /dev/null; then
  say "this machine lets user $(id -un) create no namespaces (unshare failed); run as root, or allow user namespaces:"
  say "sudo sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1"
  exit 1
fi
