#include "app/installer.h"

#include <algorithm>

#include "app/options.h"
#include "app/projection_host.h"
#include "core/kafka/admin.h"
#include "relay/ledger_topic.h"
#include "relay/operator.h"
#include "schema/migrator.h"

namespace millrace {

namespace {

constexpr int kDefaultLaneCount = 12;
constexpr size_t kNameLengthMax = 40;

// The connecting role's rights that making the schema takes.
constexpr std::string_view kRights = R"(
    SELECT quote_ident(current_user), quote_ident(current_database()),
           EXISTS (SELECT FROM pg_namespace WHERE nspname = 'millrace')
               OR has_database_privilege(current_database(), 'CREATE'),
           EXISTS (SELECT FROM pg_roles WHERE rolname = 'millrace_app')
               OR (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user))";

void check_rights(pg::Session& session) {
    const pg::Result row = session.execute(kRights);
    const std::string role = row.text(0, 0);
    if (!row.boolean(0, 2)) {
        throw misconfigured("missing_right",
                            "role " + role + " may not make the schema: as a superuser run GRANT "
                            "CREATE ON DATABASE " + row.text(0, 1) + " TO " + role);
    }
    if (!row.boolean(0, 3)) {
        throw misconfigured("missing_right",
                            "role " + role + " may not make the role millrace_app: as a superuser "
                            "run CREATE ROLE millrace_app NOLOGIN, or ALTER ROLE " + role +
                                " CREATEROLE");
    }
}

void check_name(const std::string& name, bool is_the_databases) {
    const bool is_fit = !name.empty() && name.size() <= kNameLengthMax &&
                        std::all_of(name.begin(), name.end(), [](char c) {
                            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
                                   c == '-';
                        });
    if (is_fit) return;
    throw misconfigured("installation_name",
                        (is_the_databases ? "the database's name '" : "the name '") + name +
                            "' does not fit [a-z0-9_-]{1,40}: give another by --name");
}

Failure differs(const std::string& what) { return misconfigured("installation_differs", what); }

std::string prefix_for(const Config& config, const std::string& name) {
    const std::string& wanted = config.text("kafka.prefix");
    return wanted.empty() ? "millrace." + name : wanted;
}

Installation make_installation(const Config& config, const InstallOptions& options,
                               const DatabaseIdentity& here, const std::string& cluster_id) {
    Installation made;
    made.id = Uuid::random();
    made.name = options.name.value_or(here.database_name);
    check_name(made.name, !options.name);
    made.prefix = prefix_for(config, made.name);
    made.kafka_cluster_id = cluster_id;
    made.system_identifier = here.system_identifier;
    made.database_oid = here.database_oid;
    made.lane_count = options.lane_count.value_or(kDefaultLaneCount);
    return made;
}

// A copied database: either the installation moved here, or it becomes one of its own.
Installation adopt_copy(pg::Session& session, const Config& config, const InstallOptions& options,
                        const Installation& original, const DatabaseIdentity& here,
                        const std::string& cluster_id, std::vector<std::string>& done) {
    if (options.moved) {
        Installation moved = original;
        moved.system_identifier = here.system_identifier;
        moved.database_oid = here.database_oid;
        replace_installation(session, moved);
        done.push_back("installation " + moved.name + " now lives in this database");
        return moved;
    }
    Installation made = make_installation(config, options, here, cluster_id);
    made.lane_count = original.lane_count;
    if (made.prefix == original.prefix) {
        throw differs("the prefix '" + made.prefix +
                      "' is the original's: give another --name, and another kafka.prefix if one "
                      "is configured");
    }
    replace_installation(session, made);
    const int64_t waiting = Operator(session).begin_anew();
    done.push_back("installation " + made.name + " made of a copy of " + original.name);
    if (waiting > 0) {
        done.push_back("note: the copy holds " + std::to_string(waiting) +
                       " tasks of the original, which this installation will publish too");
    }
    return made;
}

void check_same_options(const InstallOptions& options, const Installation& found) {
    if (options.name && *options.name != found.name) {
        throw differs("the installation is called '" + found.name +
                      "': a name can't be changed, as everything in Kafka is named after it; leave "
                      "--name out");
    }
    if (options.lane_count && *options.lane_count != found.lane_count) {
        throw differs("the installation has " + std::to_string(found.lane_count) +
                      " lanes: their number is fixed when it is made; leave --lanes out");
    }
}

Installation ensure_installation(pg::Session& session, const Config& config,
                                 const InstallOptions& options, const std::string& cluster_id,
                                 std::vector<std::string>& done) {
    const DatabaseIdentity here = database_identity(session);
    const std::optional<Installation> found = find_installation(session);
    if (!found) {
        Installation made = make_installation(config, options, here, cluster_id);
        insert_installation(session, made);
        done.push_back("installation " + made.name + " made: " +
                       std::to_string(made.lane_count) + " lanes, prefix " + made.prefix +
                       ", id " + made.id.text());
        return made;
    }
    Installation current = *found;
    const bool is_copy = here.system_identifier != found->system_identifier ||
                         here.database_oid != found->database_oid;
    const bool has_new_name = options.name && *options.name != found->name;
    if (is_copy && (options.moved || has_new_name)) {
        current = adopt_copy(session, config, options, *found, here, cluster_id, done);
    } else {
        check_same_options(options, current);
        require_installation(session);
    }
    check_same_installation(config, current, cluster_id);
    if (!current.kafka_cluster_id) set_kafka_cluster(session, cluster_id);
    return current;
}

}  // namespace

