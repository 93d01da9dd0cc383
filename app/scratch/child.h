#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app/config_value.h"

namespace millrace {

// A process of its own, by default this very program. It leads a process group, so that Ctrl-C
// reaches its parent alone; the kernel kills it when the thread that started it ends, so that it
// can't be left behind. Not thread-safe.
class Child {
  public:
    using Clock = std::chrono::steady_clock;
    struct Options {
        std::string name;  // For people: `relay 1`.
        std::vector<std::string> arguments;  // Without the program's name.
        std::filesystem::path log;  // Its output is appended.
        std::vector<std::string> environment;  // NAME=value.
        std::filesystem::path program = "/proc/self/exe";
    };

    // Throws kFatal `scratch_fork`.
    explicit Child(Options options);
    // Kills it if it runs.
    ~Child();
    Child(Child&& other) noexcept;
    Child& operator=(Child&& other) = delete;
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    // SIGKILL, waits for the end, starts it again.
    void kill_and_restart();
    void request_stop() const;
    void signal(int number) const;
    // How it ended, if it did: the exit code, or 128 + the signal's number.
    std::optional<int> exit_status();
    // Throws kFatal `scratch_child_ended`, with the end of its log, if it ended.
    void check();
    // Waits for its end; false if it did not come in time.
    bool await_end(Clock::time_point deadline);

    pid_t pid() const { return pid_; }
    const std::string& name() const { return options_.name; }
    const std::filesystem::path& log() const { return options_.log; }
    // Where its log is and how that ends, for people.
    std::string end_of_log() const;

  private:
    void start();
    void kill();

    Options options_;
    pid_t pid_ = -1;
    std::optional<int> exit_status_;
};

// `environment` without what would override a configuration file.
std::vector<std::string> environment_of_children(const Environment& environment);

}  // namespace millrace
