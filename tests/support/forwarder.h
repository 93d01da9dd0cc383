#pragma once

#include <atomic>
#include <string>
#include <thread>

namespace millrace::test {

// A port that nobody listened on a moment ago.
int free_port();

// A TCP port that leads to a server while open: what a network does to a client, without touching
// the server that other tests use. Closing it breaks every connection through it and refuses new
// ones; opening it again takes the same port.
class Forwarder {
  public:
    // `target` is host:port. Closed at first.
    explicit Forwarder(const std::string& target);
    ~Forwarder() { close(); }
    Forwarder(const Forwarder&) = delete;
    Forwarder& operator=(const Forwarder&) = delete;

    void open();
    void close();
    // The next COMMIT reaches the server, which is PostgreSQL, and its answer does not come back:
    // the connection breaks.
    void lose_next_commit() { loses_commit_ = true; }

    // The connection breaks behind PostgreSQL's next answer to a ROLLBACK.
    void break_after_next_rollback() { breaks_after_rollback_ = true; }
    // The next ROLLBACK comes to PostgreSQL misspelt, so it refuses it and the connection stays.
    void misspell_next_rollback() { misspells_rollback_ = true; }

    int lost_commit_count() const { return lost_commit_count_; }
    int port() const { return port_; }
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  private:
    struct Connection {
        int client;
        int server;
        bool is_losing = false;
    };

    void serve(std::stop_token stop, int listener);
    // What has come from one side goes to the other; false once the connection is broken.
    bool move_to_server(Connection& connection);
    bool move_to_client(const Connection& connection);

    std::string host_;
    std::string target_port_;
    int port_ = 0;
    std::atomic<bool> loses_commit_{false};
    std::atomic<bool> breaks_after_rollback_{false};
    std::atomic<bool> misspells_rollback_{false};
    std::atomic<int> lost_commit_count_{0};
    std::jthread thread_;
};

}  // namespace millrace::test
