#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "app/config.h"
#include "app/demo/children.h"
#include "app/demo/demo_database.h"
#include "app/demo/demo_topics.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"

namespace millrace {

// A temporary folder that only its owner may read, removed in the end. Throws kFatal `demo_folder`.
class BenchFolder {
  public:
    BenchFolder();
    ~BenchFolder();
    BenchFolder(const BenchFolder&) = delete;
    BenchFolder& operator=(const BenchFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

// What one measurement needs on the configured servers, all its own: a database with an
// installation in it, a topic, a folder of configurations and logs. Gone when it is destroyed.
class Workspace {
  public:
    struct Options {
        int partition_count = 8;
        std::vector<std::string> projections;  // Texts of files; see kTopicMark.
        std::filesystem::path program = "/proc/self/exe";
    };
    // What stands for the topic's name in a projection's text: that of the samples.
    static constexpr std::string_view kTopicMark = "shop.orders";

    // Throws kFatal `missing_right`, `demo_folder`, and what install() does.
    Workspace(const Config& config, const Options& options);
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    // `relay.publishers` and the like, over what every worker of the bench has.
    using Values = std::vector<std::pair<std::string, std::string>>;
    // `millrace run` with these values; `name` is its log's.
    Child start_worker(const std::string& name, const Values& values);
    // The program with other arguments, in the same environment.
    Child start_program(const std::string& name, const std::vector<std::string>& arguments);

    pg::SessionOptions session_options() const;
    kafka::ClientOptions kafka_options() const { return kafka_; }
    const std::string& topic() const { return topic_; }
    int partition_count() const { return options_.partition_count; }
    kafka::Reaper& reaper() { return reaper_; }

  private:
    std::filesystem::path write_config(const std::string& name, const Values& values) const;

    const Config& config_;
    const Options options_;
    const kafka::ClientOptions kafka_;
    const int replication_;
    kafka::Reaper reaper_;
    BenchFolder folder_;
    DemoDatabase database_;
    DemoTopics topics_;
    std::string topic_;
};

// The text of one of projections/samples.
std::string sample_text(std::string_view file_name);

}  // namespace millrace
