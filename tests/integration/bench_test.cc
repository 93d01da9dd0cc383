// `millrace bench` as it ships: what it prints, and that it leaves nothing on the servers.

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/failure.h"
#include "core/uuid.h"
#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// Under a role of its own, by which its databases are told from those of other benches.
class Bench : public testing::Test {
  protected:
    void SetUp() override { session_.execute("CREATE ROLE " + role_ + " LOGIN SUPERUSER"); }
    // Refused as long as it owns a database.
    void TearDown() override { session_.execute("DROP ROLE " + role_); }

    Process start(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), "bench");
        arguments.insert(arguments.end(), {"--output", "json"});
        return Process(
            {.arguments = std::move(arguments),
             .environment = {{"MILLRACE_POSTGRES_URL", database_.url() + " user=" + role_},
                             {"MILLRACE_KAFKA_BROKERS", brokers()},
                             {"TMPDIR", temporary_.path().string()}},
             .log_name = "bench"});
    }

    // Its databases of this moment; it has one for each measurement, and one to warm up.
    std::set<std::string> databases() {
        const pg::Result rows =
            session_.execute("SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = $1",
                             pg::Params().text(role_));
        std::set<std::string> names;
        for (int i = 0; i < rows.row_count(); ++i) names.insert(rows.text(i, 0));
        seen_databases_.insert(names.begin(), names.end());
        return names;
    }

    bool has_worker() {
        return session_
                   .execute(
                       "SELECT FROM pg_stat_activity WHERE usename = $1 "
                       "AND application_name = 'millrace lease'",
                       pg::Params().text(role_))
                   .row_count() > 0;
    }

    // Topics that carry the name of one of these databases.
    static std::vector<std::string> topics_of(const std::set<std::string>& databases) {
        std::vector<std::string> found;
        for (const std::string& topic : topic_names()) {
            for (const std::string& database : databases) {
                if (topic.find(database) != std::string::npos) found.push_back(topic);
            }
        }
        return found;
    }

    void expect_nothing_is_left() {
        EXPECT_EQ(databases(), std::set<std::string>{});
        EXPECT_TRUE(eventually(30s, [&] { return topics_of(seen_databases_).empty(); }))
            << testing::PrintToString(topics_of(seen_databases_));
        EXPECT_TRUE(std::filesystem::is_empty(temporary_.path()));
    }

    const std::string role_ = "r" + Uuid::random().text().substr(0, 8);
    const Folder temporary_;
    const Database database_ = Database::bare();
    pg::Session session_ = database_.connect();
    std::set<std::string> seen_databases_;
};

// Standard output follows progress on standard error, whose lines are indented.
nlohmann::json rows_in(const std::string& log) {
    return nlohmann::json::parse(log.substr(log.find("\n[") + 1));
}

void expect_positive(const nlohmann::json& row, const std::vector<std::string>& figures) {
    for (const std::string& figure : figures) {
        ASSERT_TRUE(row.contains(figure) && row[figure].is_number()) << figure << " of " << row;
        EXPECT_GT(row[figure].get<double>(), 0) << figure << " of " << row;
    }
}

TEST_F(Bench, PrintsItsFiguresAndLeavesNothing) {
    Process bench = start({"drain", "latency", "--tasks", "20000", "--seconds", "1"});

    ASSERT_TRUE(eventually(200s, [&] {
        databases();
        return !bench.is_running();
    })) << bench.log();

    EXPECT_EQ(bench.wait(0s), 0) << bench.log();
    EXPECT_EQ(seen_databases_.size(), 3U);
    expect_nothing_is_left();
    const nlohmann::json rows = rows_in(bench.log());
    ASSERT_EQ(rows.size(), 2U) << rows;
    EXPECT_EQ(rows[0]["measure"], "drain of 20,000 tasks");
    expect_positive(rows[0],
                    {"tasks/s", "seconds", "worker us/task", "transactions/s", "worker MiB"});
    EXPECT_EQ(rows[1]["measure"], "commit to visible, 1,000/s");
    expect_positive(rows[1],
                    {"p50 ms", "p99 ms", "max ms", "tasks/s", "transactions/s", "worker us/task"});
    EXPECT_LE(rows[1]["p50 ms"], rows[1]["p99 ms"]);
    EXPECT_LE(rows[1]["p99 ms"], rows[1]["max ms"]);
}

TEST_F(Bench, StoppedInTheMiddlePrintsWhatIsFinishedAndLeavesNothing) {
    Process bench = start({"drain", "latency", "--tasks", "20000", "--seconds", "600"});
    // The third is that of the latency.
    ASSERT_TRUE(eventually(200s, [&] {
        const std::set<std::string> now = databases();
        return !bench.is_running() || (seen_databases_.size() == 3 && now.size() == 1 &&
                                       has_worker() && topics_of(now).size() == 2);
    })) << bench.log();

    bench.signal(SIGINT);

    EXPECT_EQ(bench.wait(60s), kExitFailed) << bench.log();
    expect_nothing_is_left();
    const nlohmann::json rows = rows_in(bench.log());
    ASSERT_EQ(rows.size(), 1U) << rows;
    EXPECT_EQ(rows[0]["measure"], "drain of 20,000 tasks");
}

}  // namespace
}  // namespace millrace::test
