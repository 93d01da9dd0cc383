#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/key_totals.h"
#include "tests/support/process.h"
#include "tests/support/set_aside.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// What has to happen beside the load for a point to be passed once more.
enum class Provoke {
    kNothing,           // The load alone passes it.
    kNewTake,           // The publisher's session is ended, so it takes and settles again.
    kDoubt,             // COMMIT fails after the Kafka commit, so it redoes.
    kDeadNeighbour,     // Another relay is killed while it owns lanes, so the keeper settles it.
    kComingAndGoing,    // Another relay comes and goes, so lanes move.
    kTermination,       // SIGTERM.
    kPoison,            // Tasks that the broker refuses stand in the way of keys, and are retried.
    kMissingTopic,      // Tasks of a topic that is missing are retried.
};

struct Point {
    std::string name;
    Provoke provoke;
};

const Point kPoints[] = {
    {"after_take", Provoke::kNewTake},
    {"after_init", Provoke::kNewTake},
    {"mid_redo", Provoke::kDoubt},
    {"after_settle", Provoke::kNewTake},
    {"after_claim", Provoke::kNothing},
    {"after_begin", Provoke::kNothing},
    {"mid_produce", Provoke::kNothing},
    {"after_ledger", Provoke::kNothing},
    {"before_kafka_commit", Provoke::kNothing},
    {"after_kafka_commit", Provoke::kNothing},
    {"before_pg_commit", Provoke::kNothing},
    {"after_pg_commit", Provoke::kNothing},
    {"mid_lane_move", Provoke::kComingAndGoing},
    {"keeper_settled", Provoke::kDeadNeighbour},
    {"mid_handover", Provoke::kTermination},
    {"after_park", Provoke::kPoison},
    {"after_set_aside", Provoke::kPoison},
    {"after_take_back", Provoke::kMissingTopic},
};

class RelayCrash : public testing::TestWithParam<std::tuple<Point, int>> {
  protected:
    // Every second change of a publisher's seq fails at COMMIT: the claim's, not the redo's that
    // follows it.
    void make_commits_fail() {
        pg::Session session = installed_.database.connect();
        session.run_script(R"(
            CREATE SEQUENCE public.flip;
            CREATE FUNCTION public.fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF nextval('public.flip') % 2 = 1 THEN RAISE 'this COMMIT fails'; END IF;
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER fail_at_commit AFTER UPDATE OF seq
            ON millrace.relay_publishers DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.fail_at_commit())");
    }

    void let_commits_pass() {
        pg::Session session = installed_.database.connect();
        session.execute("DROP TRIGGER IF EXISTS fail_at_commit ON millrace.relay_publishers");
    }

    void end_publisher_sessions() {
        pg::Session session = installed_.database.connect();
        session.execute(R"(
            SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
            JOIN millrace.relay_publishers p ON p.pid = a.pid AND p.started = a.backend_start
            WHERE p.running)");
    }

    int64_t running_count() const {
        return installed_.number(
            "SELECT count(*) FROM millrace.relay_publishers WHERE running");
    }

    // Publishers beside the victim's that own lanes.
    int64_t other_count() const {
        return installed_.number("SELECT count(DISTINCT publisher) - 1 FROM millrace.relay_lanes");
    }

    // What applies the topic to a read model all the while.
    Process start_worker() {
        const std::string config = write_file("worker.yaml", totals_.config());
        return Process(
            {.arguments = {"run", "--config", config}, .environment = {}, .log_name = "worker"});
    }

    Process start(const std::string& crash_at, int publishers) {
        const std::string config = write_file("relay.yaml", installed_.config(publishers));
        return Process({.arguments = {"run", "--config", config},
                        .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                        .log_name = "relay"});
    }

    // One more passage of the point, as far as the load does not bring it by itself.
    void provoke(Provoke how, Process& victim) {
        if (how == Provoke::kNewTake) end_publisher_sessions();
        if (how == Provoke::kTermination && !terminated_) {
            // Once: a second signal means to end at once.
            terminated_ = true;
            victim.signal(SIGTERM);
        }
        if (how == Provoke::kPoison) poison();
        if (how == Provoke::kMissingTopic) name_missing_topic();
        if (how != Provoke::kDeadNeighbour && how != Provoke::kComingAndGoing) return;
        Process neighbour = start("", 1);
        eventually(5s, [&] { return !victim.is_running() || other_count() > 0; });
        if (how == Provoke::kDeadNeighbour) {
            neighbour.kill();
            eventually(
                5s, [&] { return !victim.is_running() || other_count() == 0; });
            return;
        }
        neighbour.signal(SIGTERM);
        neighbour.wait(20s);
    }

