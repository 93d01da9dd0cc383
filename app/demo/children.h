#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app/config_value.h"

namespace millrace {

// A process of its own, by default this very program. It leads a process group, so that Ctrl-C
// reaches its parent alone; the kernel kills it when the thread that
// started it ends, so that it can't be left behind. Not thread-safe.
class Child {
  public:
    struct Options {
        std::string name;  // For people: `relay 1`.
        std::vector<std::string> arguments;  // Without the program's name.
        std::filesystem::path log;  // Its output is appended.
        std::vector<std::string> environment;  // NAME=value.
        std::filesystem::path program = "/proc/self/exe";
    };

    explicit Child(Options options);
    // Kills it if it runs.
    ~Child();
    Child(Child&& other) noexcept;
    Child& operator=(Child&& other) = delete;
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    // SIGKILL, waits for the end, starts it again.
    void kill_and_restart();
    void request_stop() const { signal(SIGTERM); }
    void signal(int number) const;
    // How it ended, if it did: the exit code, or 128 + the signal's number.
    std::optional<int> exit_status();

    pid_t pid() const { return pid_; }
    const std::string& name() const { return options_.name; }
    const std::filesystem::path& log() const { return options_.log; }

  private:
    void start();
    void kill();

    Options options_;
    pid_t pid_ = -1;
    std::optional<int> exit_status_;
};

// All processes of the demo.
class Children {
  public:
    void add(Child::Options options);
    // Throws kFatal `demo_child_ended`, with the end of its log, if one ended by itself.
    void check();
    // Kills the next one in turn, starts it again, returns its name.
    const std::string& kill_next();
    // SIGTERM to all, then up to `limit` for each to hand over; the rest is killed.
    void stop(std::chrono::milliseconds limit);

    size_t size() const { return children_.size(); }

  private:
    std::vector<Child> children_;
    size_t next_victim_ = 0;
};

// `environment` without what would override a configuration file.
std::vector<std::string> environment_of_children(const Environment& environment);

}  // namespace millrace
