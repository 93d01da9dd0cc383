# The servers that stay (build/servers/dev), and those of one run (build/servers/RUN-PID).

start_dev_servers() {
    local folder=$build/servers/dev
    start_servers "$folder"
    cat << END

  PostgreSQL  $(postgres_url "$folder")
  Kafka       $(kafka_address "$folder")
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
    write_control "$folder"
    write_environment "$folder"
}

# A command of one word that acts on this folder's PostgreSQL: FOLDER/control-pg kill.
write_control() {
    printf '#!/bin/sh\nexec "%s" server pg "%s" "$1"\n' "$root_folder/deploy/dev" "$1" > "$1/control-pg"
    chmod +x "$1/control-pg"
}

write_environment() {
    cat > "$1/env" << END
export MILLRACE_TEST_PG='$(postgres_url "$1")'
export MILLRACE_TEST_KAFKA='$(kafka_address "$1")'
export MILLRACE_TEST_PG_CTL='$1/control-pg'
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
    run_on_fresh_servers test ctest --preset release "$@"
}

# The same with the tests of the README's snippets, in all its languages.
run_snippets() {
    export MILLRACE_SNIPPETS=$clients GOPATH=$clients/gopath GOCACHE=$clients/gocache
    run_on_fresh_servers snippets "$build/release/tests/integration_tests" \
        '--gtest_filter=*Snippets*:DeletedTask*'
}

run_on_fresh_servers() {
    local status=0
    begin_run "$1"
    shift
    start_servers "$run"
    unlock_checkout
    mkdir "$run/tmp"
    # A signal must reach `wait`, so the command is in the background, where SIGINT would be ignored
    # by all that it starts.
    (
        . "$run/env"
        TMPDIR=$run/tmp exec env --default-signal=INT,QUIT setpriv --pdeathsig TERM "$@"
    ) &
    wait $! || status=$?
    ((status != 0)) || passed=yes
    exit "$status"
}

# Runs the program's demo on fresh servers and ends with its status.
run_demo() {
    run_on_servers demo "$build/release/app/millrace" demo "$@"
}

# The load bench, or `micro`. Results are appended to build/bench/results.md and .jsonl.
run_bench() {
    mkdir -p "$build/bench"
    if [[ ${1:-} == micro ]]; then
        unlock_checkout
        exec "$build/release/bench/millrace_bench_micro" "${@:2}"
    fi
    run_on_servers bench "$build/release/bench/millrace_bench_load" --results "$build/bench/results" "$@"
}

# run_on_servers NAME COMMAND... with the configuration of fresh servers in the environment.
run_on_servers() {
    local name=$1 status=0 pid
    shift
    begin_run "$name"
    start_servers "$run"
    unlock_checkout
    mkdir "$run/tmp"
    # Ctrl-C reaches the command as well, which ends in its own way: its servers must stay till then.
    trap ':' INT
    (
        . "$run/env"
        export MILLRACE_POSTGRES_URL=$MILLRACE_TEST_PG MILLRACE_KAFKA_BROKERS=$MILLRACE_TEST_KAFKA
        export MILLRACE_TEST_BROKER_PID=$(cut -d ' ' -f 1 "$run/kafka/pid")
        unset MILLRACE_CONFIG
        TMPDIR=$run/tmp exec env --default-signal=INT,QUIT setpriv --pdeathsig TERM "$@"
    ) &
    pid=$!
    # A signal ends `wait` before the command ends.
    while kill -0 "$pid" 2> /dev/null; do
        status=0
        wait "$pid" || status=$?
    done
    ((status != 0)) || passed=yes
    exit "$status"
}

# begin_run NAME makes the folder `run`, and sees to it that nothing outlives this script.
begin_run() {
    run=$build/servers/$1-$$
    passed=""
    end_dead_runs
    mkdir -p "$run"
    identity $$ > "$run/owner"
    trap 'trap "" HUP INT TERM; end_run "$run"; [[ -z $passed ]] || rm -rf "$run"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Runs whose script was killed. A failed run's logs and data stay until here, too.
end_dead_runs() {
    local folder
    for folder in "$build"/servers/*-*; do
        if [[ -d $folder ]] && ! living "$folder/owner" > /dev/null; then
            end_run "$folder"
            rm -rf "$folder"
        fi
    done
}

# What a test left running is known by its environment.
end_run() {
    end_processes_with "MILLRACE_TEST_PG_CTL=$1/control-pg" 2> /dev/null
    kill_server "$1/kafka"
    kill_server "$1/pg"
}
