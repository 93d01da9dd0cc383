#include "tests/support/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "core/spawn.h"
#include "core/uuid.h"
#include "tests/support/eventually.h"

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

std::vector<std::string> environment_with(std::map<std::string, std::string> values) {
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string text = *entry;
        const size_t end_of_name = text.find('=');
        if (end_of_name == std::string::npos) continue;
        values.emplace(text.substr(0, end_of_name), text.substr(end_of_name + 1));
    }
    std::vector<std::string> texts;
    for (const auto& [name, value] : values) texts.push_back(name + "=" + value);
    return texts;
}

// As a shell finds it; itself if there is none of that name.
std::string path_of(const std::string& program) {
    if (program.find('/') != std::string::npos) return program;
    const char* folders = std::getenv("PATH");
    std::istringstream all(folders == nullptr ? "" : folders);
    for (std::string folder; std::getline(all, folder, ':');) {
        const std::string path = folder + "/" + program;
        if (access(path.c_str(), X_OK) == 0) return path;
    }
    return program;
}

}  // namespace

Process::Process(const Options& options) : log_path_(fresh_log_path(options.log_name)) {
    std::vector<std::string> arguments{options.program};
    arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
    pid_ = spawn({.program = path_of(options.program),
                  .arguments = std::move(arguments),
                  .environment = environment_with(options.environment),
                  .log = log_path_});
    if (pid_ < 0) throw std::runtime_error("fork failed");
}

Process::~Process() {
    kill();
    if (std::getenv("MILLRACE_TEST_KEEP_LOGS") == nullptr) unlink(log_path_.c_str());
}

void Process::signal(int number) const {
    if (!exit_status_) ::kill(pid_, number);
}

void Process::kill() {
    signal(SIGKILL);
    reap(/*block=*/true);
}

bool Process::is_running() { return !reap(/*block=*/false); }

bool Process::is_stopped() const {
    const std::string stat = read_file("/proc/" + std::to_string(pid_) + "/stat");
    const size_t name_end = stat.rfind(')');
    return name_end != std::string::npos && stat.compare(name_end, 3, ") T") == 0;
}

std::optional<int> Process::wait(std::chrono::milliseconds limit) {
    eventually(limit, [&] { return !is_running(); });
    return exit_status_;
}

std::string Process::log() const { return read_file(log_path_); }

std::optional<int> Process::reap(bool block) {
    if (exit_status_) return exit_status_;
    int status = 0;
    const pid_t ended = waitpid(pid_, &status, block ? 0 : WNOHANG);
    if (ended != pid_) return std::nullopt;
    exit_status_ = exit_code_of(status);
    return exit_status_;
}

Finished run_program(const std::vector<std::string>& arguments,
                     const std::map<std::string, std::string>& environment) {
    return run_process({.arguments = arguments, .environment = environment, .log_name = "run"});
}

Finished run_process(const Process::Options& options) {
    Process process(options);
    const std::optional<int> code = process.wait(std::chrono::minutes(2));
    if (!code) throw std::runtime_error(options.program + " did not end: " + process.log());
    return {*code, process.log()};
}

}  // namespace millrace::test
