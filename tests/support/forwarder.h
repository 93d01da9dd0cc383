#pragma once

#include <string>
#include <thread>

namespace millrace::test {

// A TCP port that leads to a server while open: what a network does to a client, without touching
// the server that other tests use. Closing it breaks every connection through it and refuses new
// ones; opening it again takes the same port.
class Forwarder {
  public:
    // `target` is host:port. Closed at first.
    explicit Forwarder(const std::string& target);
    ~Forwarder() { close(); }

    void open();
    void close();
    int port() const { return port_; }
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  private:
    void serve(std::stop_token stop, int listener) const;

    std::string host_;
    std::string target_port_;
    int port_ = 0;
    std::jthread thread_;
};

}  // namespace millrace::test
