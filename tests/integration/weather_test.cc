// What a relay does about tasks that can't be published, sessions that end and owners that go.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "relay/operator.h"
#include "tests/support/broker.h"
#include "tests/support/by_hand.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"
#include "tests/support/writers.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::StartsWith;

class Weather : public testing::Test {
  protected:
    // A task whose payload is the number `n`, in the lane of its key.
    void add(const std::string& topic, const std::string& key, int n) {
        session_.execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
            "VALUES ($1, $2, 'T', to_json($3::int))",
            pg::Params().text(topic).text(key).int4(n));
    }

    int16_t lane_of(const std::string& key) {
        return static_cast<int16_t>(
            session_
                .execute("SELECT millrace.lane_of($1, gen_random_uuid())", pg::Params().text(key))
                .integer(0, 0));
    }

    std::string halted(int16_t lane) {
        const pg::Result row = session_.execute(
            "SELECT coalesce(halted, '') FROM millrace.relay_lanes WHERE lane = $1",
            pg::Params().int2(lane));
        return row.text(0, 0);
    }

    int64_t pending_beside(int16_t lane) {
        return session_
            .execute("SELECT count(*) FROM millrace.pending_tasks WHERE lane <> $1",
                     pg::Params().int2(lane))
            .integer(0, 0);
    }

    bool everything_is_published() { return installed_.pending_count() == 0; }

    void resume(int16_t lane) {
        Operator(session_).change_lane(LaneVerb::kResume, lane, "the cause is mended");
    }

    // Lanes halt; a topic is waited for no longer than it takes.
    RelayOptions halting() const {
        RelayOptions options = installed_.relay_options();
        options.publisher.unpublishable.policy = OnUnpublishable::kHaltLane;
        options.publisher.unpublishable.topic_grace = 5s;
        return options;
    }

    // The payloads of a key in the order in which they stand in the topic.
    static std::vector<std::string> payloads(const std::string& topic, const std::string& key) {
        std::vector<std::string> found;
        for (const SeenRecord& record : read_topic(topic)) {
            if (record.key == key) found.push_back(record.value.value_or("tombstone"));
        }
        return found;
    }

    // To new sessions; those that are there stay. Of no database by a session of its own.
    void allow_connections(bool are_allowed) const {
        const Database other = Database::bare();
        other.connect().execute("ALTER DATABASE " + installed_.database.name() +
                                " ALLOW_CONNECTIONS " + (are_allowed ? "true" : "false"));
    }

    Installed installed_{12, 4};
    pg::Session session_ = installed_.database.connect();
};

// PROTOCOL 2.6.
TEST_F(Weather, MissingTopicHaltsItsLaneAlone) {
    const std::string missing = fresh_name("missing");
    for (int n = 1; n <= 3; ++n) add(missing, "stuck", n);
    installed_.insert(200, 50);
    const int16_t lane = lane_of("stuck");

    RunningRelay relay(installed_, halting());
    ASSERT_TRUE(
        eventually(30s, [&] { return !halted(lane).empty() && pending_beside(lane) == 0; }));

    EXPECT_THAT(halted(lane), StartsWith("topic_missing"));
    EXPECT_GE(installed_.pending_count(), 3);
    EXPECT_EQ(session_
                  .execute("SELECT count(*) FROM millrace.relay_lanes "
                           "WHERE halted IS NOT NULL OR publisher IS NULL")
                  .integer(0, 0),
              1);
}

// Brokers that have not heard of a new topic yet call it unknown.
TEST_F(Weather, TopicThatAppearsWithinAMomentIsWaitedForByItsOwnTasksAlone) {
    const std::string late = fresh_name("late");
    for (int n = 1; n <= 3; ++n) add(late, "early", n);
    installed_.insert(20, 10);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(10s, [&] { return installed_.pending_count() == 3; }));

    create_topic(late, 4);

    ASSERT_TRUE(eventually(30s, [&] { return everything_is_published(); }));
    EXPECT_EQ(halted(lane_of("early")), "");
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.dead_tasks"), 0);
    EXPECT_THAT(payloads(late, "early"), ElementsAre("1", "2", "3"));
}

