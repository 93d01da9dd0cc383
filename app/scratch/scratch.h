#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/config.h"
#include "app/scratch/child.h"
#include "app/scratch/scratch_database.h"
#include "app/scratch/scratch_folder.h"
#include "app/scratch/scratch_topics.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"

namespace millrace {

// An installation for the time being on the configured servers, all its own: a database, topics, a
// folder of configurations and logs. Gone when it is destroyed; processes that were started on it
// must have ended then. One thread.
class Scratch {
  public:
    // `relay.publishers` and the like, over what every process of it has.
    using Values = std::vector<std::pair<std::string, std::string>>;

    // `owner` is whom it is for, a part of names. `config` must outlive it. Throws kFatal
    // `missing_right`, `scratch_folder`, and what a session throws.
    Scratch(const Config& config, const std::string& owner);
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    // Throws kFatal `scratch_topic_exists`.
    void create_topic(const std::string& name, int partition_count);
    // Before install().
    void write_projection(std::string_view file_name, std::string_view text);
    // As `migrate up` does it. `on_done` is told what was done, a line each. Throws what install()
    // does, and then the Failure of a projection that was refused.
    void install(const std::function<void(const std::string& line)>& on_done);

    // The file `<name>.yaml`: servers, password and properties as configured, this database, and
    // these values.
    std::filesystem::path write_config(const std::string& name, const Values& values) const;
    // This program with other arguments. Its log is named after it, and no variable overrides its
    // configuration.
    Child::Options process(const std::string& name, std::vector<std::string> arguments) const;

    // For the logs.
    void keep_folder() { folder_.keep(); }
    const std::filesystem::path& folder() const { return folder_.path(); }
    // The database's.
    const std::string& name() const { return database_.name(); }
    const pg::SessionOptions& session_options() const { return database_.session_options(); }
    const kafka::ClientOptions& kafka_options() const { return kafka_; }
    // Of its topics: 1 unless configured, for they need not outlive a broker.
    int replication() const { return replication_; }
    kafka::Reaper& reaper() { return reaper_; }

  private:
    const Config& config_;
    const kafka::ClientOptions kafka_;
    const int replication_;
    bool has_projections_ = false;
    kafka::Reaper reaper_;
    ScratchFolder folder_;
    ScratchDatabase database_;
    ScratchTopics topics_;
};

}  // namespace millrace
