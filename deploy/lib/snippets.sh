# The PostgreSQL clients of Node and Go, for the README's snippets. From their own registries: no other
# command needs them.

clients=$build/clients

install_clients() {
    local missing=()
    command -v node > /dev/null || missing+=(nodejs)
    command -v npm > /dev/null || missing+=(npm)
    command -v go > /dev/null || missing+=(golang-go)
    ((${#missing[@]} == 0)) || install_missing "${missing[@]}"
    [[ -d $clients/node_modules/pg ]] || step "clients: Node" client-node install_node_client
    [[ -e $clients/go.sum ]] || step "clients: Go" client-go install_go_client
}

install_node_client() {
    mkdir -p "$clients"
    npm --prefix "$clients" --no-audit --no-fund install pg@8.16.3
}

# The newest that Debian 12's Go compiles. Its folders must be writable, or build/ can't be removed.
install_go_client() {
    mkdir -p "$clients"
    cd "$clients"
    rm -f go.mod
    export GOPATH=$clients/gopath GOCACHE=$clients/gocache GOFLAGS=-modcacherw
    go mod init millrace.snippets
    go get github.com/jackc/pgx/v5/pgxpool@v5.5.5
    # A test that had to compile it would take more than a minute.
    go build github.com/jackc/pgx/v5/pgxpool
}
