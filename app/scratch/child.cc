#include "app/scratch/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>
#include <utility>

#include "app/config_keys.h"
#include "core/failure.h"

namespace millrace {

namespace {

constexpr int kNotStarted = 127;
constexpr size_t kShownLineCount = 20;
constexpr std::chrono::milliseconds kLookEvery{10};

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

Child::Child(Options options) : options_(std::move(options)) { start(); }

Child::~Child() { kill(); }

Child::Child(Child&& other) noexcept
    : options_(std::move(other.options_)),
      pid_(std::exchange(other.pid_, -1)),
      exit_status_(other.exit_status_) {}

void Child::start() {
    // All that allocates is done before the fork: another thread may hold the allocator's lock.
    std::vector<std::string> arguments{"millrace"};
    arguments.insert(arguments.end(), options_.arguments.begin(), options_.arguments.end());
    const std::string program = options_.program.string();
    const std::vector<char*> argument_pointers = pointers_to(arguments);
    const std::vector<char*> environment_pointers = pointers_to(options_.environment);
    const std::string log = options_.log.string();
    const pid_t parent = getpid();
    exit_status_.reset();

    pid_ = fork();
    if (pid_ < 0) {
        throw fatal("scratch_fork", "can't start " + options_.name + ": no process is left");
    }
    if (pid_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kNotStarted);  // It died before the line above.
    setpgid(0, 0);
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) _exit(kNotStarted);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    execve(program.c_str(), argument_pointers.data(), environment_pointers.data());
    _exit(kNotStarted);
}

void Child::kill_and_restart() {
    kill();
    start();
}

void Child::request_stop() const { signal(SIGTERM); }

void Child::signal(int number) const {
    if (pid_ > 0 && !exit_status_) ::kill(pid_, number);
}

std::optional<int> Child::exit_status() {
    if (exit_status_ || pid_ <= 0) return exit_status_;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    exit_status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return exit_status_;
}

void Child::check() {
    const std::optional<int> status = exit_status();
    if (!status) return;
    throw fatal("scratch_child_ended", name() + " ended by itself with status " +
                                           std::to_string(*status) + "; " + end_of_log());
}

bool Child::await_end(Clock::time_point deadline) {
    while (!exit_status()) {
        if (Clock::now() >= deadline) return false;
        std::this_thread::sleep_for(kLookEvery);
    }
    return true;
}

std::string Child::end_of_log() const {
    std::ifstream file(options_.log);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        lines.push_back(line);
        if (lines.size() > kShownLineCount) lines.erase(lines.begin());
    }
    std::string text = "its log " + options_.log.string() + " ends:";
    for (const std::string& line : lines) text += "\n  " + line;
    return text;
}

void Child::kill() {
    if (pid_ <= 0 || exit_status()) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    waitpid(pid_, &status, 0);
    exit_status_ = 128 + SIGKILL;
}

std::vector<std::string> environment_of_children(const Environment& environment) {
    Environment left = environment;
    left.erase("MILLRACE_CONFIG");
    for (const ConfigKey& key : config_keys()) {
        if (key.has_variable()) left.erase(key.variable());
    }
    std::vector<std::string> texts;
    for (const auto& [name, value] : left) texts.push_back(name + "=" + value);
    return texts;
}

}  // namespace millrace
