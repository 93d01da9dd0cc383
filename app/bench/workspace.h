#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "app/scratch/scratch.h"

namespace millrace {

// What one measurement needs: a scratch installation with a topic. Gone when it is destroyed.
class Workspace {
  public:
    struct Options {
        int partition_count = 8;
        std::vector<std::string> projections;  // Texts of files; see kTopicMark.
        std::filesystem::path program = "/proc/self/exe";
    };
    // What stands for the topic's name in a projection's text: that of the samples.
    static constexpr std::string_view kTopicMark = "shop.orders";

    // Throws what Scratch does.
    Workspace(const Config& config, const Options& options);
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    using Values = Scratch::Values;
    // `millrace run` with these values; `name` is its log's.
    Child start_worker(const std::string& name, const Values& values);
    // For commands of the same installation.
    std::filesystem::path write_config(const std::string& name, const Values& values) const {
        return scratch_.write_config(name, values);
    }
    // The program with other arguments, in the same environment.
    Child start_program(const std::string& name, const std::vector<std::string>& arguments);

    // With time for preloading and VACUUM of a large table.
    pg::SessionOptions session_options() const;
    const kafka::ClientOptions& kafka_options() const { return scratch_.kafka_options(); }
    const std::string& topic() const { return topic_; }
    int partition_count() const { return options_.partition_count; }
    kafka::Reaper& reaper() { return scratch_.reaper(); }

  private:
    const Options options_;
    Scratch scratch_;
    const std::string topic_;
};

}  // namespace millrace