// The way out is another: no operator can make such a topic.
TEST_F(Weather, TopicThatNobodyCanMakeHaltsItsLaneAndSaysSo) {
    add("not a topic", "stuck", 1);
    const int16_t lane = lane_of("stuck");
    const int64_t id =
        session_.execute("SELECT id FROM millrace.pending_tasks").integer(0, 0);

    RunningRelay relay(installed_, halting());

    ASSERT_TRUE(eventually(30s, [&] { return !halted(lane).empty(); }));
    EXPECT_THAT(halted(lane), StartsWith("topic_invalid: task " + std::to_string(id)));
}

// PROTOCOL 4.7: the cause mended, the lane goes on where it stood.
TEST_F(Weather, MissingTopicThatWasMadeGetsItsTasksInOrder) {
    const std::string missing = fresh_name("missing");
    for (int n = 1; n <= 3; ++n) add(missing, "stuck", n);
    installed_.insert(200, 50);
    const int16_t lane = lane_of("stuck");
    RunningRelay relay(installed_, halting());
    ASSERT_TRUE(eventually(30s, [&] { return !halted(lane).empty(); }));

    create_topic(missing, 4);
    // A broker may take a moment to hear of it: then the lane, missed just before, halts again.
    ASSERT_TRUE(eventually(30s, [&] {
        if (!halted(lane).empty()) resume(lane);
        return everything_is_published();
    }));
    EXPECT_THAT(payloads(missing, "stuck"), ElementsAre("1", "2", "3"));
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

// PROTOCOL 5.1: a lane that is resumed gets its seconds anew, for who made the topic may have told
// one broker only.
TEST_F(Weather, MissingTopicOfAResumedLaneIsWaitedForAgain) {
    const std::string missing = fresh_name("missing");
    add(missing, "stuck", 1);
    const int16_t lane = lane_of("stuck");
    RunningRelay relay(installed_, halting());
    ASSERT_TRUE(eventually(30s, [&] { return !halted(lane).empty(); }));

    // Longer than lanes take to change hands once others are halted.
    std::this_thread::sleep_for(4s);
    resume(lane);
    std::this_thread::sleep_for(2s);
    EXPECT_EQ(halted(lane), "");
    create_topic(missing, 4);

    EXPECT_TRUE(eventually(30s, [&] { return everything_is_published(); }));
    EXPECT_EQ(halted(lane), "");
}

// PROTOCOL 5.1: declared only after its transaction has been settled, and only the culprit's lane.
TEST_F(Weather, TooLargeTaskHaltsItsLaneAloneAndGoesOnceTheLimitIsRaised) {
    const std::string small = fresh_name("small");
    create_topic(small, 4, {{"max.message.bytes", "3000"}});
    for (int i = 0; i < 40; ++i) add(small, "other" + std::to_string(i), i);
    add(small, "big", 1);
    session_.execute(
        "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
        "SELECT $1, 'big', 'T', to_json(string_agg(md5(random()::text), '')) "
        "FROM generate_series(1, 1000)",
        pg::Params().text(small));
    add(small, "big", 3);
    const int16_t lane = lane_of("big");

    RunningRelay relay(installed_, halting());
    ASSERT_TRUE(
        eventually(60s, [&] { return !halted(lane).empty() && pending_beside(lane) == 0; }));
    EXPECT_THAT(halted(lane), StartsWith("task_too_large: task "));
    EXPECT_THAT(payloads(small, "big"), ElementsAre("1"));
    set_topic_config(small, "max.message.bytes", "1000000");
    resume(lane);
    ASSERT_TRUE(eventually(30s, [&] { return everything_is_published(); }));

    const std::vector<std::string> big = payloads(small, "big");
    ASSERT_EQ(big.size(), 3U);
    EXPECT_GT(big[1].size(), 30'000U);
    EXPECT_EQ(big[2], "3");
}

// A broker refuses a time far in the future for ever. It used to be taken for an outage, which kept
// the publisher's other lanes waiting too.
TEST_F(Weather, TaskWithATimeThatTheBrokerRefusesHaltsItsLaneAlone) {
    session_.execute(
        "INSERT INTO millrace.pending_tasks (topic, key, task_type, created_at) "
        "VALUES ($1, 'future', 'T', now() + interval '2 days')",
        pg::Params().text(installed_.topic));
    installed_.insert(40, 40);
    const int16_t lane = lane_of("future");

    RunningRelay relay(installed_, halting());

    EXPECT_TRUE(
        eventually(60s, [&] { return !halted(lane).empty() && pending_beside(lane) == 0; }));
    EXPECT_THAT(halted(lane), StartsWith("task_refused: task "));
}

// The same for a record without key in a compacted topic.
TEST_F(Weather, KeylessTaskForACompactedTopicHaltsItsLaneAlone) {
    const std::string compacted = fresh_name("compacted");
    create_topic(compacted, 4, {{"cleanup.policy", "compact"}});
    session_.execute("INSERT INTO millrace.pending_tasks (topic, task_type) VALUES ($1, 'T')",
                     pg::Params().text(compacted));
    const auto lane = static_cast<int16_t>(
        session_.execute("SELECT lane FROM millrace.pending_tasks").integer(0, 0));
    installed_.insert(40, 40);

    RunningRelay relay(installed_, halting());

    EXPECT_TRUE(
        eventually(60s, [&] { return !halted(lane).empty() && pending_beside(lane) == 0; }));
    EXPECT_THAT(halted(lane), StartsWith("task_refused: task "));
}

// PROTOCOL 2.6, 3.7: whatever was in flight is settled.
TEST_F(Weather, SessionsThatAreEndedUnderLoadLoseDoubleAndReorderNothing) {
    Writers writers(installed_, {.thread_count = 2, .tasks_per_second = 500});
    RunningRelay relay(installed_);
    const auto published = [&] {
        return relay.metric("millrace_relay_tasks_published_total");
    };

    for (int i = 0; i < 10; ++i) {
        const double before = published();
        ASSERT_TRUE(eventually(30s, [&] { return published() > before + 50; }));
        session_.execute("SELECT pg_terminate_backend(pid) FROM millrace.relay_publishers "
                         "WHERE running");
    }
    writers.stop();
    ASSERT_TRUE(eventually(30s, [&] { return everything_is_published(); }));
    relay.stop();

    installed_.truth = writers.truth();
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_GT(verdict.task_count, 500);
    // Not eleven for certain: a session may end twice before it is missed, the last one unmissed.
    EXPECT_GT(relay.metric("millrace_relay_takeovers_total"), 5);
}

// PROTOCOL 2.6: SIGTERM is a hand-over, not a death to be waited out.
TEST_F(Weather, RelayThatStopsHandsOverLongBeforeItsLeaseEnds) {
    RelayOptions options = installed_.relay_options();
    options.lease = 1h;
    RunningRelay first(installed_, options);
    ASSERT_TRUE(eventually(10s, [&] { return installed_.owned_lane_count() == 12; }));
    RunningRelay second(installed_, options);
    ASSERT_TRUE(
        eventually(10s, [&] { return second.metric("millrace_relay_lanes_owned") == 6; }));

    first.stop();

    EXPECT_TRUE(eventually(2s, [&] { return second.metric("millrace_relay_lanes_owned") == 12; }));
}

// A role that may not log in for a while used to end the process.
TEST_F(Weather, RoleThatIsLockedOutWhileRunningIsWaitedFor) {
    const std::string role = "r" + Uuid::random().text().substr(0, 8);
    session_.execute("CREATE ROLE " + role + " LOGIN SUPERUSER");
    RelayOptions options = installed_.relay_options();
    options.publisher.session.url += " user=" + role;
    {
        RunningRelay relay(installed_, options);
        installed_.insert(10);
        ASSERT_TRUE(eventually(10s, [&] { return everything_is_published(); }));
        session_.execute("ALTER ROLE " + role + " NOLOGIN");
        session_.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                         "WHERE usename = '" + role + "'");
        EXPECT_TRUE(eventually(10s, [&] {
            return relay.metric("millrace_failures_total{reason=\"pg_refused\"}") >= 3;
        }));
        session_.execute("ALTER ROLE " + role + " LOGIN");
        installed_.insert(10);

        EXPECT_TRUE(eventually(20s, [&] { return everything_is_published(); }));
    }
    session_.execute("DROP ROLE " + role);
}

// PROTOCOL 2.10: a keeper whose session ended in the middle of a settle used to leave the publisher
// owned by its own living process, lanes and all, for ever.
TEST_F(Weather, KeeperThatLosesItsSessionInTheMiddleSettlesAgain) {
    installed_.insert(40);
    PublisherByHand dead(installed_, 5);
    dead.take_lanes(6);
    ASSERT_GT(dead.claim(), 0U);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(10s, [&] { return installed_.owned_lane_count() == 6; }));
    OpenTransaction open(installed_.installation.ledger_topic(), 5);
    dead.roll_back();
    const std::string keepers =
        "FROM millrace.relay_publishers WHERE number = 5 AND owner IS NOT NULL";
    ASSERT_TRUE(eventually(10s, [&] {
        return session_.execute("SELECT count(*) " + keepers).integer(0, 0) == 1;
    }));

    session_.execute("SELECT pg_terminate_backend(pid) " + keepers);
    open.abort();

    EXPECT_TRUE(eventually(20s, [&] { return everything_is_published(); }));
}

