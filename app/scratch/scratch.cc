#include "app/scratch/scratch.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/installer.h"
#include "app/options.h"

namespace millrace {

namespace {

constexpr const char* kProjections = "projections";

int replication_of(const Config& config) {
    for (const ConfigEntry& entry : config.entries()) {
        // The default is for topics that must outlive a broker.
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

}  // namespace

Scratch::Scratch(const Config& config, const std::string& owner)
    : config_(config),
      kafka_(millrace::kafka_options(config)),
      replication_(replication_of(config)),
      folder_(owner),
      database_(millrace::session_options(config), owner),
      topics_(kafka_, reaper_) {}

void Scratch::create_topic(const std::string& name, int partition_count) {
    topics_.create(name, partition_count, replication_);
}

void Scratch::write_projection(std::string_view file_name, std::string_view text) {
    folder_.write(std::string(kProjections).append("/").append(file_name), text);
    has_projections_ = true;
}

void Scratch::install(const std::function<void(const std::string& line)>& on_done) {
    topics_.adopt("millrace." + name() + ".ledger");
    // Its own file alone: what overrides the user's must not override this one.
    const Config own = Config::load(write_config("install", {}).string(), {});
    const Installing made = millrace::install(own, {}, reaper_);
    for (const std::string& line : made.done) on_done(line);
    if (!made.refused.empty()) throw made.refused.front();
}

// JSON is YAML, and quotes whatever a value may hold.
std::filesystem::path Scratch::write_config(const std::string& name, const Values& values) const {
    nlohmann::ordered_json all = {
        {"postgres",
         {{"url", session_options().url}, {"password", config_.text("postgres.password")}}},
        {"kafka",
         {{"brokers", config_.text("kafka.brokers")},
          {"replication", replication_},
          {"properties", nlohmann::json::object()}}},
        {"projections", {{"enabled", has_projections_}, {"folder", kProjections}}},
        {"admin", {{"listen", "127.0.0.1:0"}}},
        {"log", {{"format", "text"}}}};
    for (const auto& [property, value] : config_.map("kafka.properties.*")) {
        all["kafka"]["properties"][property] = value;
    }
    for (const auto& [key, value] : values) set_value(all, key, value);
    return folder_.write(name + ".yaml", all.dump(2) + "\n");
}

Child::Options Scratch::process(const std::string& name, std::vector<std::string> arguments) const {
    std::string log = name + ".log";
    std::replace(log.begin(), log.end(), ' ', '-');
    return {.name = name,
            .arguments = std::move(arguments),
            .log = folder() / log,
            .environment = environment_of_children(read_environment())};
}

}  // namespace millrace
