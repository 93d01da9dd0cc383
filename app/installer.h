#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/config.h"
#include "core/failure.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"
#include "schema/installation.h"

namespace millrace {

// What `migrate up` is asked for beside the configuration.
struct InstallOptions {
    std::optional<std::string> name;  // Left out: the database's.
    std::optional<int> lane_count;    // Left out: 12.
    bool moved = false;               // The database was moved here; its original is gone.
};

struct Installing {
    std::vector<std::string> done;  // A line each.
    std::vector<Failure> refused;   // Projections that were held back; the others are made.
};

// Makes or updates schema, installation row, ledger topic, claim record and projections; each step
// can be repeated. Throws kFatal with what to do: `missing_right`, `installation_name`,
// `installation_differs`, `database_copied`, what check_prefix() and ensure_ledger_topic() say,
// and kTransient when a server does not answer. Blocks as long as the migrations take, each call
// at most ten minutes.
Installing install(const Config& config, const InstallOptions& options, kafka::Reaper& reaper);

// The cluster's own name for itself. Throws kTransient when no broker answers.
std::string kafka_cluster_id(const Config& config, kafka::Reaper& reaper);

// Throws kFatal `installation_differs` unless the configuration and the cluster are those that the
// installation was made with (PROTOCOL 1).
void check_same_installation(const Config& config, const Installation& installation,
                             const std::string& cluster_id);

}  // namespace millrace
