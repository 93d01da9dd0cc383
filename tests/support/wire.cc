#include "tests/support/wire.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <list>
#include <memory>
#include <stdexcept>
#include <string_view>

namespace millrace::test {

namespace {

constexpr int kLookMilliseconds = 20;
// A whole string of the protocol, as a statement and as its answer; not a part of READ COMMITTED.
constexpr std::string_view kCommit("COMMIT\0", 7);

sockaddr_in address_of(const std::string& host, int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
        throw std::runtime_error("the wire needs a host as IPv4 address, not " + host);
    }
    return address;
}

int connect_to(const std::string& host, int port) {
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = address_of(host, port);
    if (connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
        return server;
    }
    close(server);
    return -1;
}

bool write_all(int socket, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (written <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(written));
    }
    return true;
}

}  // namespace

Wire::Wire(const std::string& url) {
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
        PQconninfoParse(url.c_str(), nullptr), &PQconninfoFree);
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        const std::string_view keyword = option->keyword;
        if (option->val == nullptr) continue;
        if (keyword == "host") server_host_ = option->val;
        if (keyword == "port") server_port_ = std::stoi(option->val);
    }
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = address_of("127.0.0.1", 0);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        listen(listener_, 16) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        throw std::runtime_error("the wire could not listen");
    }
    // The last of two settings of a keyword counts.
    url_ = url + " host=127.0.0.1 port=" + std::to_string(ntohs(address.sin_port));
    thread_ = std::jthread([this](std::stop_token stop) { accept_all(std::move(stop)); });
}

Wire::~Wire() {
    thread_.request_stop();
    thread_.join();
    close(listener_);
}

void Wire::accept_all(std::stop_token stop) {
    std::list<std::jthread> served;
    while (!stop.stop_requested()) {
        pollfd entry{.fd = listener_, .events = POLLIN, .revents = 0};
        if (poll(&entry, 1, kLookMilliseconds) <= 0) continue;
        const int client = accept(listener_, nullptr, nullptr);
        if (client < 0) continue;
        served.emplace_back([this, client, stop](std::stop_token) { serve(client, stop); });
    }
}

void Wire::serve(int client, std::stop_token stop) {
    const int server = is_cut_ ? -1 : connect_to(server_host_, server_port_);
    std::array<char, 65536> bytes{};
    bool is_losing = false;
    while (server >= 0 && !stop.stop_requested() && !is_cut_) {
        std::array<pollfd, 2> entries{pollfd{client, POLLIN, 0}, pollfd{server, POLLIN, 0}};
        if (poll(entries.data(), entries.size(), kLookMilliseconds) <= 0) continue;
        const bool is_from_client = entries[0].revents != 0;
        const ssize_t size =
            recv(is_from_client ? client : server, bytes.data(), bytes.size(), 0);
        if (size <= 0) break;
        const std::string_view chunk(bytes.data(), static_cast<size_t>(size));
        if (is_from_client) {
            if (chunk.find(kCommit) != std::string_view::npos && loses_commit_.exchange(false)) {
                is_losing = true;
            }
            if (!write_all(server, chunk)) break;
            continue;
        }
        if (is_losing) {
            // What the server answers says that it has committed.
            if (chunk.find(kCommit) == std::string_view::npos) continue;
            ++lost_commit_count_;
            break;
        }
        if (!write_all(client, chunk)) break;
    }
    if (server >= 0) close(server);
    close(client);
}

}  // namespace millrace::test
