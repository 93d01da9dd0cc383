#include "app/demo/demo_folder.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/demo/samples.h"
#include "core/failure.h"

namespace millrace {

namespace {

namespace fs = std::filesystem;

constexpr const char* kProjections = "projections";

void write_file(const fs::path& path, std::string_view text) {
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file) throw fatal("demo_folder", "can't write " + path.string());
}

fs::path make_folder() {
    std::error_code ignored;
    std::string path = (fs::temp_directory_path(ignored) / "millrace-demo-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
        throw fatal("demo_folder", "can't make a folder like " + path + ": set TMPDIR to one that "
                                   "can be written to");
    }
    return path;
}

}  // namespace

// mkdtemp lets nobody else in, so that the files may hold a password.
DemoFolder::DemoFolder() : path_(make_folder()) {
    std::error_code ignored;
    fs::create_directory(path_ / kProjections, ignored);
    for (const DemoSample& sample : demo_samples()) {
        write_file(path_ / kProjections / sample.file_name, sample.text);
    }
}

DemoFolder::~DemoFolder() {
    std::error_code ignored;
    if (!is_kept_) fs::remove_all(path_, ignored);
}

void DemoFolder::write_configs(const Config& config, const ConfigOptions& options) const {
    // JSON is YAML, and quotes whatever a value may hold.
    nlohmann::ordered_json all = {
        {"postgres", {{"url", options.url}, {"password", config.text("postgres.password")}}},
        {"kafka",
         {{"brokers", config.text("kafka.brokers")},
          {"replication", options.replication},
          {"properties", nlohmann::json::object()}}},
        {"relay", {{"enabled", true}}},
        {"projections", {{"enabled", false}, {"folder", kProjections}}},
        {"admin", {{"listen", "127.0.0.1:0"}}},
        {"log", {{"format", "text"}}}};
    for (const auto& [name, value] : config.map("kafka.properties.*")) {
        all["kafka"]["properties"][name] = value;
    }
    if (options.has_short_timeouts) {
        all["relay"]["lease"] = "1s";
        all["projections"]["session_timeout"] = "1s";
    }
    write_file(relay_config(), all.dump(2) + "\n");
    all["relay"]["enabled"] = false;
    all["projections"]["enabled"] = true;
    write_file(worker_config(), all.dump(2) + "\n");
}

}  // namespace millrace
