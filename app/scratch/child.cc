#include "app/scratch/child.h"

#include <signal.h>
#include <sys/wait.h>

#include <fstream>
#include <thread>
#include <utility>

#include "app/config_keys.h"
#include "core/failure.h"
#include "core/spawn.h"

namespace millrace {

namespace {

constexpr size_t kShownLineCount = 20;
constexpr std::chrono::milliseconds kLookEvery{10};

}  // namespace

Child::Child(Options options) : options_(std::move(options)) { start(); }

Child::~Child() { kill(); }

Child::Child(Child&& other) noexcept
    : options_(std::move(other.options_)),
      pid_(std::exchange(other.pid_, -1)),
      exit_status_(other.exit_status_) {}

void Child::start() {
    std::vector<std::string> arguments{"millrace"};
    arguments.insert(arguments.end(), options_.arguments.begin(), options_.arguments.end());
    exit_status_.reset();
    pid_ = spawn({.program = options_.program,
                  .arguments = std::move(arguments),
                  .environment = options_.environment,
                  .log = options_.log,
                  .has_own_group = true});
    if (pid_ < 0) {
        throw fatal("scratch_fork", "can't start " + options_.name + ": no process is left");
    }
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
    exit_status_ = exit_code_of(status);
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
