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
    stat=$(< "/proc/$1/stat")
    set -- "$1" ${stat##*) }
    echo "$1 ${21}"
}

# The pid in FILE, if that very process is still running.
living() {
    local pid started stat
    [[ -r $1 ]] && read -r pid started < "$1" || return 1
    { stat=$(< "/proc/$pid/stat"); } 2> /dev/null || return 1
    set -- ${stat##*) }
    # Where nobody reaps orphans, the dead stay as zombies.
    [[ ${20} == "$started" && $1 != Z ]] && echo "$pid"
}

# Pids whose field (parent or session) of /proc/PID/stat is VALUE.
processes_by() {
    local position=$1 value=$2 file stat fields
    case $position in
        parent) position=1 ;;
        session) position=3 ;;
    esac
    for file in /proc/[0-9]*/stat; do
        { read -r stat < "$file"; } 2> /dev/null || continue
        fields=(${stat##*) })
        [[ ${fields[position]} != "$value" || ${fields[0]} == Z ]] || echo "${stat%% *}"
    done
}

# Returns once none of the pids is left. They were signalled, so that takes no time.
await_end() {
    local pid state
    for pid in "$@"; do
        while { state=$(< "/proc/$pid/stat"); } 2> /dev/null && [[ ${state##*) } != Z* ]]; do
            sleep 0.01
        done
    done
}
