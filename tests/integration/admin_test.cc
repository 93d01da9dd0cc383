// `run` as an operator meets it: start, health, outages, stop.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "app/admin_server.h"
#include "app/health.h"
#include "core/failure.h"
#include "core/uuid.h"
#include "tests/support/admin_client.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/forwarder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;

// Nobody listens there, or did a moment ago.
int free_port() {
    const int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bind(socket_fd, reinterpret_cast<sockaddr*>(&address), size);
    getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address), &size);
    close(socket_fd);
    return ntohs(address.sin_port);
}

class Admin : public testing::Test {
  protected:
    // The installed configuration with keys of this test's.
    Process run(std::map<std::string, std::string> environment = {},
                std::vector<std::string> arguments = {"run"}) const {
        arguments.insert(arguments.end(),
                         {"--config", write_file("millrace.yaml", installed_.config())});
        return Process({.arguments = std::move(arguments), .environment = std::move(environment)});
    }

    // PostgreSQL by this way.
    std::map<std::string, std::string> by(const Forwarder& postgres) const {
        return {{"MILLRACE_POSTGRES_URL", installed_.database.url_by(postgres.port())}};
    }

    static std::string status_of(const AdminClient& admin) {
        const std::string body = admin.get("/readyz");
        return body.empty() ? "" : nlohmann::json::parse(body)["status"].get<std::string>();
    }

    // Ready, with nothing to complain about.
    static bool is_ready(const AdminClient& admin) { return status_of(admin) == "ready"; }

    Installed installed_;
};

TEST_F(Admin, AHealthyProcessIsAliveAndReadyAndShowsMetrics) {
    Process process = run();
    const AdminClient admin(process);

    ASSERT_TRUE(eventually(20s, [&] { return is_ready(admin); })) << process.log();
    EXPECT_THAT(admin.get("/livez"), HasSubstr("alive"));
    EXPECT_EQ(admin.metric("millrace_build_info{version="), 1);
    EXPECT_EQ(admin.metric("millrace_postgres_up"), 1);
    // The keeper's first round trip, and the lanes, come a moment later.
    EXPECT_TRUE(eventually(20s, [&] { return admin.metric("millrace_kafka_up") == 1; }));
    EXPECT_TRUE(eventually(20s, [&] { return admin.metric("millrace_relay_lanes_owned") == 12; }));
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait(20s), 0) << process.log();
    EXPECT_TRUE(process.has_logged("handed over")) << process.log();
}

TEST_F(Admin, AHaltedLaneDegradesWithoutMakingUnready) {
    pg::Session session = installed_.database.connect();
    session.execute("UPDATE millrace.relay_lanes SET halted = 'topic_missing: t' WHERE lane = 4");
    Process process = run();
    const AdminClient admin(process);

    ASSERT_TRUE(eventually(20s, [&] { return status_of(admin) == "degraded"; })) << process.log();

    const std::string body = admin.get("/readyz");
    EXPECT_THAT(body, HasSubstr("lane 4 is halted: topic_missing: t"));
    EXPECT_THAT(body, HasSubstr("\"postgres\":\"up\""));
}

TEST_F(Admin, WaitsForPostgresAtStartAndGoesOnWhenItComes) {
    Forwarder postgres(installed_.database.server_address());
    Process process = run(by(postgres));
    const AdminClient admin(process);

    ASSERT_TRUE(eventually(20s, [&] { return process.has_logged("waits for a server"); }));
    EXPECT_THAT(admin.get("/readyz"), HasSubstr("waits for its start: pg_unreachable"));
    EXPECT_THAT(admin.get("/livez"), HasSubstr("alive"));
    postgres.open();

    EXPECT_TRUE(eventually(20s, [&] { return is_ready(admin); })) << process.log();
    EXPECT_TRUE(process.has_logged("the servers answer"));
}

