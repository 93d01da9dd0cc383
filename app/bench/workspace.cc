#include "app/bench/workspace.h"

#include <chrono>
#include <utility>

namespace millrace {

namespace {

constexpr std::chrono::minutes kCallTimeout{10};

std::string with_topic(std::string text, const std::string& topic) {
    const size_t mark = text.find(Workspace::kTopicMark);
    return mark == std::string::npos ? text
                                     : text.replace(mark, Workspace::kTopicMark.size(), topic);
}

}  // namespace

Workspace::Workspace(const Config& config, const Options& options)
    : options_(options), scratch_(config, "bench"), topic_(scratch_.name() + ".orders") {
    scratch_.create_topic(topic_, options_.partition_count);
    int number = 0;
    for (const std::string& text : options_.projections) {
        scratch_.write_projection("bench_" + std::to_string(++number) + ".sql",
                                  with_topic(text, topic_));
    }
    scratch_.install([](const std::string& /*line*/) {});
}

Child Workspace::start_worker(const std::string& name, const Values& values) {
    return start_program(name, {"run", "--config", scratch_.write_config(name, values).string()});
}

Child Workspace::start_program(const std::string& name, const std::vector<std::string>& arguments) {
    Child::Options process = scratch_.process(name, arguments);
    process.program = options_.program;
    return Child(std::move(process));
}

pg::SessionOptions Workspace::session_options() const {
    pg::SessionOptions options = scratch_.session_options();
    options.call_timeout = kCallTimeout;
    return options;
}

}  // namespace millrace
