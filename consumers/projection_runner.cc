#include "consumers/projection_runner.h"

#include <algorithm>
#include <thread>

#include "core/stop.h"

namespace millrace {

ProjectionRunner::ProjectionRunner(ProjectionOptions options, const HandlerFactory& make_handler,
                                   HaltSwitch halt, kafka::Reaper& reaper, Metrics& metrics,
                                   std::function<void(const Failure&)> on_fatal)
    : options_(std::move(options)),
      on_fatal_(std::move(on_fatal)),
      metrics_(metrics, options_.projection.name),
      shared_{std::move(halt), reaper, metrics_} {
    for (int i = 0; i < options_.thread_count; ++i) {
        watches_.push_back(std::make_unique<WorkerWatch>(metrics_.waiting));
        workers_.push_back(std::make_unique<ProjectionWorker>(options_, shared_, make_handler(),
                                                              *watches_.back()));
    }
}

void ProjectionRunner::run(std::stop_token stop) {
    std::vector<std::jthread> threads;
    for (const auto& worker : workers_) {
        threads.emplace_back([this, &worker](std::stop_token token) {
            try {
                worker->run(std::move(token));
            } catch (const Failure& failure) {
                on_fatal_(failure);
            }
        });
    }
    while (wait_for(stop, std::chrono::hours(24))) {
    }
    for (std::jthread& thread : threads) thread.request_stop();
}

ProjectionStatus ProjectionRunner::status() const {
    ProjectionStatus status;
    for (const auto& watch : watches_) {
        if (const std::string halted = watch->halted(); !halted.empty()) status.halted = halted;
        const std::string waiting = watch->loop.waiting();
        const bool is_known = std::find(status.waiting.begin(), status.waiting.end(), waiting) !=
                              status.waiting.end();
        if (!waiting.empty() && !is_known) status.waiting.push_back(waiting);
        status.longest_silence = std::max(status.longest_silence, watch->loop.silence());
    }
    return status;
}

}  // namespace millrace
