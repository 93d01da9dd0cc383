#include "schema/installation.h"

#include "schema/migrator.h"

namespace millrace {

namespace {

constexpr std::string_view kIdentity = R"(
    SELECT (SELECT system_identifier FROM pg_control_system()),
           (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
           current_database()::text)";
constexpr std::string_view kFind = R"(
    SELECT id, name, prefix, kafka_cluster_id, system_identifier, database_oid, lane_count
    FROM millrace.installation)";
constexpr std::string_view kInsert = R"(
    INSERT INTO millrace.installation (id, name, prefix, kafka_cluster_id, system_identifier,
        database_oid, lane_count, key_order, schema_version)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 'key', $8))";
constexpr std::string_view kReplace = R"(
    UPDATE millrace.installation
    SET id = $1, name = $2, prefix = $3, kafka_cluster_id = $4, system_identifier = $5,
        database_oid = $6)";
constexpr std::string_view kSetCluster =
    "UPDATE millrace.installation SET kafka_cluster_id = $1";
constexpr std::string_view kFacts = R"(
    SELECT current_setting('server_encoding'), millrace.lane_count(),
           (SELECT count(*) FROM millrace.relay_lanes))";

pg::Params identity_params(const Installation& installation) {
    pg::Params params;
    params.uuid(installation.id)
        .text(installation.name)
        .text(installation.prefix)
        .optional_text(installation.kafka_cluster_id)
        .int8(installation.system_identifier)
        .int8(installation.database_oid);
    return params;
}

}  // namespace

std::string Installation::transactional_id(int publisher, char which) const {
    return prefix + "." + std::to_string(publisher) + "." + which;
}

DatabaseIdentity database_identity(pg::Session& session) {
    const pg::Result row = session.execute(kIdentity);
    return {row.integer(0, 0), row.integer(0, 1), row.text(0, 2)};
}

std::optional<Installation> find_installation(pg::Session& session) {
    const pg::Result row = session.execute(kFind);
    if (row.row_count() == 0) return std::nullopt;
    Installation found;
    found.id = row.uuid(0, 0);
    found.name = row.text(0, 1);
    found.prefix = row.text(0, 2);
    found.kafka_cluster_id = row.optional_text(0, 3);
    found.system_identifier = row.integer(0, 4);
    found.database_oid = row.integer(0, 5);
    found.lane_count = static_cast<int>(row.integer(0, 6));
    return found;
}

void insert_installation(pg::Session& session, const Installation& installation) {
    session.execute(kInsert, identity_params(installation)
                                 .int4(installation.lane_count)
                                 .int4(known_schema_version()));
}

void replace_installation(pg::Session& session, const Installation& installation) {
    session.execute(kReplace, identity_params(installation));
}

void set_kafka_cluster(pg::Session& session, const std::string& cluster_id) {
    session.execute(kSetCluster, pg::Params().text(cluster_id));
}

Installation require_installation(pg::Session& session) {
    require_schema(session);
    const std::optional<Installation> found = find_installation(session);
    if (!found) {
        throw misconfigured("schema_too_old", "the database has no installation row: " +
                                                  std::string(kMigrateHint));
    }
    const DatabaseIdentity here = database_identity(session);
    if (here.system_identifier != found->system_identifier ||
        here.database_oid != found->database_oid) {
        throw misconfigured(
            "database_copied",
            "this database is a copy of the one that installation '" + found->name +
                "' was made in: if the original is gone, run 'millrace migrate up --moved'; if "
                "both live on, run 'millrace migrate up --name NEW' here");
    }
    const pg::Result facts = session.execute(kFacts);
    if (facts.bytes(0, 0) != "UTF8") {
        throw misconfigured("database_encoding", "the database's encoding is " + facts.text(0, 0) +
                                                     ", it must be UTF8");
    }
    if (facts.integer(0, 1) != found->lane_count || facts.integer(0, 2) != found->lane_count) {
        throw misconfigured(
            "lane_count_differs",
            "the installation has " + std::to_string(found->lane_count) +
                " lanes, millrace.lane_count() says " + std::to_string(facts.integer(0, 1)) +
                ", relay_lanes has " + std::to_string(facts.integer(0, 2)) +
                ": restore the function and table as 'migrate up' made them");
    }
    return *found;
}

}  // namespace millrace
