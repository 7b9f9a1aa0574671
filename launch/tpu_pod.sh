#!/usr/bin/env bash
# A TPU pod slice, or a single TPU VM, from its creation to its deletion:
#
#   export PROJECT=... ZONE=us-west4-a TPU=relstab ACCELERATOR=v5litepod-16 BUCKET=...
#   launch/tpu_pod.sh create
#   launch/tpu_pod.sh setup                      copies this folder to all workers and installs it
#   launch/tpu_pod.sh run --config=configs/task2.py --workdir=runs/task2
#   launch/tpu_pod.sh fetch runs/task2           copies the results here
#   launch/tpu_pod.sh delete
#
# With --dry-run in front of the step it only prints the commands. The folder runs/ of all workers is
# the Cloud Storage bucket BUCKET, made on the first use. A run that was stopped or preempted goes on
# when `run` is given again, after `create` and `setup` where the TPU is gone. VERSION is the runtime,
# by default that of a v5e; SPOT=1 takes a cheaper TPU that may be preempted.
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run=
if [[ ${1-} == --dry-run ]]; then
    dry_run=1
    shift
fi
if [[ ! ${1-} =~ ^(create|setup|run|fetch|delete)$ ]]; then
    echo "usage: $0 [--dry-run] create|setup|run|fetch|delete ...: see the head of the file" >&2
    exit 2
fi
step=$1
shift
: "${PROJECT:?name the Google Cloud project}" "${ZONE:?name the zone, such as us-west4-a}"
: "${TPU:?name the TPU, as you like}" "${ACCELERATOR:?name its type, such as v5litepod-16}"
: "${BUCKET:?name the Cloud Storage bucket of the runs}"
version=${VERSION:-v2-alpha-tpuv5-lite}
where=("--project=$PROJECT" "--zone=$ZONE")
tpu=(gcloud compute tpus tpu-vm)

do_it() {
    if [[ $dry_run ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

on_all_workers() {
    do_it "${tpu[@]}" ssh "$TPU" "${where[@]}" --worker=all --command="$1"
}

case $step in
create)
    # A hierarchical namespace, for folders that are renamed at once: checkpoints are whole or absent.
    if [[ $dry_run ]] || ! gcloud storage buckets describe "gs://$BUCKET" > /dev/null 2>&1; then
        do_it gcloud storage buckets create "gs://$BUCKET" "--project=$PROJECT" \
            "--location=${ZONE%-*}" --uniform-bucket-level-access --enable-hierarchical-namespace
    fi
    do_it "${tpu[@]}" create "$TPU" "${where[@]}" "--accelerator-type=$ACCELERATOR" \
        "--version=$version" --scopes=cloud-platform ${SPOT:+--spot}
    ;;
setup)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    do_it git archive --output="$archive" HEAD
    do_it "${tpu[@]}" scp "$archive" "$TPU:relstab.tar.gz" "${where[@]}" --worker=all
    on_all_workers "set -e
mkdir -p relstab && tar -xzf relstab.tar.gz -C relstab && cd relstab
curl -LsSf https://astral.sh/uv/install.sh | sh
~/.local/bin/uv venv --quiet --clear --python=3.12 .venv
~/.local/bin/uv pip install --quiet --constraint=constraints.txt --editable='.[tpu]'
which gcsfuse || {
    echo \"deb https://packages.cloud.google.com/apt gcsfuse-\$(lsb_release -cs) main\" | sudo tee /etc/apt/sources.list.d/gcsfuse.list
    curl -s https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /etc/apt/trusted.gpg.d/gcsfuse.asc > /dev/null
    sudo apt-get update -qq && sudo apt-get install -y -qq gcsfuse
}
mkdir -p runs && { mountpoint -q runs || gcsfuse --implicit-dirs $BUCKET runs; }"
    ;;
run)
    # JAX finds the other workers by the TPU's own metadata.
    on_all_workers "cd relstab && .venv/bin/python -u -m relstab_jax.main --distributed ${*@Q}"
    ;;
fetch)
    for run in "$@"; do
        do_it mkdir -p "$run"
        do_it gcloud storage rsync --recursive --exclude='checkpoints/.*' \
            "gs://$BUCKET/${run#runs/}" "$run"
    done
    ;;
delete)
    do_it "${tpu[@]}" delete "$TPU" "${where[@]}" --quiet
    ;;
esac
