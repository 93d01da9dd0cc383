#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <stop_token>
#include <string>

#include "app/bench/measured_worker.h"
#include "app/bench/report.h"
#include "app/bench/workspace.h"

namespace millrace {

// A stop was asked for: unwinds a measurement, and what it made goes with it.
struct Stopped {};

// What every measurement is given.
struct BenchGround {
    const Config& config;
    std::stop_token stop;
    pid_t broker = 0;  // Of a broker on this machine, to see its CPU time; 0: unknown.
    std::filesystem::path program = "/proc/self/exe";

    // Throws Stopped.
    void check_stop() const;
    void pause(std::chrono::milliseconds duration) const;
};

// A line of progress on standard error.
void say(const std::string& text);

// Says how far something is, every two seconds at most.
class Progressing {
  public:
    explicit Progressing(std::string what) : what_(std::move(what)) {}
    void show(const std::string& how_far);

  private:
    const std::string what_;
    std::chrono::steady_clock::time_point next_ =
        std::chrono::steady_clock::now() + std::chrono::seconds(2);
};

// CPU seconds, of servers only where they run on this machine.
struct Cpu {
    double postgres = 0;
    double worker = 0;
    double broker = 0;
};
Cpu operator-(const Cpu& later, const Cpu& earlier);
// Three figures of a row, in us a unit of what was done: `PostgreSQL us/task`, the worker's, the
// broker's.
void append_cpu(BenchRow& row, const Cpu& cpu, int64_t count, const std::string& unit);

class CpuWatch {
  public:
    CpuWatch(const BenchGround& ground, pg::Session& session);
    Cpu now(const MeasuredWorker& worker) const;
    // The same as if the worker had not begun yet: what its start takes counts.
    Cpu before_start_of(const MeasuredWorker& worker) const;

  private:
    const pid_t postmaster_;
    const pid_t broker_;
};

// What one measurement runs on: the servers, an installation of its own, and the process that is
// measured.
struct Measurement {
    const BenchGround& ground;
    Workspace& workspace;
    MeasuredWorker& worker;
    const CpuWatch& cpu;
};

}  // namespace millrace
