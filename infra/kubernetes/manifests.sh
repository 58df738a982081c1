#!/usr/bin/env bash
# What a release's clusters apply, with the images by their digests: staging, production, and what serves on KServe.
#
#     infra/kubernetes/manifests.sh NAME@sha256:… NAME@sha256:… OUT     # the images pipeline and server; a new folder
set -euo pipefail
pipeline=$1 server=$2 out=$(realpath -m "$3")
here=$(cd "$(dirname "$0")" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# In a copy: the overlays of the repository stay as they are, and name no image.
cp -r "$here/base" "$here/components" "$here/overlays" "$place"
image() { printf '  - name: tokka/%s\n    newName: %s\n    digest: %s\n' "$1" "${2%@*}" "${2#*@}"; }
mkdir -p "$out" "$place/serving"
for name in staging production; do
    sed -i "s|^    digest: sha256:0*\$|    newName: ${pipeline%@*}\n    digest: ${pipeline#*@}|" \
        "$place/overlays/$name/kustomization.yaml"
    kubectl kustomize "$place/overlays/$name" >"$out/$name.yaml"
done
{
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents:\n'
    printf '  - ../components/%s\n' kserve serving authorization consumer
    printf 'images:\n'
    image pipeline "$pipeline"
    image server "$server"
} >"$place/serving/kustomization.yaml"
kubectl kustomize "$place/serving" >"$out/serving.yaml"
