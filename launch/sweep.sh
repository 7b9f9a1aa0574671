#!/usr/bin/env bash
# Starts a job for each run of a grid that has not ended:
#
#   launch/sweep.sh [--dry-run] slurm configs/grids/fig08.txt [options of sbatch ...]
#   launch/sweep.sh [--dry-run] skypilot configs/grids/fig08.txt [options of sky jobs launch ...]
#   launch/sweep.sh [--dry-run] tpu configs/grids/fig08.txt      one after another, on the pod
#   launch/sweep.sh [--dry-run] local configs/grids/fig08.txt N  one after another, in N processes
#
# Run it again to start those that have not ended. When all have, `python -m relstab_jax.grid GRID`
# gathers their results and draws the figures.
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run=()
if [[ ${1-} == --dry-run ]]; then
    dry_run=(--dry-run)
    shift
fi
if (($# < 2)); then
    echo "usage: $0 [--dry-run] slurm|skypilot|tpu|local GRID ...: see the head of the file" >&2
    exit 2
fi
kind=$1 grid=$2
shift 2
todo=$("${PYTHON:-.venv/bin/python}" -m relstab_jax.grid "$grid" --list)

start() {
    if ((${#dry_run[@]})); then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

failed=
mapfile -t lines <<< "$todo"
for line in "${lines[@]}"; do
    [[ $line ]] || continue
    mapfile -t arguments < <(xargs printf '%s\n' <<< "$line") # removes the shell's quotes
    name=${arguments[-1]##*/}
    case $kind in
    slurm) start sbatch "--job-name=$name" "$@" launch/slurm.sbatch "${arguments[@]}" ;;
    skypilot)
        start sky jobs launch --yes --detach-run "--name=${name//_/-}" "$@" \
            --env "ARGUMENTS=$line" launch/skypilot.yaml
        ;;
    tpu) launch/tpu_pod.sh "${dry_run[@]}" run "${arguments[@]}" ;;
    local) launch/local_multiprocess.sh "${dry_run[@]}" "${1:?give the number of processes}" "${arguments[@]}" ;;
    *)
        echo "unknown launcher $kind: use slurm, skypilot, tpu or local" >&2
        exit 2
        ;;
    esac || failed+=" $name"
done
if [[ $failed ]]; then
    echo "failed:$failed" >&2
    exit 1
fi