TEST_F(Admin, WaitsForKafkaAtStartAndGoesOnWhenItComes) {
    Forwarder kafka(brokers());
    Process process = run({{"MILLRACE_KAFKA_BROKERS", kafka.address()}});
    const AdminClient admin(process);

    ASSERT_TRUE(eventually(40s, [&] { return process.has_logged("waits for a server"); }));
    EXPECT_THAT(admin.get("/readyz"), HasSubstr("waits for its start: kafka_unreachable"));
    kafka.open();

    EXPECT_TRUE(eventually(40s, [&] { return is_ready(admin); })) << process.log();
}

TEST_F(Admin, AProcessMayOpenAsManyFilesAsTheSystemLetsIt) {
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit low{.rlim_cur = 1024, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    Process process = run({});
    setrlimit(RLIMIT_NOFILE, &before);

    rlimit after{};
    EXPECT_TRUE(eventually(20s, [&] {
        return prlimit(process.pid(), RLIMIT_NOFILE, nullptr, &after) == 0 &&
               after.rlim_cur == before.rlim_max;
    })) << after.rlim_cur;
}

TEST_F(Admin, StopsAtOnceWhileItWaits) {
    const Forwarder postgres(installed_.database.server_address());
    Process process = run(by(postgres));
    ASSERT_TRUE(eventually(20s, [&] { return process.has_logged("waits for a server"); }));

    process.signal(SIGINT);

    EXPECT_EQ(process.wait(5s), 0) << process.log();
}

TEST_F(Admin, PostgresGoneInTheMiddleMakesUnreadyButNotDeadAndComesBack) {
    Forwarder postgres(installed_.database.server_address());
    postgres.open();
    Process process = run(by(postgres));
    const AdminClient admin(process);
    ASSERT_TRUE(eventually(20s, [&] { return is_ready(admin); })) << process.log();

    postgres.close();
    ASSERT_TRUE(eventually(20s, [&] { return status_of(admin) == "unavailable"; }));
    EXPECT_THAT(admin.get("/readyz"), HasSubstr("PostgreSQL does not answer"));
    EXPECT_EQ(admin.metric("millrace_postgres_up"), 0);
    // Loops that wait are not silent: the keeper was, and a minute's outage made /livez 503.
    std::this_thread::sleep_for(12s);
    const auto live = nlohmann::json::parse(admin.get("/livez"));
    EXPECT_EQ(live["status"], "alive");
    EXPECT_LT(live["longest_silence_s"], 10);
    installed_.insert(20);
    postgres.open();

    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; })) << process.log();
    EXPECT_TRUE(eventually(30s, [&] { return is_ready(admin); })) << admin.get("/readyz");
}

TEST_F(Admin, ABusyPortEndsWith78AndNamesTheKey) {
    Process first = run();
    ASSERT_TRUE(eventually(20s, [&] { return first.has_logged("listening"); }));
    const std::string log = first.log();
    std::smatch found;
    ASSERT_TRUE(std::regex_search(log, found, std::regex("127\\.0\\.0\\.1:[0-9]+")));

    Process second = run({{"MILLRACE_ADMIN_LISTEN", found[0]}});

    EXPECT_EQ(second.wait(10s), kExitConfiguration);
    EXPECT_TRUE(second.has_logged("admin.listen: " + found[0].str())) << second.log();
}

TEST_F(Admin, AMistakeInAProjectionEndsWith78AtStart) {
    const Folder folder;
    folder.write("broken.sql", "no projection");
    Process process = run({{"MILLRACE_PROJECTIONS_ENABLED", "true"},
                           {"MILLRACE_PROJECTIONS_FOLDER", folder.path().string()}});

    EXPECT_EQ(process.wait(30s), kExitConfiguration);
    EXPECT_TRUE(process.has_logged("projection_file")) << process.log();
}

TEST(Livez, IsOnlyRefusedForAThreadThatHasBeenSilentForAMinute) {
    std::atomic<int> silence{59};
    Health health;
    health.watch([&silence] {
        return LoopStatus{.reasons = {}, .longest_silence = std::chrono::seconds(silence)};
    });
    Metrics metrics;
    const int port = free_port();
    const AdminServer server("127.0.0.1:" + std::to_string(port), health, metrics);

    EXPECT_EQ(page_at(port, "/livez").status, 200);
    silence = 60;
    EXPECT_EQ(page_at(port, "/livez").status, 503);
    EXPECT_THAT(page_at(port, "/livez").body, HasSubstr("stuck"));
}

