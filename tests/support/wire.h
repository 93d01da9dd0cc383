#pragma once

#include <atomic>
#include <string>
#include <thread>

namespace millrace::test {

// A wire between clients and a real PostgreSQL, which can break where no server would. Listens on a
// port of its own; `url` leads through it.
class Wire {
  public:
    // `url` in libpq's keyword form, with host and port.
    explicit Wire(const std::string& url);
    ~Wire();
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;

    const std::string& url() const { return url_; }
    // The next COMMIT reaches the server, and its answer does not come back: the connection breaks.
    void lose_next_commit() { loses_commit_ = true; }
    int lost_commit_count() const { return lost_commit_count_; }
    // Breaks all connections and refuses new ones, until mended.
    void cut() { is_cut_ = true; }
    void mend() { is_cut_ = false; }

  private:
    void accept_all(std::stop_token stop);
    void serve(int client, std::stop_token stop);

    std::string url_;
    std::string server_host_;
    int server_port_ = 0;
    int listener_ = -1;
    std::atomic<bool> loses_commit_{false};
    std::atomic<int> lost_commit_count_{0};
    std::atomic<bool> is_cut_{false};
    std::jthread thread_;
};

}  // namespace millrace::test
