#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "consumers/projection_metrics.h"
#include "consumers/projection_options.h"
#include "consumers/projection_worker.h"
#include "consumers/worker_watch.h"

namespace millrace {

// What a look at a projection's loops shows, for /readyz and /livez.
struct ProjectionStatus {
    std::string halted;                // Why; empty: not.
    std::vector<std::string> waiting;  // Why loops of this process do not apply, each reason once.
    std::chrono::milliseconds longest_silence{0};
};

// One projection in one process: its loops, each a thread. Built by the composition root.
class ProjectionRunner {
  public:
    // `on_fatal` is called from the thread that ended by a kFatal Failure.
    ProjectionRunner(ProjectionOptions options, const HandlerFactory& make_handler, HaltSwitch halt,
                     kafka::Reaper& reaper, Metrics& metrics,
                     std::function<void(const Failure&)> on_fatal);

    // Starts the threads; returns when stop was requested and all have left the group: 5 s for a
    // call to PostgreSQL, or 11 s for one to a silent broker, and the session time-out plus 2 s,
    // 10 s at most, that leaving may take.
    void run(std::stop_token stop);
    // From any thread.
    ProjectionStatus status() const;

  private:
    const ProjectionOptions options_;
    std::function<void(const Failure&)> on_fatal_;
    ProjectionMetrics metrics_;
    const ProjectionShared shared_;
    std::vector<std::unique_ptr<WorkerWatch>> watches_;
    std::vector<std::unique_ptr<ProjectionWorker>> workers_;
};

}  // namespace millrace
