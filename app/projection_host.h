#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "app/config.h"
#include "app/health.h"
#include "consumers/projection_runner.h"
#include "core/kafka/reaper.h"
#include "core/metrics.h"
#include "projections/catalog.h"
#include "projections/projection_file.h"
#include "schema/installation.h"

namespace millrace {

// All files of projections.folder; none when projections are disabled, or when nobody named a
// folder and the default one is not there. Throws kFatal: `projection_file` with every mistake of
// every file, `config` when projections.only or projections.overrides name one that is not there.
std::vector<ProjectionFile> configured_projections(const Config& config);

// False for those that projections.only leaves out.
bool is_chosen(const Config& config, const std::string& name);

// What `migrate up` did about the projections.
struct InstalledProjections {
    std::vector<std::string> done;  // A line each.
    std::vector<Failure> refused;   // The others were made all the same.
};
InstalledProjections install_projections(const Config& config, pg::Session& session);

// The projections that this process serves, each with loops of its own. Joins the catalog, which
// belongs to projections/, to the runtime of consumers/. One that can't be served does not keep the
// others from it: it is shown, and looked at again. Built by the composition root.
class ProjectionHost {
  public:
    // Reads the folder, no server. `on_fatal` is called from the thread that ended by a kFatal
    // Failure.
    ProjectionHost(const Config& config, const Installation& installation, std::string instance,
                   kafka::Reaper& reaper, Metrics& metrics,
                   std::function<void(const Failure&)> on_fatal);

    // Starts the loops, waiting for PostgreSQL if it must; returns when stop was requested and all
    // have ended.
    void run(std::stop_token stop);
    // Any thread.
    LoopStatus status() const;

  private:
    void look(std::vector<std::jthread>& threads, const std::stop_token& stop);
    void look_at(const ServedProjection& found, pg::Session& session,
                 std::vector<std::jthread>& threads, const std::stop_token& stop);
    void serve(const ProjectionFile& file, std::vector<std::jthread>& threads,
               const std::stop_token& stop);
    void refuse(const std::string& projection, const Failure& why);
    bool is_complete() const;

    const Config& config_;
    const Installation& installation_;
    const std::string instance_;
    kafka::Reaper& reaper_;
    Metrics& metrics_;
    const std::function<void(const Failure&)> on_fatal_;
    const std::vector<ProjectionFile> files_;

    mutable std::mutex mutex_;
    std::map<std::string, std::unique_ptr<ProjectionRunner>> runners_;
    std::map<std::string, Failure> refused_;  // Why some are not served by this process.
    std::vector<std::string> remarks_;        // What is to be said of those that are.
    std::string waits_for_;                   // Why nobody has looked yet.
};

}  // namespace millrace
