#pragma once

#include <filesystem>
#include <string>

#include "app/config.h"

namespace millrace {

// The demo's temporary folder: the two samples, a configuration file for relays and one for
// workers, and the logs of both. Only its owner may read it; removed at the end unless kept.
class DemoFolder {
  public:
    // Throws kFatal `demo_folder`.
    DemoFolder();
    ~DemoFolder();
    DemoFolder(const DemoFolder&) = delete;
    DemoFolder& operator=(const DemoFolder&) = delete;

    struct ConfigOptions {
        std::string url;
        bool has_short_timeouts = false;  // Lease and session time-out 1 s.
        int replication = 1;
    };
    // Both files: servers, password and properties as configured, but the demo's own database.
    void write_configs(const Config& config, const ConfigOptions& options) const;

    std::filesystem::path relay_config() const { return path_ / "relay.yaml"; }
    std::filesystem::path worker_config() const { return path_ / "worker.yaml"; }
    const std::filesystem::path& path() const { return path_; }

    // For its logs.
    void keep() { is_kept_ = true; }

  private:
    std::filesystem::path path_;
    bool is_kept_ = false;
};

}  // namespace millrace
