# A private PostgreSQL and a private Kafka broker in a folder: FOLDER/pg and FOLDER/kafka.

# server NAME FOLDER ACTION, where NAME is pg or kafka. Tests call it to hurt the servers of their run.
server() {
    local name=$1 folder=$2/$1
    [[ $name == pg || $name == kafka ]] || fail "no server is called $name"
    case $3 in
        start) start_server "$name" "$folder" ;;
        stop) stop_server "$name" "$folder" ;;
        kill) kill_server "$folder" ;;
        pause) signal_server STOP "$folder" ;;
        continue) signal_server CONT "$folder" ;;
        *) fail "a server can start, stop, kill, pause, continue; not $3" ;;
    esac
}

# Returns once it answers. Twice is once. A broker that was killed reads all its logs first, for more
# than a minute when many topics were left.
start_server() {
    local name=$1 folder=$2
    living "$folder/pid" > /dev/null || "launch_$name" "$folder"
    for ((try = 0; try < 3000; try++)); do
        "${name}_answers" "$folder" && return
        living "$folder/pid" > /dev/null || break
        sleep 0.1
    done
    tail -n 20 "$folder/log"
    fail "$name does not answer, see $folder/log"
}

stop_server() {
    local name=$1 folder=$2 pid
    pid=$(living "$folder/pid") || return 0
    signal_server CONT "$folder"
    # SIGINT is PostgreSQL's fast shutdown; on SIGTERM it would wait for its clients.
    if [[ $name == pg ]]; then kill -INT "$pid"; else kill -TERM "$pid"; fi
    for ((try = 0; try < 300; try++)); do
        living "$folder/pid" > /dev/null || return 0
        sleep 0.1
    done
    kill_server "$folder"
}

# Stopped first, so that it forks no child while its children are looked up: a postmaster's children
# outlive it for a moment, and keep the next one from starting.
kill_server() {
    local pid pids
    pid=$(living "$1/pid") || return 0
    kill -STOP "$pid"
    pids=("$pid" $(children_of "$pid"))
    kill -KILL "${pids[@]}" 2> /dev/null || true
    await_end "${pids[@]}"
    # Its pid is as good as taken while nobody has reaped it, and the next postmaster would refuse.
    rm -f "$1/data/postmaster.pid"
}

signal_server() {
    local pid
    pid=$(living "$2/pid") || fail "not running: $2"
    kill "-$1" "$pid"
    kill "-$1" $(children_of "$pid") 2> /dev/null || true
}

# Below the range the kernel takes clients' ports from: a client that tries to reach a server which is
# down could be given the server's own port, meet itself, and keep the server from coming back.
free_ports() {
    python3 - "$1" << 'END'
import random, socket, sys

ports = []
while len(ports) < int(sys.argv[1]):
    with socket.socket() as probe:
        port = random.randrange(15000, 32000)
        try:
            probe.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
        except OSError:
            pass
print(*ports)
END
}

launch_pg() {
    local folder=$1 port
    run_as_server_user "$folder"
    if [[ ! -d $folder/data ]]; then
        rm -rf "$folder"
        mkdir -p "$folder/new"
        free_ports 1 > "$folder/port"
        ((EUID != 0)) || chown postgres: "$folder/new"
        (cd / && "${as_user[@]}" "$(pg_programs)/initdb" --no-sync --auth=trust --username=millrace \
            --encoding=UTF8 --locale=C.UTF-8 -D "$folder/new")
        # For the test of a wrong password, which trust would not mind.
        "${as_user[@]}" sed -i '1i host all +needs_password 127.0.0.1/32 scram-sha-256' "$folder/new/pg_hba.conf"
        mv "$folder/new" "$folder/data"
    fi
    read -r port < "$folder/port"
    run_daemon "$folder" "${as_user[@]}" "$(pg_programs)/postgres" -D "$folder/data" -p "$port" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200
}

pg_answers() {
    "$(pg_programs)/pg_isready" --quiet --host=127.0.0.1 --port="$(< "$1/port")"
}

pg_programs() {
    printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1
}

# PostgreSQL refuses to run as root. Below a folder that its user can't enter (as /root) that user is
# given the one capability that opens it, and only then.
run_as_server_user() {
    as_user=(env)
    ((EUID == 0)) || return 0
    as_user=(setpriv --reuid=postgres --regid=postgres --init-groups)
    "${as_user[@]}" test -x "$build/servers" && return
    as_user+=(--inh-caps=+dac_override --ambient-caps=+dac_override)
}

launch_kafka() {
    local folder=$1
    if [[ ! -d $folder/data ]]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        free_ports 2 > "$folder/port"
        broker_properties "$folder" > "$folder/server.properties"
        # 22 letters of base64 that do not begin with a minus.
        java_with_broker kafka.tools.StorageTool format -c "$folder/server.properties" \
            -t "mill_$(head -c 12 /dev/urandom | base64 | tr '+/' '-_')A"
        mv "$folder/new" "$folder/data"
        sed -i "s|^log.dirs=.*|log.dirs=$folder/data|" "$folder/server.properties"
    fi
    touch "$folder/log"
    wc -c < "$folder/log" > "$folder/log_start"
    run_daemon "$folder" java -Xms1g -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
        "-Dlog4j2.configurationFile=$root_folder/deploy/kafka/log4j2.properties" \
        -cp "$kafka/libs/*" kafka.Kafka "$folder/server.properties"
}

# The port is open before the broker serves, so its log is asked.
kafka_answers() {
    tail -c "+$(($(< "$1/log_start") + 1))" "$1/log" | grep -q 'Kafka Server started'
}

java_with_broker() {
    java "-Dlog4j2.configurationFile=$root_folder/deploy/kafka/log4j2.properties" -cp "$kafka/libs/*" "$@"
}

# Session timeouts of a second must be possible, a missing topic must stay missing, and one node must
# do. A broker that was killed is let in again only after its own session.
broker_properties() {
    local broker controller
    read -r broker controller < "$1/port"
    cat << END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
log.dirs=$1/new
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
END
    # What one test needs of a broker of its own.
    printf '%s\n' "${MILLRACE_TEST_BROKER_PROPERTIES:-}" |
        sed "s/@broker@/$broker/g; s/@controller@/$controller/g"
}