Installing install(const Config& config, const InstallOptions& options, kafka::Reaper& reaper) {
    // First of all: without Kafka the installation could not be finished.
    const std::string cluster_id = kafka_cluster_id(config, reaper);
    pg::SessionOptions session_settings = session_options(config);
    session_settings.call_timeout = std::chrono::minutes(10);
    pg::Session session(session_settings);

    Installing all;
    pg::Transaction transaction(session);
    check_rights(session);
    for (const AppliedMigration& migration :
         migrate(session, options.lane_count.value_or(kDefaultLaneCount))) {
        all.done.push_back("applied migration " + migration.name);
    }
    const Installation installation =
        ensure_installation(session, config, options, cluster_id, all.done);
    // While nothing is kept yet: another name can still be given. Kafka may take longer to answer
    // than a transaction may idle.
    session.execute("SET LOCAL idle_in_transaction_session_timeout = 0");
    check_prefix(kafka_options(config), installation, reaper);
    transaction.commit();

    ensure_ledger_topic(kafka_options(config), installation, config.count("kafka.replication"),
                        reaper);
    all.done.push_back("ledger topic " + installation.ledger_topic() + " is there and ours");

    InstalledProjections projections = install_projections(config, session);
    all.done.insert(all.done.end(), projections.done.begin(), projections.done.end());
    all.refused = std::move(projections.refused);
    return all;
}

std::string kafka_cluster_id(const Config& config, kafka::Reaper& reaper) {
    const kafka::Client client(
        kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(kafka_options(config), {})),
        kafka::Bury{&reaper, nullptr});
    return kafka::Admin(client.get()).cluster_id();
}

void check_same_installation(const Config& config, const Installation& installation,
                             const std::string& cluster_id) {
    const std::string& prefix = config.text("kafka.prefix");
    if (!prefix.empty() && prefix != installation.prefix) {
        throw differs("kafka.prefix is '" + prefix + "', the installation was made with '" +
                      installation.prefix + "': leave kafka.prefix empty");
    }
    if (installation.kafka_cluster_id && *installation.kafka_cluster_id != cluster_id) {
        throw differs("kafka.brokers leads to cluster " + cluster_id +
                      ", the installation's ledger is in cluster " +
                      *installation.kafka_cluster_id +
                      ": point kafka.brokers at that one");
    }
}

}  // namespace millrace
