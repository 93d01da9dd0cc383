#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace millrace::test {

// The real program as a process of its own, its output kept in a file. Killed and waited
// for when destroyed. Not thread-safe.
class Process {
  public:
    struct Options {
        std::string program = MILLRACE_BINARY;  // Found in PATH if it has no slash.
        std::vector<std::string> arguments;
        std::map<std::string, std::string> environment;  // Beside the test's own.
        std::string log_name = "millrace";
    };

    explicit Process(const Options& options);
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    void signal(int number) const;
    // SIGKILL, then waits for the end.
    void kill();
    bool is_running();
    pid_t pid() const { return pid_; }
    // By SIGSTOP, from outside or by itself.
    bool is_stopped() const;
    // Waits for the end; nothing when it did not come in time. Signals count as 128 + number.
    std::optional<int> wait(std::chrono::milliseconds limit);
    // Everything it wrote, to standard output and error.
    std::string log() const;
    bool has_logged(const std::string& text) const { return log().find(text) != std::string::npos; }

  private:
    std::optional<int> reap(bool block);

    pid_t pid_ = -1;
    std::optional<int> exit_status_;
    std::string log_path_;
};

// Runs the program to its end.
struct Finished {
    int exit_code;
    std::string output;
};
Finished run_program(const std::vector<std::string>& arguments,
                     const std::map<std::string, std::string>& environment = {});
// The same with any program; exit code 127 if there is none of that name.
Finished run_process(const Process::Options& options);

}  // namespace millrace::test
