#!/usr/bin/env bash
# Checks and measures an accelerator, in parts, those of most worth first:
#
#   launch/on_accelerator.sh [--dry-run] FOLDER [PART ...]
#
#   check      golden numbers, sweeps, a training and a measurement, against the CPU's
#   steps      times of steps, measured and predicted
#   task2      Task 2 of Section 4 at the paper's size
#   task1      Task 1, likewise
#   resnet50   D, G and R of ResNet50, on images of IMAGES, with the weights WEIGHTS
#   vgg11bn    a training on the CIFAR-10 that is prepared in DATA_DIR, for EPOCHS (by default 250)
#              and SEEDS (by default 0)
#   resnet18   a training of another network, likewise
#   torch      PyTorch on the same device, where it is installed
#
# FOLDER gets what each part prints (PART.txt), its results (PART.json), the machine (machine.txt),
# the folders of runs (runs/) and compiled programs (compiled/). A command is stopped after LIMIT
# seconds, by default 600. Run the script again to go on: a part that has ended is left as it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

dry_run=
if [[ ${1-} == --dry-run ]]; then
    dry_run=1
    shift
fi
if (($# < 1)); then
    echo "usage: $0 [--dry-run] FOLDER [PART ...]: see the head of the file" >&2
    exit 2
fi
folder=$(realpath -m "$1")
[[ $dry_run ]] || mkdir -p "$folder"
shift
cd "$root"
python=${PYTHON:-.venv/bin/python}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch, or another part, may use the device too
export JAX_COMPILATION_CACHE_DIR=$folder/compiled

line() { # prints a command that xargs reads as these words
    printf '%q ' "$python" "$@"
    echo
}
bench() { line -m "tests.benchmarks.$1" "${@:2}"; }
run() { line -u -m relstab_jax.main "--workdir=$folder/runs/$1" "--config=configs/$2" "${@:3}"; }
cifar() { # NAME NETWORK
    run "$1" "cifar10.py:$2" "--config.data_dir=${DATA_DIR:?set DATA_DIR to the folder of TFDS}" \
        "--config.seeds=${SEEDS:-0}," "--config.epochs=${EPOCHS:-250}"
}

commands_of() { # one a line
    case $1 in
    check)
        line -m pytest -n0 -m "slow or not slow" tests/accelerators/test_device.py \
            tests/models/test_simple_cnn.py tests/measures/test_sensitivity.py \
            tests/measures/test_diffeomorphism.py tests/training/test_look_ahead.py
        ;;
    steps) bench accelerators ;;
    task1 | task2) run "$1" "$1.py" ;;
    resnet50)
        run "$1" measure.py --config.network=resnet50 \
            "--config.weights=${WEIGHTS-hf:timm/resnet50.tv_in1k}" \
            "--config.images=${IMAGES:?set IMAGES to a folder of photographs}"
        ;;
    vgg11bn) cifar "$1" VGG11bn ;;
    resnet18) cifar "$1" ResNet18 ;;
    torch)
        bench networks VGG11 VGG11bn ResNet18
        bench sensitivity
        bench sweep --widths 1000 --seeds 1 --steps 200
        ;;
    *)
        echo "unknown part $1: see the head of $0" >&2
        return 2
        ;;
    esac
}

if (($# == 0)); then
    set -- check steps task2 task1 resnet50 vgg11bn resnet18 torch
fi
for part; do
    commands_of "$part" > /dev/null
done

describe() {
    date -u +%FT%TZ
    git describe --always --dirty 2> /dev/null || true
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null || true
    "$python" -c 'import jax, platform
print(jax.__version__, platform.python_version(), jax.device_count(), jax.devices()[0].device_kind)'
}
[[ $dry_run ]] || describe | tee "$folder/machine.txt"

failed=
for part; do
    if [[ -e $folder/$part.ended ]]; then
        echo "$part has ended before"
        continue
    fi
    ok=1
    mapfile -t commands < <(commands_of "$part")
    for line in "${commands[@]}"; do
        if [[ $dry_run ]]; then
            echo "$line"
            continue
        fi
        mapfile -t words < <(xargs printf '%s\n' <<< "$line")
        echo "== $part: $line"
        timeout --kill-after=30 --signal=TERM "${LIMIT:-600}" "${words[@]}" 2>&1 |
            tee -a "$folder/$part.txt" || ok=
    done
    [[ $dry_run ]] && continue
    if [[ $ok ]]; then
        touch "$folder/$part.ended"
        [[ -e $folder/runs/$part/results.json ]] && cp "$folder/runs/$part/results.json" "$folder/$part.json"
    else
        failed+=" $part"
    fi
done
if [[ $failed ]]; then
    echo "failed or cut off:$failed; run it again to go on" >&2
    exit 1
fi
