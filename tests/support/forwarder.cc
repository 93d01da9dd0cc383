#include "tests/support/forwarder.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <list>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::test {

namespace {

constexpr int kLookMilliseconds = 20;

// Bound to `port`, any if 0; listening.
int listen_on(int port) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener, 16) != 0) {
        ::close(listener);
        throw std::runtime_error("port " + std::to_string(port) + " can't be listened on");
    }
    return listener;
}

int port_of(int listener) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
}

int connect_to(const std::string& host, const std::string& port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return -1;
    const int connection =
        socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
    const bool is_connected = connect(connection, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    if (is_connected) return connection;
    ::close(connection);
    return -1;
}

bool send_all(int socket, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
}

// What has come, one piece of it; empty at the end.
std::string receive(int socket) {
    std::string bytes(65536, '\0');
    const ssize_t size = recv(socket, bytes.data(), bytes.size(), 0);
    bytes.resize(size <= 0 ? 0 : static_cast<size_t>(size));
    return bytes;
}

// As a whole string of PostgreSQL's protocol, in a statement and in its answer; not as a part of
// READ COMMITTED.
bool has_commit(std::string_view bytes) {
    return bytes.find(std::string_view("COMMIT\0", 7)) != std::string_view::npos;
}

constexpr std::string_view kRollback("ROLLBACK\0", 9);

bool has_rollback(std::string_view bytes) {
    return bytes.find(kRollback) != std::string_view::npos;
}

}  // namespace

int free_port() {
    const int listener = listen_on(0);
    const int port = port_of(listener);
    ::close(listener);
    return port;
}

Forwarder::Forwarder(const std::string& target)
    : host_(target.substr(0, target.rfind(':'))),
      target_port_(target.substr(target.rfind(':') + 1)) {
    const int listener = listen_on(0);
    port_ = port_of(listener);
    ::close(listener);
}

void Forwarder::open() {
    const int listener = listen_on(port_);
    thread_ = std::jthread(
        [this, listener](std::stop_token stop) { serve(std::move(stop), listener); });
}

void Forwarder::close() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
}

void Forwarder::serve(std::stop_token stop, int listener) {
    std::list<Connection> connections;
    while (!stop.stop_requested()) {
        // The listener, then both ends of each connection.
        std::vector<pollfd> sockets{{.fd = listener, .events = POLLIN, .revents = 0}};
        for (const Connection& connection : connections) {
            sockets.push_back({.fd = connection.client, .events = POLLIN, .revents = 0});
            sockets.push_back({.fd = connection.server, .events = POLLIN, .revents = 0});
        }
        poll(sockets.data(), sockets.size(), kLookMilliseconds);
        size_t i = 0;
        connections.remove_if([&](Connection& connection) {
            const bool client_sent = sockets[++i].revents != 0;
            const bool server_sent = sockets[++i].revents != 0;
            if ((!client_sent || move_to_server(connection)) &&
                (!server_sent || move_to_client(connection))) {
                return false;
            }
            ::close(connection.client);
            ::close(connection.server);
            return true;
        });
        if (sockets[0].revents == 0) continue;
        const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        connections.push_back({.client = client, .server = connect_to(host_, target_port_)});
    }
    for (const Connection& connection : connections) {
        ::close(connection.client);
        ::close(connection.server);
    }
    ::close(listener);
}

bool Forwarder::move_to_server(Connection& connection) {
    std::string bytes = receive(connection.client);
    if (has_rollback(bytes) && misspells_rollback_.exchange(false)) {
        bytes[bytes.find(kRollback)] = 'X';
    }
    if (has_commit(bytes) && loses_commit_.exchange(false)) connection.is_losing = true;
    return !bytes.empty() && send_all(connection.server, bytes);
}

bool Forwarder::move_to_client(const Connection& connection) {
    const std::string bytes = receive(connection.server);
    if (bytes.empty()) return false;
    if (has_rollback(bytes) && breaks_after_rollback_.exchange(false)) {
        send_all(connection.client, bytes);
        return false;
    }
    if (!connection.is_losing) return send_all(connection.client, bytes);
    // What the server answers says that it has committed.
    if (!has_commit(bytes)) return true;
    ++lost_commit_count_;
    return false;
}

}  // namespace millrace::test
