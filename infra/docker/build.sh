#!/usr/bin/env bash
# Builds the images, prints their sizes and writes an SBOM beside each; `make image` calls it.
#
# | Variable | Default           | What it is                                                          |
# |----------|-------------------|---------------------------------------------------------------------|
# | IMAGE    | tokka             | images are named IMAGE/pipeline:TAG and IMAGE/server:TAG            |
# | TAG      | the commit's id   | for a cluster, which caches by it; this machine's is the version's  |
# | BASE     | the Dockerfile's  | base image, with Python 3.11                                        |
# | WHEELS   | PIP_FIND_LINKS    | folder of more wheels, such as torch's CPU build                    |
# | TORCH    |                   | `cpu`: torch without CUDA from its own index                        |
# | TARGETS  | server pipeline   | what to build                                                       |
# | DOCKER   | docker            | the client; with DOCKER_BUILDKIT=1 it uses BuildKit                 |
# | NETWORK  | default           | network of the build; `host` where a bridge has no way out          |
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tag=${TAG:-${commit:0:12}}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
docker=${DOCKER:-docker}

rm -rf build/wheels && mkdir -p build/wheels build/sbom
if [ -n "${WHEELS:-${PIP_FIND_LINKS:-}}" ]; then
    find "${WHEELS:-$PIP_FIND_LINKS}" -maxdepth 1 -name '*.whl' -exec cp --reflink=auto {} build/wheels/ \;
fi
for target in ${TARGETS:-server pipeline}; do
    name=${IMAGE:-tokka}/$target:$tag
    "$docker" build --quiet --network "${NETWORK:-default}" --file infra/docker/Dockerfile --target "$target" --tag "$name" \
        ${BASE:+--build-arg "BASE=$BASE"} ${TORCH:+--build-arg "TORCH=$TORCH"} \
        --build-arg "UV_VERSION=$UV_VERSION" --build-arg "REVISION=$commit" --build-arg "SOURCE_DATE_EPOCH=$epoch" . >/dev/null
    "$docker" tag "$name" "${IMAGE:-tokka}/$target:$version"
    "$docker" run --rm --entrypoint cat "$name" /opt/venv/sbom.cdx.json >"build/sbom/$target.cdx.json"
    size=$("$docker" image inspect --format '{{.Size}}' "$name")
    parts=$(grep -c '"bom-ref"' "build/sbom/$target.cdx.json")
    echo "$name  $((size / 1000000)) MB  $parts entries in build/sbom/$target.cdx.json"
done
