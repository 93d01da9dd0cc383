# The servers that stay (build/servers/dev), and those of one run (build/servers/RUN-PID).

start_dev_servers() {
    local folder=$build/servers/dev
    start_servers "$folder"
    cat << END

  PostgreSQL  $(postgres_url "$folder")
  Kafka       $(kafka_address "$folder")
  for a shell: . build/servers/dev/env
END
}

stop_dev_servers() {
    step "kafka: stop" stop-kafka stop_server kafka "$build/servers/dev/kafka"
    step "postgres: stop" stop-postgres stop_server pg "$build/servers/dev/pg"
}

start_servers() {
    local folder=$1
    mkdir -p "$folder"
    step "postgres: start" start-postgres start_server pg "$folder/pg"
    step "kafka: start" start-kafka start_server kafka "$folder/kafka"
    write_control "$folder" pg
    write_control "$folder" kafka
    write_environment "$folder"
}

# A command of one word that acts on this folder's server: FOLDER/control-pg kill.
write_control() {
    printf '#!/bin/sh\nexec "%s" server %s "%s" "$1"\n' "$root_folder/deploy/dev" "$2" "$1" > "$1/control-$2"
    chmod +x "$1/control-$2"
}

write_environment() {
    cat > "$1/env" << END
export MILLRACE_TEST_PG='$(postgres_url "$1")'
export MILLRACE_TEST_KAFKA='$(kafka_address "$1")'
export MILLRACE_TEST_PG_CTL='$1/control-pg'
export MILLRACE_TEST_KAFKA_CTL='$1/control-kafka'
export PGHOST=127.0.0.1 PGPORT=$(< "$1/pg/port") PGUSER=millrace PGDATABASE=postgres
END
}

postgres_url() {
    echo "postgresql://millrace@127.0.0.1:$(< "$1/pg/port")/postgres"
}

kafka_address() {
    echo "127.0.0.1:$(cut -d ' ' -f 1 "$1/kafka/port")"
}

# Runs ctest on fresh servers and ends with its status. Prints nothing after it.
run_tests() {
    local status=0
    begin_run test
    start_servers "$run"
    unlock_checkout
    . "$run/env"
    mkdir "$run/tmp"
    # A session of its own: whatever a test leaves behind can be found by it. A command in the
    # background ignores SIGINT, and so would the tests.
    TMPDIR=$run/tmp env --default-signal=INT,QUIT setsid setpriv --pdeathsig TERM \
        ctest --preset release "$@" &
    session=$!
    wait "$session" || status=$?
    ((status == 0)) && passed=yes
    exit "$status"
}

# begin_run NAME makes the folder `run`, and sees to it that nothing outlives this script.
begin_run() {
    run=$build/servers/$1-$$
    session="" passed=""
    end_dead_runs
    mkdir -p "$run"
    identity $$ > "$run/owner"
    trap end_run EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# A failed run's logs and data stay until the next run.
end_run() {
    trap '' HUP INT TERM
    [[ -z $session ]] || end_session "$session"
    kill_server "$run/kafka"
    kill_server "$run/pg"
    [[ -z $passed ]] || rm -rf "$run"
}

end_session() {
    local pids
    pids=($(processes_by session "$1"))
    ((${#pids[@]} == 0)) && return
    kill -KILL "${pids[@]}" 2> /dev/null || true
    await_end "${pids[@]}"
}

# Servers of runs that were killed themselves.
end_dead_runs() {
    local folder
    for folder in "$build"/servers/*-*/; do
        [[ -d $folder ]] || continue
        living "$folder/owner" > /dev/null && continue
        kill_server "$folder/kafka"
        kill_server "$folder/pg"
        rm -rf "$folder"
    done
}
