#!/usr/bin/env bash
# Runs one command as several processes of this machine:
#
#   launch/local_multiprocess.sh [--dry-run] N --config=configs/task2.py:laptop ...
#
# When one process dies the others end too; SIGTERM and Ctrl-C reach them all.
set -euo pipefail

dry_run=
if [[ ${1-} == --dry-run ]]; then
    dry_run=1
    shift
fi
if [[ ! ${1-} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $0 [--dry-run] N --config=CONFIG ..., with N processes" >&2
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
    else # only the first one shows its progress on a terminal
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
        ((code == 127)) && break # there is none left
        continue                 # a signal came, and was passed on
    fi
    for ((process = 0; process < processes; process++)); do
        if ((pids[process] == ended && code != 0 && worst == 0)); then
            echo "process $process of $processes ended with code $code" >&2
            worst=$code
        fi
    done
done
exit "$worst"
