#include "app/bench/ground.h"

#include <iostream>

#include "app/bench/process_times.h"
#include "core/stop.h"

namespace millrace {

namespace {

constexpr double kMicroseconds = 1e6;

}  // namespace

void BenchGround::check_stop() const {
    if (stop.stop_requested()) throw Stopped{};
}

void BenchGround::pause(std::chrono::milliseconds duration) const {
    if (!wait_for(stop, duration)) throw Stopped{};
}

void say(const std::string& text) {
    std::cerr << "  " << text << std::endl;
}

void Progressing::show(const std::string& how_far) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::seconds(2);
    say(what_ + ": " + how_far);
}

Cpu operator-(const Cpu& later, const Cpu& earlier) {
    return {.postgres = later.postgres - earlier.postgres,
            .worker = later.worker - earlier.worker,
            .broker = later.broker - earlier.broker};
}

void append_cpu(BenchRow& row, const Cpu& cpu, int64_t count, const std::string& unit) {
    const auto cell = [&](const std::string& process, double seconds) {
        row.figures.emplace_back(
            process + " us/" + unit,
            figure_or_none(seconds * kMicroseconds / static_cast<double>(count), 2));
    };
    cell("PostgreSQL", cpu.postgres);
    cell("worker", cpu.worker);
    cell("broker", cpu.broker);
}

CpuWatch::CpuWatch(const BenchGround& ground, pg::Session& session)
    : postmaster_(local_postmaster(session)), broker_(ground.broker) {}

Cpu CpuWatch::now(const MeasuredWorker& worker) const {
    return {.postgres = postmaster_ == 0 ? 0 : cpu_seconds_of_postgres(postmaster_),
            .worker = worker.cpu(),
            .broker = broker_ == 0 ? 0 : cpu_seconds(broker_)};
}

Cpu CpuWatch::before_start_of(const MeasuredWorker& worker) const {
    Cpu cpu = now(worker);
    cpu.worker = 0;
    return cpu;
}

}  // namespace millrace
