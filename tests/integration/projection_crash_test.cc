// The worker as it ships dies at each point of a batch, or stops in the middle of one, and who goes
// on applies each event once (PROTOCOL 7.1, 7.2a). The read model is held against a fold of the
// test's own over the topic.

#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/feed.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

constexpr int kPartitionCount = 8;
constexpr int kEventCount = 8000;

// One row of the read model.
struct Folded {
    int64_t events = 0;
    int64_t sum = 0;
    int64_t last = 0;
    friend bool operator==(const Folded&, const Folded&) = default;
};
using Fold = std::map<std::string, Folded>;

Fold fold_of(const std::string& topic) {
    Fold fold;
    for (const SeenRecord& record : read_topic(topic)) {
        const int64_t n = nlohmann::json::parse(*record.value)["n"];
        Folded& row = fold[*record.key];
        ++row.events;
        row.sum += n;
        row.last = n;
    }
    return fold;
}

class ShippedWorker : public testing::Test {
  protected:
    ShippedWorker() {
        std::string text = installed_.config();
        const auto replace = [&text](const std::string& from, const std::string& to) {
            text.replace(text.find(from), from.size(), to);
        };
        replace("relay: {lease: 1s, ", "relay: {enabled: false, ");
        // The linger makes each batch a full one.
        replace("projections: {enabled: false}",
                "projections: {threads: 1, session_timeout: 1s,"
                " batch: {events: 100, linger: 500ms}}");
        config_ = folder_.write("millrace.yaml", text);
        folder_.write(
            "projections/folded.sql",
            "/* millrace projection\n"
            "version: 1\n"
            "topics: [" + installed_.topic + "]\n"
            "columns:\n"
            "  n: {type: bigint, path: $.n}\n"
            "  filler: {type: text, path: $.filler}\n"
            "*/\n"
            "-- table\n"
            "CREATE TABLE folded (key text PRIMARY KEY, events bigint, sum bigint,\n"
            "                     last bigint)\n"
            "-- apply\n"
            "INSERT INTO folded AS t\n"
            "SELECT _key, count(*), sum(n + 0 * nextval('public.attempts'))\n"
            "FROM batch GROUP BY _key ORDER BY _key\n"
            "ON CONFLICT (key) DO UPDATE SET events = t.events + excluded.events,\n"
            "                                sum = t.sum + excluded.sum\n"
            "-- apply\n"
            "UPDATE folded AS t SET last = l.n FROM batch_last AS l WHERE l._key = t.key\n");
    }

    void migrate() const {
        installed_.execute("CREATE SEQUENCE public.attempts");
        const Finished up = run_program({"migrate", "up", "--config", config_});
        ASSERT_EQ(up.exit_code, 0) << up.output;
        // Its probe has applied events, too.
        installed_.execute("ALTER SEQUENCE public.attempts RESTART");
    }

    // Events that reached the statement, whether its batch was committed or not: a sequence keeps
    // what was drawn in a transaction that is rolled back.
    int64_t attempts() const { return installed_.number("SELECT last_value FROM public.attempts"); }

    Process run(const std::string& crash_at) const {
        return Process({.arguments = {"run", "--config", config_},
                        .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                        .log_name = "projection"});
    }

    Fold read_model() const {
        pg::Session session = installed_.database.connect();
        const pg::Result rows =
            session.execute("SELECT key, events, sum, coalesce(last, 0) FROM folded_v1.folded");
        Fold fold;
        for (int i = 0; i < rows.row_count(); ++i) {
            fold[rows.text(i, 0)] = {.events = rows.integer(i, 1),
                                     .sum = rows.integer(i, 2),
                                     .last = rows.integer(i, 3)};
        }
        return fold;
    }

    bool applies(int64_t count) const {
        return eventually(60s, [&] {
            return installed_.number("SELECT coalesce(sum(events), 0)::bigint "
                                     "FROM folded_v1.folded") >= count;
        });
    }

    Installed installed_{12, kPartitionCount};
    Folder folder_;
    std::string config_;
};

class ProjectionCrash : public ShippedWorker,
                        public testing::WithParamInterface<std::tuple<std::string, int>> {};