// PROTOCOL 6.3: it was cleared, but neither counted nor logged.
TEST_F(Weather, SequenceThatIsSetBackIsCounted) {
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(10s, [&] { return installed_.owned_lane_count() == 12; }));
    installed_.insert(100);
    ASSERT_TRUE(eventually(10s, [&] { return everything_is_published(); }));

    session_.execute("SELECT setval('millrace.pending_tasks_id_seq', 10)");
    installed_.insert(5);

    ASSERT_TRUE(eventually(10s, [&] { return everything_is_published(); }));
    EXPECT_TRUE(eventually(
        2s, [&] { return relay.metric("millrace_relay_sequence_resets_total") == 1; }));
}

// librdkafka takes so much at a time; the rest of the claim has to wait for room, not for ever.
TEST_F(Weather, ClaimThatIsLargerThanTheClientsQueueIsPublished) {
    installed_.insert_large(40, 50'000);
    RelayOptions options = installed_.relay_options();
    options.publisher.kafka.properties["queue.buffering.max.kbytes"] = "1024";

    RunningRelay relay(installed_, options);

    EXPECT_TRUE(eventually(30s, [&] { return everything_is_published(); }))
        << relay.metric("millrace_failures_total{reason=\"kafka_transaction\"}");
}

TEST_F(Weather, TaskThatNoQueueOfTheClientTakesHaltsItsLane) {
    installed_.insert_large(1, 3'000'000);
    RelayOptions options = halting();
    options.publisher.kafka.properties["queue.buffering.max.kbytes"] = "1024";

    RunningRelay relay(installed_, options);

    EXPECT_TRUE(eventually(30s, [&] {
        return halted(lane_of("k0")).starts_with("task_too_large");
    })) << halted(lane_of("k0"));
}

// PROTOCOL 2.8: a process that gets no new session can't keep the lanes of the one it lost.
TEST_F(Weather, PublisherWhoseProcessGetsNoSessionIsTakenOver) {
    RunningRelay refused(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return installed_.owned_lane_count() == 12; }));
    const int64_t number = installed_.number("SELECT min(publisher) FROM millrace.relay_lanes");
    RunningRelay other(installed_);
    const auto owned_beside = [&](int64_t publisher) {
        return session_
            .execute("SELECT count(*) FROM millrace.relay_lanes l JOIN millrace.relay_publishers p "
                     "ON p.number = l.publisher WHERE p.running AND p.number <> $1",
                     pg::Params().int8(publisher))
            .integer(0, 0);
    };
    ASSERT_TRUE(eventually(30s, [&] { return owned_beside(number) == 6; }));

    allow_connections(false);
    session_.execute(
        "SELECT pg_terminate_backend(pid) FROM millrace.relay_publishers WHERE number = $1",
        pg::Params().int8(number));
    EXPECT_TRUE(eventually(40s, [&] { return owned_beside(number) == 12; }));
    allow_connections(true);

    // As any publisher: its number was free for all meanwhile.
    EXPECT_TRUE(eventually(30s, [&] {
        return session_.execute("SELECT count(DISTINCT publisher) FROM millrace.relay_lanes")
                   .integer(0, 0) == 2;
    }));
}

