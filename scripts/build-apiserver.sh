#!/bin/sh
# Builds kube-apiserver, etcd and kubectl from their Go modules, for the tests that need a real API server. They are kept outside the
# checkout, by version, and are built once: some four minutes on two cores. Prints the directory that they are in.
#
#     --find          print it if they are built, and build nothing
#
#     SLUICE_CACHE    where builds are kept; default: $XDG_CACHE_HOME/sluice, or ~/.cache/sluice
#
# Exit status 3: something is missing, which is said in one line.
set -eu
KUBERNETES=v1.34.4
ETCD=v3.6.8
name=build-apiserver
. "$(dirname "$0")/build-go.sh"
bin=$cache/kubernetes-$KUBERNETES-etcd-$ETCD

found_already "$bin" "${1:-}" kube-apiserver kubectl etcd
needs go 'it builds kube-apiserver, etcd and kubectl'
prepare

kubernetes_module() {
  # Kubernetes' own go.mod takes its staging modules from folders that its zip lacks; they are published under the same version.
  mkdir -p "$work/kubernetes"
  cd "$work/kubernetes"
  mod=$(downloaded "k8s.io/kubernetes@$KUBERNETES" GoMod)
  {
    printf 'module build\n\ngo %s\n\nrequire k8s.io/kubernetes %s\n\nreplace (\n' "$(go env GOVERSION | sed 's/go//;s/\.[0-9]*$//')" "$KUBERNETES"
    sed -n 's#^\t\(k8s.io/[a-z-]*\) => ./staging/.*#\1#p' "$mod" | while read -r module; do
      printf '\t%s => %s v0%s\n' "$module" "$module" "${KUBERNETES#v1}"
    done
    printf ')\n'
  } > go.mod
  printf '//go:build tools\n\npackage build\n\nimport (\n\t_ "k8s.io/kubernetes/cmd/kube-apiserver"\n\t_ "k8s.io/kubernetes/cmd/kubectl"\n)\n' > build.go
  go mod tidy -e
}

kubernetes() { # PROGRAM
  version=k8s.io/component-base/version
  cd "$work/kubernetes"
  go build -ldflags "-s -w -X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=$(echo "$KUBERNETES" | cut -d. -f2)" \
    -o "$bin/$1.new" "k8s.io/kubernetes/cmd/$1"
  mv "$bin/$1.new" "$bin/$1"
}

etcd() {
  # The program is the package of etcd's server module, which has to be the main module of its build.
  copy_module "go.etcd.io/etcd/server/v3@$ETCD" "$work/etcd"
  cd "$work/etcd"
  sed -i '/=> \.\.\//d' go.mod
  go build -ldflags '-s -w' -o "$bin/etcd.new" .
  mv "$bin/etcd.new" "$bin/etcd"
}

[ -x "$bin/etcd" ] || step "building etcd $ETCD" etcd
if [ ! -x "$bin/kube-apiserver" ] || [ ! -x "$bin/kubectl" ]; then
  step "fetching Kubernetes $KUBERNETES" kubernetes_module
  [ -x "$bin/kubectl" ] || step "building kubectl $KUBERNETES" kubernetes kubectl
  [ -x "$bin/kube-apiserver" ] || step "building kube-apiserver $KUBERNETES (some minutes)" kubernetes kube-apiserver
fi
echo "$bin"
