#!/usr/bin/env bash
# Creates, uses and deletes a TPU pod slice or a single TPU VM:
#
#   export PROJECT=... ZONE=us-west4-a TPU=relstab ACCELERATOR=v5litepod-16 BUCKET=...
#   launch/tpu_pod.sh create
#   launch/tpu_pod.sh setup                      copies the commit to all workers and installs it
#   launch/tpu_pod.sh run --config=configs/task2.py --workdir=runs/task2
#   launch/tpu_pod.sh fetch runs/task2           copies the results here
#   launch/tpu_pod.sh delete
#
# With --dry-run before the step, the commands are only printed. The folder runs/ of all workers is
# the Cloud Storage bucket BUCKET, which `create` makes if needed. To resume a run that was stopped or
# preempted, give `run` again, after `create` and `setup` if the TPU is gone. VERSION is the runtime,
# by default that of a v5e. SPOT=1 creates a cheaper TPU that may be preempted.
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
: "${PROJECT:?give the Google Cloud project}" "${ZONE:?give the zone, such as us-west4-a}"
: "${TPU:?choose a name for the TPU}" "${ACCELERATOR:?give its type, such as v5litepod-16}"
: "${BUCKET:?give the Cloud Storage bucket of the runs}"
version=${VERSION:-v2-alpha-tpuv5-lite}
where=("--project=$PROJECT" "--zone=$ZONE")
tpu=(gcloud compute tpus tpu-vm)

show_or_run() {
    if [[ $dry_run ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

on_all_workers() {
    show_or_run "${tpu[@]}" ssh "$TPU" "${where[@]}" --worker=all --command="$1"
}

case $step in
create)
    # A hierarchical namespace makes renaming a folder atomic, as checkpoints need.
    if [[ $dry_run ]] || ! gcloud storage buckets describe "gs://$BUCKET" > /dev/null 2>&1; then
        show_or_run gcloud storage buckets create "gs://$BUCKET" "--project=$PROJECT" \
            "--location=${ZONE%-*}" --uniform-bucket-level-access --enable-hierarchical-namespace
    fi
    show_or_run "${tpu[@]}" create "$TPU" "${where[@]}" "--accelerator-type=$ACCELERATOR" \
        "--version=$version" --scopes=cloud-platform ${SPOT:+--spot}
    ;;
setup)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    show_or_run git archive --output="$archive" HEAD
    show_or_run "${tpu[@]}" scp "$archive" "$TPU:relstab.tar.gz" "${where[@]}" --worker=all
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
    # JAX finds the other workers in the TPU's metadata.
    on_all_workers "cd relstab && .venv/bin/python -u -m relstab_jax.main --distributed ${*@Q}"
    ;;
fetch)
    for run in "$@"; do
        show_or_run mkdir -p "$run"
        show_or_run gcloud storage rsync --recursive --exclude='checkpoints/.*' \
            "gs://$BUCKET/${run#runs/}" "$run"
    done
    ;;
delete)
    show_or_run "${tpu[@]}" delete "$TPU" "${where[@]}" --quiet
    ;;
esac