// What is shown must end with the cause: while it is there, /readyz says so.
TEST_F(Weather, ClaimThatWaitedForALockIsNotShownAsWaitingForEver) {
    kafka::Reaper reaper;
    Metrics metrics;
    Relay relay(installed_.relay_options(), installed_.installation, reaper, metrics,
                [](const Failure&) {});
    const std::jthread thread([&](std::stop_token stop) { relay.run(std::move(stop)); });
    ASSERT_TRUE(eventually(30s, [&] { return installed_.owned_lane_count() == 12; }));
    ASSERT_TRUE(eventually(10s, [&] { return relay.status().waiting.empty(); }));
    {
        pg::Transaction holder(session_);
        holder.execute("SELECT FROM millrace.relay_publishers FOR UPDATE");
        installed_.insert(10);
        ASSERT_TRUE(eventually(20s, [&] { return !relay.status().waiting.empty(); }));
        EXPECT_EQ(metric_in(metrics.text(), "millrace_relay_waiting"), 1);
    }
    installed_.insert(10);
    ASSERT_TRUE(eventually(30s, [&] { return everything_is_published(); }));

    EXPECT_TRUE(eventually(10s, [&] { return relay.status().waiting.empty(); }))
        << testing::PrintToString(relay.status().waiting);
    EXPECT_EQ(metric_in(metrics.text(), "millrace_relay_waiting"), 0);
    {
        // Met by a look for work, with no task behind it.
        pg::Transaction holder(session_);
        holder.execute("LOCK TABLE millrace.pending_tasks");
        ASSERT_TRUE(eventually(20s, [&] { return !relay.status().waiting.empty(); }));
    }
    EXPECT_TRUE(eventually(10s, [&] { return relay.status().waiting.empty(); }));
}

