#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/health.h"
#include "consumers/projection_runner.h"
#include "core/kafka/reaper.h"
#include "core/metrics.h"
#include "projections/projection_file.h"
#include "schema/installation.h"

namespace millrace {

// The projections of the configured folder, those of `projections.only` if it names any; none when
// the folder does not exist. Throws kFatal `projection_file` with every mistake of every file.
std::vector<ProjectionFile> configured_projections(const Config& config);

// Installs them, as `migrate up` does; returns what it did, a line each. One that needs a rebuild
// is refused after the others were made.
std::vector<std::string> install_projections(const Config& config, pg::Session& session);

// The projections that this process serves, each with loops of its own. Joins the catalog, which
// belongs to projections/, to the runtime of consumers/. Built by the composition root.
class ProjectionHost {
  public:
    // Reads folder and catalog; throws kFatal when a projection's relations are missing.
    // `on_fatal` is called from the thread that ended by a kFatal Failure.
    ProjectionHost(const Config& config, const Installation& installation,
                   const std::string& instance, kafka::Reaper& reaper, Metrics& metrics,
                   std::function<void(const Failure&)> on_fatal);

    // Starts all loops; returns when stop was requested and all have ended.
    void run(std::stop_token stop);
    // Any thread.
    LoopStatus status() const;

  private:
    std::vector<std::unique_ptr<ProjectionRunner>> runners_;
    std::vector<std::string> refused_;  // Why some are not served by this process.
};

}  // namespace millrace
