#include "tests/support/forwarder.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

namespace millrace::test {

namespace {

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

// Moves what has come; false at the end of either side.
bool move_bytes(int from, int to) {
    std::array<char, 65536> buffer;
    const ssize_t count = recv(from, buffer.data(), buffer.size(), 0);
    if (count <= 0) return false;
    for (ssize_t sent = 0; sent < count;) {
        const ssize_t step = send(to, buffer.data() + sent, static_cast<size_t>(count - sent),
                                  MSG_NOSIGNAL);
        if (step <= 0) return false;
        sent += step;
    }
    return true;
}

}  // namespace

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

void Forwarder::serve(std::stop_token stop, int listener) const {
    // The listener, then both ends of each connection, one after the other.
    std::vector<pollfd> sockets{{.fd = listener, .events = POLLIN, .revents = 0}};
    while (!stop.stop_requested()) {
        poll(sockets.data(), sockets.size(), 20);
        for (size_t i = 1; i + 1 < sockets.size();) {
            pollfd& client = sockets[i];
            pollfd& server = sockets[i + 1];
            const bool is_open = (client.revents == 0 || move_bytes(client.fd, server.fd)) &&
                                 (server.revents == 0 || move_bytes(server.fd, client.fd));
            if (is_open) {
                i += 2;
                continue;
            }
            ::close(client.fd);
            ::close(server.fd);
            sockets.erase(sockets.begin() + static_cast<ptrdiff_t>(i),
                          sockets.begin() + static_cast<ptrdiff_t>(i) + 2);
        }
        if (sockets[0].revents == 0) continue;
        const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        const int server = connect_to(host_, target_port_);
        sockets.push_back({.fd = client, .events = POLLIN, .revents = 0});
        sockets.push_back({.fd = server, .events = POLLIN, .revents = 0});
    }
    for (const pollfd& open : sockets) ::close(open.fd);
}

}  // namespace millrace::test