// PROTOCOL 5.1: what the ledger topic refuses is the environment's, and no task's fault.
TEST_F(Weather, RefusedLedgerRecordAccusesNoTask) {
    set_topic_config(installed_.installation.ledger_topic(), "max.message.bytes", "120");
    installed_.insert(40, 40);

    RunningRelay relay(installed_);
    const bool any = eventually(20s, [&] {
        return installed_.number(
                   "SELECT count(*) FROM millrace.relay_lanes WHERE halted IS NOT NULL") > 0;
    });

    EXPECT_FALSE(any) << installed_.text(
        "SELECT string_agg(lane || ' ' || halted, E'\n') FROM millrace.relay_lanes");
    EXPECT_EQ(installed_.pending_count(), 40);
}

// PROTOCOL 5.1, 4.1: a batch that is halved has drawn numbers that nobody saw.
TEST_F(Weather, HalvedBatchesLeaveNoGapInTheSequenceNumbers) {
    installed_.insert(40, 40);
    RunningRelay relay(installed_, halting());
    ASSERT_TRUE(eventually(30s, [&] { return everything_is_published(); }));
    const int16_t lane = lane_of("future");
    installed_.insert(30, 30);
    session_.execute(
        "INSERT INTO millrace.pending_tasks (topic, key, task_type, created_at) "
        "VALUES ($1, 'future', 'T', now() + interval '2 days')",
        pg::Params().text(installed_.topic));
    installed_.insert(30, 30);
    ASSERT_TRUE(
        eventually(60s, [&] { return !halted(lane).empty() && pending_beside(lane) == 0; }));
    relay.stop();
    {
        RunningRelay second(installed_, halting());
        installed_.insert(40, 40);
        ASSERT_TRUE(eventually(30s, [&] { return pending_beside(lane) == 0; }));
    }

    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
}

// The grace is the topic's, not each lane's that names it: 64 of them would take five minutes.
TEST(MissingTopic, OfManyLanesIsWaitedForOnce) {
    Installed installed(64, 4);
    installed.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type) SELECT '" +
                      fresh_name("missing") + "', 'k' || i, 'T' FROM generate_series(1, 300) i");

    RelayOptions options = installed.relay_options();
    options.publisher.unpublishable = {.policy = OnUnpublishable::kHaltLane, .topic_grace = 5s};
    const RunningRelay relay(installed, options);

    EXPECT_TRUE(eventually(90s, [&] {
        return installed.number("SELECT count(*) FROM millrace.relay_lanes WHERE halted IS NULL "
                                "AND lane IN (SELECT lane FROM millrace.pending_tasks)") == 0;
    }));
}

}  // namespace
}  // namespace millrace::test
