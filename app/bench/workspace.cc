#include "app/bench/workspace.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/demo/samples.h"
#include "app/installer.h"
#include "app/options.h"
#include "core/check.h"
#include "core/failure.h"

namespace millrace {

namespace {

namespace fs = std::filesystem;

// Preloading and VACUUM of a large table.
constexpr std::chrono::minutes kCallTimeout{10};

fs::path make_folder() {
    std::error_code ignored;
    std::string path = (fs::temp_directory_path(ignored) / "millrace-bench-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
        throw fatal("demo_folder", "can't make a folder like " + path +
                                       ": set TMPDIR to one that "
                                       "can be written to");
    }
    return path;
}

void write_file(const fs::path& path, std::string_view text) {
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file) throw fatal("demo_folder", "can't write " + path.string());
}

int replication_of(const Config& config) {
    for (const ConfigEntry& entry : config.entries()) {
        // The default is for topics that must outlive a broker; these live for a measurement.
        if (entry.name == "kafka.replication" && entry.origin == "default") return 1;
    }
    return config.count("kafka.replication");
}

// `relay.batch.tasks` as a key below keys.
void set_value(nlohmann::ordered_json& all, const std::string& name, const std::string& value) {
    nlohmann::ordered_json* place = &all;
    size_t begin = 0;
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', begin)) {
        place = &(*place)[name.substr(begin, dot - begin)];
        begin = dot + 1;
    }
    (*place)[name.substr(begin)] = value;
}

std::string with_topic(std::string text, const std::string& topic) {
    const size_t mark = text.find(Workspace::kTopicMark);
    return mark == std::string::npos ? text
                                     : text.replace(mark, Workspace::kTopicMark.size(), topic);
}

}  // namespace

BenchFolder::BenchFolder() : path_(make_folder()) {}

BenchFolder::~BenchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

Workspace::Workspace(const Config& config, const Options& options)
    : config_(config),
      options_(options),
      kafka_(millrace::kafka_options(config)),
      replication_(replication_of(config)),
      database_(millrace::session_options(config), "bench"),
      topics_(kafka_, reaper_),
      topic_(database_.name() + ".orders") {
    topics_.create(topic_, options_.partition_count, replication_);
    fs::create_directory(folder_.path() / "projections");
    int number = 0;
    for (const std::string& text : options_.projections) {
        write_file(folder_.path() / "projections" / ("bench_" + std::to_string(++number) + ".sql"),
                   with_topic(text, topic_));
    }
    topics_.adopt("millrace." + database_.name() + ".ledger");
    install(Config::load(write_config("install", {}).string(), {}), {}, reaper_);
}

Child Workspace::start_worker(const std::string& name, const Values& values) {
    return start_program(name, {"run", "--config", write_config(name, values).string()});
}

Child Workspace::start_program(const std::string& name, const std::vector<std::string>& arguments) {
    return Child({.name = name,
                  .arguments = arguments,
                  .log = folder_.path() / (name + ".log"),
                  .environment = environment_of_children(read_environment()),
                  .program = options_.program});
}

pg::SessionOptions Workspace::session_options() const {
    pg::SessionOptions options = database_.session_options();
    options.call_timeout = kCallTimeout;
    return options;
}

// JSON is YAML, and quotes whatever a value may hold.
fs::path Workspace::write_config(const std::string& name, const Values& values) const {
    nlohmann::ordered_json all = {
        {"postgres",
         {{"url", database_.session_options().url},
          {"password", config_.text("postgres.password")}}},
        {"kafka",
         {{"brokers", config_.text("kafka.brokers")},
          {"replication", replication_},
          {"properties", nlohmann::json::object()}}},
        {"projections", {{"enabled", !options_.projections.empty()}, {"folder", "projections"}}},
        {"admin", {{"listen", "127.0.0.1:0"}}},
        {"log", {{"format", "text"}}}};
    for (const auto& [property, value] : config_.map("kafka.properties.*")) {
        all["kafka"]["properties"][property] = value;
    }
    for (const auto& [key, value] : values) set_value(all, key, value);
    const fs::path path = folder_.path() / (name + ".yaml");
    write_file(path, all.dump(2) + "\n");
    return path;
}

std::string sample_text(std::string_view file_name) {
    for (const DemoSample& sample : demo_samples()) {
        if (sample.file_name == file_name) return std::string(sample.text);
    }
    MILLRACE_CHECK(false, "the sample is compiled in");
}

}  // namespace millrace
