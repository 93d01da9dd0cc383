# Debian packages: what is missing, and nothing else.

build_packages=(
    g++ cmake ninja-build ccache mold pkg-config git ca-certificates python3 dpkg-dev
    libssl-dev zlib1g-dev liblz4-dev libzstd-dev libsasl2-dev
    libpq-dev libsimdjson-dev libspdlog-dev libfmt-dev prometheus-cpp-dev libyaml-cpp-dev
    libcli11-dev libcpp-httplib-dev nlohmann-json3-dev libre2-dev
    libgtest-dev libgmock-dev libbenchmark-dev librapidcheck-dev
)
server_packages=(postgresql postgresql-client default-jre-headless maven)
# The README's snippets are run in the languages of these clients; the JRE compiles, too.
snippet_packages=(python3-psycopg libpostgresql-jdbc-java)

install_packages() {
    install_missing "${build_packages[@]}" "${server_packages[@]}" "${snippet_packages[@]}" \
        $(library_packages)
}

install_missing() {
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    become_root_by
    step "packages: list" apt-update "${root[@]}" apt-get -q update
    if is_installed "postgresql"; then
        step "packages: ${#missing[@]} missing" apt-install apt_install "${missing[@]}"
    else
        step "packages: ${#missing[@]} missing" apt-install without_system_cluster apt_install "${missing[@]}"
    fi
}

# Newer than Debian 12's, see libraries.sh.
library_packages() {
    builds_libraries || echo librdkafka-dev libpqxx-dev
}

is_installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2> /dev/null) == installed ]]
}

# Sets `root` to the words that run a command as root.
become_root_by() {
    if ((EUID == 0)); then
        root=(env)
    elif command -v sudo > /dev/null; then
        root=(sudo)
        sudo -v || fail "sudo is refused: packages are missing and can't be installed"
    else
        fail "packages are missing: run this as root, or install sudo"
    fi
}

apt_install() {
    # What an install that was killed left half done.
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold install "$@"
}

# The server's package makes and starts a cluster of the system unless told not to. Ours are private.
without_system_cluster() {
    local folder=/etc/postgresql-common/createcluster.d
    "${root[@]}" mkdir -p "$folder"
    "${root[@]}" sh -c "echo 'create_main_cluster = false' > $folder/millrace.conf"
    local status=0
    "$@" || status=$?
    "${root[@]}" rm -f "$folder/millrace.conf"
    return "$status"
}
