#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/pg/session.h"
#include "core/uuid.h"

namespace millrace {

// One database's schema `millrace`, its prefix in Kafka, and all processes that serve it.
// Everything named in Kafka derives from the stored prefix, never from a configuration: a renamed
// prefix would neither fence nor settle its predecessor.
struct Installation {
    Uuid id;
    std::string name;
    std::string prefix;
    std::optional<std::string> kafka_cluster_id;
    int64_t system_identifier = 0;
    int64_t database_oid = 0;
    int lane_count = 0;

    std::string ledger_topic() const { return prefix + ".ledger"; }
    // Of publisher 0 to 31; `which` is 'a' or 'b'.
    std::string transactional_id(int publisher, char which) const;
    // The first eight hex digits of the id: in client ids and millrace-seq.
    std::string short_id() const { return id.text().substr(0, 8); }
};

// Which server and database this is; a copy of the database carries another's installation row.
struct DatabaseIdentity {
    int64_t system_identifier = 0;
    int64_t database_oid = 0;
    std::string database_name;
};

DatabaseIdentity database_identity(pg::Session& session);
std::optional<Installation> find_installation(pg::Session& session);
void insert_installation(pg::Session& session, const Installation& installation);
// Replaces id, name, prefix and the database's identity.
void replace_installation(pg::Session& session, const Installation& installation);
void set_kafka_cluster(pg::Session& session, const std::string& cluster_id);

// The installation this process serves. Throws kFatal: `schema_too_old` (none yet),
// `database_copied`, `database_encoding`, `lane_count_differs`.
Installation require_installation(pg::Session& session);

}  // namespace millrace
