# Daemons, known by a file that holds their pid and start time: a pid alone may be somebody else's by now.

# run_daemon FOLDER COMMAND... appends the output to FOLDER/log and writes FOLDER/pid.
run_daemon() {
    local folder=$1 spawned
    shift
    (
        # A daemon must not hold a lock of ours, nor a pipe that somebody reads to its end.
        local descriptor
        for descriptor in "/proc/$BASHPID/fd/"*; do
            descriptor=${descriptor##*/}
            ((descriptor < 3)) || eval "exec $descriptor>&-"
        done
        cd /
        # Written before it becomes the server, so that no server ever runs which no file names.
        # setsid keeps the pid: a subshell leads no process group.
        identity "$BASHPID" > "$folder/pid.partial"
        mv "$folder/pid.partial" "$folder/pid"
        exec setsid "$@"
    ) >> "$folder/log" 2>&1 < /dev/null &
    spawned=$!
    until [[ $(living "$folder/pid") == "$spawned" ]]; do
        kill -0 "$spawned" 2> /dev/null || break
        sleep 0.01
    done
}

# Pid and start time.
identity() {
    local stat
    read -r stat < "/proc/$1/stat"
    set -- "$1" ${stat##*) }
    echo "$1 ${21}"
}

# The pid in FILE, if that very process is still running.
living() {
    local pid started stat
    [[ -r $1 ]] && read -r pid started < "$1" || return 1
    read -r stat 2> /dev/null < "/proc/$pid/stat" || return 1
    set -- ${stat##*) }
    # Where nobody reaps orphans, the dead stay as zombies.
    [[ ${20} == "$started" && $1 != Z ]] && echo "$pid"
}

children_of() {
    local file stat fields
    for file in /proc/[0-9]*/stat; do
        read -r stat 2> /dev/null < "$file" || continue
        fields=(${stat##*) })
        [[ ${fields[1]:-} != "$1" || ${fields[0]} == Z ]] || echo "${stat%% *}"
    done
}

# Ends every process that was started with VARIABLE=VALUE in its environment, also those that left
# their parent or their session.
end_processes_with() {
    local pids
    while pids=($(grep -lszFx "$1" /proc/[0-9]*/environ | cut -d / -f 3)); ((${#pids[@]} > 0)); do
        kill -KILL "${pids[@]}" 2> /dev/null || true
        await_end "${pids[@]}"
    done
}

# Returns once none of the pids is left. They were signalled, so that takes no time.
await_end() {
    local pid stat
    for pid in "$@"; do
        while read -r stat 2> /dev/null < "/proc/$pid/stat" && [[ ${stat##*) } != Z* ]]; do
            sleep 0.01
        done
    done
}