    // One at a time, each in the way of a key; those that were found are tried again.
    void poison() {
        if (installed_.number("SELECT count(*) FROM millrace.pending_tasks "
                              "WHERE task_type = 'Refused'") > 0) {
            return;
        }
        insert_refused(installed_, "k" + std::to_string(++poison_count_ % 40));
        if (poison_count_ % 3 == 0) retry(installed_, {.reason = "task_refused"});
    }

    void name_missing_topic() {
        if (missing_topic_.empty()) {
            missing_topic_ = fresh_name("missing");
            installed_.execute(
                "INSERT INTO millrace.pending_tasks (topic, key, task_type) SELECT '" +
                missing_topic_ + "', 'm' || i % 5, 'T' FROM generate_series(1, 20) i");
        }
        retry(installed_, {.reason = "topic_missing"});
    }

    // What nobody can publish is given up, which releases what waited behind it.
    bool give_up_poison() {
        discard(installed_, {.reason = "task_refused"});
        if (!missing_topic_.empty()) discard(installed_, {.topic = missing_topic_});
        return installed_.pending_count() == 0 && dead_count(installed_) == 0;
    }

    Installed installed_;
    KeyTotals totals_{installed_};
    bool terminated_ = false;
    int poison_count_ = 0;
    std::string missing_topic_;
};

// PROTOCOL 2.6, 3.5 to 3.7, 4.2, 4.3, 5.1, 5.2, 5.3: wherever it dies, each committed task is
// published once, in the order of its key, and applied once in that order.
TEST_P(RelayCrash, LosesDoublesAndReordersNothing) {
    const auto& [point, nth] = GetParam();
    // Publishers hand over one after the other, so the seventh passage takes seven of them.
    const int publishers = point.provoke == Provoke::kTermination ? nth : 1;
    if (point.provoke == Provoke::kDoubt) make_commits_fail();

    Process worker = start_worker();
    Process victim = start("relay." + point.name + ":" + std::to_string(nth), publishers);
    ASSERT_TRUE(eventually(60s, [&] {
        if (!victim.is_running()) return true;
        installed_.insert(150, 40);
        // All of its publishers run, so that all have something to hand over.
        if (running_count() == publishers || point.provoke == Provoke::kDoubt) {
            provoke(point.provoke, victim);
        }
        return false;
    })) << victim.log();
    ASSERT_TRUE(victim.has_logged("crash point relay." + point.name + " fired")) << victim.log();
    let_commits_pass();

    Process successor = start("", 1);
    installed_.insert(200, 40);
    ASSERT_TRUE(eventually(60s, [&] { return give_up_poison(); })) << successor.log();
    successor.signal(SIGTERM);
    EXPECT_EQ(successor.wait(20s), 0) << successor.log();

    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text() << successor.log();
    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
    installed_.store_truth();
    EXPECT_TRUE(eventually(20s, [&] { return totals_.missing_count() == 0; })) << worker.log();
    EXPECT_EQ(totals_.wrong_count(), 0) << worker.log();
}

INSTANTIATE_TEST_SUITE_P(
    Points, RelayCrash,
    testing::Combine(testing::ValuesIn(kPoints), testing::Values(1, 7)),
    [](const testing::TestParamInfo<std::tuple<Point, int>>& test) {
        return std::get<0>(test.param).name + "_" + std::to_string(std::get<1>(test.param));
    });

// PROTOCOL 4.1: the transaction that stores the counters.
INSTANTIATE_TEST_SUITE_P(
    WhileCountersAreStored, RelayCrash,
    testing::Combine(testing::Values(Point{"before_kafka_commit", Provoke::kNothing},
                                     Point{"after_kafka_commit", Provoke::kNothing},
                                     Point{"after_pg_commit", Provoke::kNothing}),
                     testing::Values(64)),
    [](const testing::TestParamInfo<std::tuple<Point, int>>& test) {
        return std::get<0>(test.param).name;
    });

}  // namespace
}  // namespace millrace::test