TEST(Readyz, SaysSinceWhenAServerGaveNoAnswer) {
    Health health;
    health.set_start("");
    EXPECT_THAT(health.readiness().reasons, Contains("Kafka does not answer: not asked yet"));
    health.note_answer(Server::kKafka);
    EXPECT_TRUE(health.readiness().kafka_up);

    // A probe whose call hangs notes nothing more.
    ASSERT_TRUE(eventually(20s, [&] { return !health.readiness().kafka_up; }));
    EXPECT_THAT(health.readiness().reasons, Contains("Kafka does not answer: no answer for 5 s"));
}

// The server asks the members of one role for a password, and trusts all others.
TEST_F(Admin, AWrongPasswordEndsWith78AtStart) {
    pg::Session session = installed_.database.connect();
    session.run_script(
        "DO $$ BEGIN CREATE ROLE needs_password; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$");
    const std::string role = fresh_name("worker");
    session.execute("CREATE ROLE \"" + role + "\" LOGIN PASSWORD 'right' IN ROLE needs_password");
    const auto with_password = [&](const std::string& password) {
        return installed_.database.url() + " user=" + role + " password=" + password;
    };
    {
        EXPECT_NO_THROW(pg::Session({.url = with_password("right")}));
        Process process = run({{"MILLRACE_POSTGRES_URL", with_password("wrong")}});

        EXPECT_EQ(process.wait(10s), kExitConfiguration);
        EXPECT_TRUE(process.has_logged("pg_refused")) << process.log();
        EXPECT_TRUE(process.has_logged("password authentication failed")) << process.log();
    }
    session.execute("DROP ROLE \"" + role + "\"");
}

TEST_F(Admin, ARoleThatIsRefusedEndsWith78AtStart) {
    Process process =
        run({{"MILLRACE_POSTGRES_URL", installed_.database.url() + " user=nobody_such"}});

    EXPECT_EQ(process.wait(10s), kExitConfiguration);
    EXPECT_TRUE(process.has_logged("pg_refused")) << process.log();
}

TEST_F(Admin, AnotherClusterThanTheInstallationsEndsWith78) {
    installed_.database.connect().execute(
        "UPDATE millrace.installation SET kafka_cluster_id = 'elsewhere'");

    Process process = run();

    EXPECT_EQ(process.wait(20s), kExitConfiguration);
    EXPECT_TRUE(process.has_logged("installation_differs")) << process.log();
}

TEST_F(Admin, ADatabaseWithoutSchemaEndsWith78UnlessToldToMigrate) {
    const Database bare = Database::bare();
    const std::map<std::string, std::string> environment{
        {"MILLRACE_POSTGRES_URL", bare.url()},
        {"MILLRACE_KAFKA_REPLICATION", "1"}};
    Process refused = run(environment);
    EXPECT_EQ(refused.wait(20s), kExitConfiguration);
    EXPECT_TRUE(refused.has_logged("millrace migrate up")) << refused.log();

    // The name of a test's database is too long for an installation.
    const std::string short_name = "d" + Uuid::random().text().substr(0, 8);
    bare.connect().execute("CREATE DATABASE \"" + short_name + "\"");
    auto with_name = environment;
    with_name["MILLRACE_POSTGRES_URL"] = bare.url() + " dbname=" + short_name;
    {
        Process process = run(with_name, {"run", "--migrate"});
        const AdminClient admin(process);
        EXPECT_TRUE(eventually(30s, [&] { return is_ready(admin); })) << process.log();
    }
    bare.connect().execute("DROP DATABASE \"" + short_name + "\" WITH (FORCE)");
}

TEST_F(Admin, NothingToRunEndsWith78) {
    Process process = run({{"MILLRACE_RELAY_ENABLED", "false"}});

    EXPECT_EQ(process.wait(20s), kExitConfiguration);
    EXPECT_TRUE(process.has_logged("nothing_to_run")) << process.log();
}

}  // namespace
}  // namespace millrace::test
