#!/bin/sh
# Builds flanneld from its Go module, for the tests that run it beside `sluice network`. It is kept outside the checkout, by version, and
# is built once: a minute or two. Prints the directory that it is in.
#
#     --find          print it if it is built, and build nothing
#
#     SLUICE_CACHE    where builds are kept; default: $XDG_CACHE_HOME/sluice, or ~/.cache/sluice
#
# Exit status 3: something is missing, which is said in one line.
set -eu
FLANNEL=v0.28.4
name=build-flanneld
. "$(dirname "$0")/build-go.sh"
bin=$cache/flannel-$FLANNEL

found_already "$bin" "${1:-}" flanneld
needs go 'it builds flanneld'
needs gcc 'a part of flanneld, the proxy of its udp backend, is written in C'
prepare

flanneld() {
  module=github.com/flannel-io/flannel
  copy_module "$module@$FLANNEL" "$work/flannel"
  cd "$work/flannel"
  # A backend for one cloud, whose client library is not to be had any more.
  sed -i '/backend\/tencentvpc/d' main.go
  rm -rf pkg/backend/tencentvpc
  CGO_ENABLED=1 go build -ldflags "-s -w -X $module/pkg/version.Version=$FLANNEL" -o "$bin/flanneld.new" .
  mv "$bin/flanneld.new" "$bin/flanneld"
}

[ -x "$bin/flanneld" ] || step "building flanneld $FLANNEL" flanneld
echo "$bin"