TEST_P(ProjectionCrash, LeavesEachEventAppliedOnce) {
    const auto& [point, nth] = GetParam();
    migrate();
    Feed feed(installed_.topic);
    feed.send_counted(kEventCount, 80, kPartitionCount);

    Process victim = run("consumer." + point + ":" + std::to_string(nth));
    ASSERT_EQ(victim.wait(60s), 128 + SIGKILL) << victim.log();
    ASSERT_TRUE(victim.has_logged("crash point consumer." + point + " fired")) << victim.log();
    // Batches before the one that died are there, whole.
    const bool is_of_batch = point != "after_assign";
    const int64_t applied =
        installed_.number("SELECT coalesce(sum(events), 0)::bigint FROM folded_v1.folded");
    EXPECT_EQ(applied, is_of_batch ? 100 * (point == "after_commit" ? nth : nth - 1) : 0);

    Process successor = run("");
    ASSERT_TRUE(applies(kEventCount)) << successor.log();
    feed.send_counted(800, 80, kPartitionCount);
    ASSERT_TRUE(applies(kEventCount + 800)) << successor.log();
    successor.signal(SIGTERM);
    EXPECT_EQ(successor.wait(20s), 0) << successor.log();

    EXPECT_EQ(read_model(), fold_of(installed_.topic));
    // At most what one loop had sent is applied again.
    EXPECT_GE(attempts(), kEventCount + 800);
    EXPECT_LE(attempts(), kEventCount + 800 + 100);
}

// A batch that has its position's lock, and whose rest the server waits for.
enum class Send { kNone, kUnderWay, kWaitsForRest };

Send look_at_send(pg::Session& session) {
    const pg::Result row = session.execute(
        "SELECT a.wait_event IS NOT DISTINCT FROM 'ClientRead' FROM pg_locks l "
        "JOIN pg_stat_activity a USING (pid) "
        "WHERE l.relation = 'millrace.positions'::regclass AND l.mode = 'RowExclusiveLock' "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())");
    if (row.row_count() == 0) return Send::kNone;
    return row.boolean(0, 0) ? Send::kWaitsForRest : Send::kUnderWay;
}

// True if the worker now stands still in the middle of a batch of 2 MB.
bool stops_in_a_batch(const Process& worker, Feed& feed, pg::Session& session) {
    feed.send_large(20);
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (look_at_send(session) == Send::kNone) {
        if (std::chrono::steady_clock::now() > limit) return false;
    }
    worker.signal(SIGSTOP);
    // What it had sent is read by now, or is read soon.
    Send last = Send::kUnderWay;
    eventually(20s, [&] {
        last = look_at_send(session);
        return last != Send::kUnderWay;
    });
    if (last == Send::kWaitsForRest) return true;
    worker.signal(SIGCONT);
    return false;
}

// PROTOCOL 7.2a: no time-out of PostgreSQL ends the batch of a client that stands still.
TEST_F(ShippedWorker, StoppedInABatchLosesItsPartitionsToOthers) {
    migrate();
    Feed feed(installed_.topic);
    feed.send_counted(80, 80, kPartitionCount);
    Process stopped = run("");
    ASSERT_TRUE(applies(80)) << stopped.log();
    pg::Session session = installed_.database.connect();
    bool stands = false;
    for (int i = 0; i < 50 && !stands; ++i) {
        stands = stops_in_a_batch(stopped, feed, session);
        if (!stands) {
            ASSERT_TRUE(applies(feed.sent_count())) << stopped.log();
        }
    }
    ASSERT_TRUE(stands) << "never met in the middle of a batch";

    Process successor = run("");
    feed.send_counted(80, 80, kPartitionCount);
    ASSERT_TRUE(applies(feed.sent_count())) << successor.log();
    EXPECT_TRUE(successor.has_logged("session of the earlier owner ended")) << successor.log();

    stopped.signal(SIGCONT);
    feed.send_counted(800, 80, kPartitionCount);
    ASSERT_TRUE(applies(feed.sent_count())) << successor.log();
    EXPECT_TRUE(stopped.is_running()) << stopped.log();
    EXPECT_EQ(read_model(), fold_of(installed_.topic));
}

INSTANTIATE_TEST_SUITE_P(
    Points, ProjectionCrash,
    testing::Combine(testing::Values("after_assign", "after_cas", "mid_apply", "before_commit",
                                     "after_commit"),
                     testing::Values(1, 7)),
    [](const testing::TestParamInfo<std::tuple<std::string, int>>& test) {
        return std::get<0>(test.param) + "_" + std::to_string(std::get<1>(test.param));
    });

}  // namespace
}  // namespace millrace::test
