#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

#include "core/uuid.h"

namespace millrace::test {

namespace {

std::string fresh_log_path(const std::string& name) {
    return std::filesystem::temp_directory_path() / (name + "." + Uuid::random().text());
}

std::string read_file(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

}  // namespace

Process::Process(const Options& options) : log_path_(fresh_log_path(options.log_name)) {
    std::vector<char*> arguments{const_cast<char*>(options.program.c_str())};
    for (const std::string& argument : options.arguments) {
        arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);

    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) return;
    // The child. It must not outlive a test that is killed.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    const int log = open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    for (const auto& [name, value] : options.environment) {
        setenv(name.c_str(), value.c_str(), 1);
    }
    execvp(options.program.c_str(), arguments.data());
    _exit(127);
}

Process::~Process() {
    if (pid_ > 0 && !exit_status_) kill();
    if (!log_path_.empty() && std::getenv("MILLRACE_TEST_KEEP_LOGS") == nullptr) {
        unlink(log_path_.c_str());
    }
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      exit_status_(other.exit_status_),
      log_path_(std::exchange(other.log_path_, {})) {}

Process& Process::operator=(Process&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(exit_status_, other.exit_status_);
    std::swap(log_path_, other.log_path_);
    return *this;
}

void Process::signal(int number) const {
    if (pid_ > 0 && !exit_status_) ::kill(pid_, number);
}

void Process::kill() {
    signal(SIGKILL);
    signal(SIGCONT);
    reap(/*block=*/true);
}

bool Process::is_running() { return !reap(/*block=*/false); }

bool Process::is_stopped() const {
    const std::string stat = read_file("/proc/" + std::to_string(pid_) + "/stat");
    const size_t name_end = stat.rfind(')');
    return name_end != std::string::npos && stat.compare(name_end, 3, ") T") == 0;
}

std::optional<int> Process::wait(int seconds) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < deadline) {
        if (const auto status = reap(/*block=*/false)) return status;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return std::nullopt;
}

std::string Process::log() const { return read_file(log_path_); }

std::optional<int> Process::reap(bool block) {
    if (exit_status_) return exit_status_;
    int status = 0;
    const pid_t ended = waitpid(pid_, &status, block ? 0 : WNOHANG);
    if (ended != pid_) return std::nullopt;
    exit_status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return exit_status_;
}

Finished run_program(const std::vector<std::string>& arguments,
                     const std::map<std::string, std::string>& environment) {
    return run_process({.arguments = arguments, .environment = environment, .log_name = "run"});
}

Finished run_process(const Process::Options& options) {
    Process process(options);
    const std::optional<int> code = process.wait(120);
    if (!code) throw std::runtime_error(options.program + " did not end: " + process.log());
    return {*code, process.log()};
}

}  // namespace millrace::test
