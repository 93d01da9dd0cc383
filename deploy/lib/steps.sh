# Progress, logs and locks, for the other parts of deploy/dev.

fail() {
    printf 'deploy/dev: %s\n' "$*" >&2
    exit 1
}

# step TITLE LOG COMMAND... runs the command with its output in build/log/LOG.log, and prints one
# line: the title, the running time, and on failure the end of the log.
step() {
    local title=$1 log=$build/log/$2.log ticker="" started=$SECONDS status=0
    shift 2
    mkdir -p "$build/log"
    printf '  %s ...' "$title"
    if [[ -t 1 ]]; then
        tick "$title" "$started" &
        ticker=$!
    fi
    # In a subshell of its own, so that strict mode holds inside the command: it is off in whatever
    # is followed by ||.
    set +e
    (
        set -e
        "$@"
    ) > "$log" 2>&1 < /dev/null
    status=$?
    set -e
    if [[ -n $ticker ]]; then
        stop_ticker "$ticker"
        printf '\r  %s ...' "$title"
    fi
    if ((status != 0)); then
        printf ' failed after %d s (%s)\n' $((SECONDS - started)) "$log"
        tail -n 30 "$log" | sed 's/^/    /' >&2
        exit "$status"
    fi
    printf ' %d s\n' $((SECONDS - started))
}

tick() {
    # Gone with its parent, which may have been killed.
    while sleep 1 && kill -0 $$ 2> /dev/null; do
        printf '\r  %s ... %d s' "$1" $((SECONDS - $2))
    done
}

stop_ticker() {
    kill "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || true
}

# Holds the checkout against another deploy/dev until this process and all it started are gone. The
# compilers and package tools inherit the lock on purpose: if this script is killed, the next run
# waits for what it left running. Servers and tests must not inherit it.
lock_checkout() {
    mkdir -p "$build"
    exec 9> "$build/lock"
    if ! flock --nonblock 9; then
        printf '  waiting for another deploy/dev in this checkout ...\n'
        flock 9
    fi
}

unlock_checkout() {
    exec 9>&-
}
