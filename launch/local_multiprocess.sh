#!/usr/bin/env bash
# Runs one command in N processes on this machine:
#
#   launch/local_multiprocess.sh [--dry-run] N --config=configs/task2.py:laptop ...
#
# If one process dies, the others end too. SIGTERM and Ctrl-C reach all of them.
set -euo pipefail

dry_run=
if [[ ${1-} == --dry-run ]]; then
    dry_run=1
    shift
fi
if [[ ! ${1-} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $0 [--dry-run] N --config=CONFIG ..., where N is the number of processes" >&2
    exit 2
fi
processes=$1
shift
python=${PYTHON:-$(dirname "$0")/../.venv/bin/python}
port=${PORT:-$("$python" -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')}

pids=()
for ((process = 0; process < processes; process++)); do
    command=("$python" -m relstab_jax.main "$@"
        "--coordinator=localhost:$port" "--processes=$processes" "--process=$process")
    if [[ $dry_run ]]; then
        echo "${command[*]}"
    elif ((process == 0)); then
        "${command[@]}" &
        pids+=($!)
    else # through a pipe, so that only the first process shows a progress bar
        "${command[@]}" 2> >(cat >&2) &
        pids+=($!)
    fi
done
[[ $dry_run ]] && exit

trap 'kill -TERM "${pids[@]}" 2> /dev/null || true' TERM INT
worst=0
while true; do
    ended='' code=0
    wait -n -p ended || code=$?
    if [[ ! ${ended-} ]]; then
        ((code == 127)) && break # no process is left
        continue                 # a signal arrived and was passed on
    fi
    for ((process = 0; process < processes; process++)); do
        if ((pids[process] == ended && code != 0 && worst == 0)); then
            echo "process $process of $processes ended with code $code" >&2
            worst=$code
        fi
    done
done
exit "$worst"
