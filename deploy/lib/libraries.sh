# librdkafka and the Kafka broker.

# Debian 12's librdkafka is too old (before 2.8 it loses idempotence after a disconnect), so it comes
# from the source package of the release after it.
newer_suite=trixie

builds_libraries() {
    (($(. /etc/os-release && echo "${VERSION_ID:-0}") < 13))
}

install_libraries() {
    builds_libraries || return 0
    build_library librdkafka 2.8.0 \
        -DRDKAFKA_BUILD_STATIC=OFF -DRDKAFKA_BUILD_EXAMPLES=OFF -DRDKAFKA_BUILD_TESTS=OFF \
        -DWITH_SSL=ON -DWITH_SASL=ON -DWITH_ZLIB=ON -DWITH_ZSTD=ON -DENABLE_LZ4_EXT=ON -DWITH_CURL=OFF
}

# build_library SOURCE_PACKAGE VERSION CMAKE_OPTION... installs into build/deps. The stamp, written
# last, carries the options, so that a change of them builds again.
build_library() {
    local name=$1 version=$2 stamp
    stamp=$deps/.$name-$version-$(cksum <<< "${*:3}" | cut -d ' ' -f 1)
    shift 2
    [[ ! -e $stamp ]] || return 0
    [[ $deps == "$build/deps" ]] || fail "MILLRACE_DEPS lacks $name $version: run 'deploy/dev build' there"
    step "$name $version: source" "$name-source" fetch_source "$name" "$version"
    step "$name $version: build" "$name-build" compile_library "$name" "$stamp" "$@"
}

compile_library() {
    local name=$1 stamp=$2
    shift 2
    cmake -G Ninja -S "$build/source/$name" -B "$build/source/$name-build" --fresh \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_INSTALL_PREFIX=$deps" -DCMAKE_INSTALL_LIBDIR=lib "$@"
    cmake --build "$build/source/$name-build"
    cmake --install "$build/source/$name-build"
    touch "$stamp"
    rm -rf "$build/source"
}

# The machine's own mirror with another suite, and everything apt writes in a folder of ours.
fetch_source() {
    local name=$1 version=$2 apt=$build/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    newer_sources > "$apt/sources.list"
    if [[ ! -s $apt/sources.list ]]; then
        # apt knows its sources only with their lists present.
        become_root_by
        "${root[@]}" apt-get -q update
        newer_sources > "$apt/sources.list"
    fi
    [[ -s $apt/sources.list ]] || fail "no source of Debian's main archive on this machine"
    local options=(
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=
    )
    apt-get -q "${options[@]}" update
    rm -rf "$build/source"
    mkdir -p "$build/source"
    cd "$build/source"
    apt-get -q "${options[@]}" --only-source source "$name"
    [[ -d $name-$version ]] || fail "$newer_suite has another $name than $version: $(ls)"
    mv "$name-$version" "$name"
}

newer_sources() {
    local suite keys=/usr/share/keyrings/debian-archive-keyring.gpg
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
        | awk -v suite="$suite" -v newer="$newer_suite" -v keys="$keys" '
            ($2 == suite || $2 == "stable" || $2 == "oldstable") && $3 == "main" && !seen[$1]++ {
                print "deb-src [signed-by=" keys "] " $1 " " newer " main"
            }'
}

install_broker() {
    cmp --silent "$root_folder/deploy/kafka/pom.xml" "$kafka/pom.xml" && return
    [[ $kafka == "$build/kafka" ]] || fail "MILLRACE_DEPS lacks this broker: run 'deploy/dev build' there"
    step "kafka: broker" kafka-libs copy_broker
}

# The copy of pom.xml is the stamp.
copy_broker() {
    rm -rf "$kafka/pom.xml" "$kafka/libs"
    mvn --batch-mode -Dstyle.color=never "-Dmaven.repo.local=$build/maven" -f "$root_folder/deploy/kafka/pom.xml" \
        dependency:copy-dependencies "-DoutputDirectory=$kafka/libs"
    cp "$root_folder/deploy/kafka/pom.xml" "$kafka/pom.xml.partial"
    mv "$kafka/pom.xml.partial" "$kafka/pom.xml"
}
