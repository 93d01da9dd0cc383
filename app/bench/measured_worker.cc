#include "app/bench/measured_worker.h"

#include <httplib.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "app/bench/process_times.h"
#include "core/failure.h"

namespace millrace {

namespace {

constexpr std::chrono::milliseconds kLookEvery{10};
constexpr std::chrono::seconds kStartLimit{30};
constexpr std::chrono::seconds kStopLimit{20};

std::string text_of(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

}  // namespace

double MeasuredWorker::metric(const std::string& line_start) {
    if (port() == 0) return 0;
    httplib::Client client("127.0.0.1", port());
    client.set_read_timeout(2, 0);
    const auto answer = client.Get("/metrics");
    if (!answer) return 0;
    std::istringstream lines(answer->body);
    double sum = 0;
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind(line_start, 0) == 0) sum += std::stod(line.substr(line.rfind(' ') + 1));
    }
    return sum;
}

double MeasuredWorker::cpu() const {
    return cpu_seconds(child_.pid());
}

double MeasuredWorker::resident() const {
    return resident_mebibytes(child_.pid());
}

void MeasuredWorker::await_start() {
    const auto deadline = Child::Clock::now() + kStartLimit;
    while (port() == 0) {
        check();
        if (Child::Clock::now() > deadline) {
            throw fatal("bench_unsound", child_.name() + " did not start within " +
                                             std::to_string(kStartLimit.count()) + " s; " +
                                             child_.end_of_log());
        }
        std::this_thread::sleep_for(kLookEvery);
    }
}

void MeasuredWorker::stop() {
    child_.signal(SIGCONT);
    child_.request_stop();
    child_.await_end(Child::Clock::now() + kStopLimit);
}

int MeasuredWorker::port() {
    if (port_ != 0) return port_;
    static const std::regex address("admin[^\\n]*127\\.0\\.0\\.1:([0-9]+)");
    const std::string log = text_of(child_.log());
    std::smatch found;
    if (std::regex_search(log, found, address)) port_ = std::stoi(found[1]);
    return port_;
}

}  // namespace millrace
