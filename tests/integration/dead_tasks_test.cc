// Tasks that can't be published: what is set aside, what waits behind it, and the way back
// (PROTOCOL 5).

#include "relay/dead_tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "core/failure.h"
#include "relay/dead_task_verbs.h"
#include "relay/ledger_reader.h"
#include "tests/support/broker.h"
#include "tests/support/by_hand.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"
#include "tests/support/set_aside.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using testing::UnorderedElementsAre;

class DeadTasksTest : public testing::Test {
  protected:
    // A task whose payload is the number `n`; an empty key: none.
    void add(const std::string& topic, const std::string& key, int n) {
        session_.execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
            "VALUES ($1, nullif($2, ''), 'T', to_json($3::int))",
            pg::Params().text(topic).text(key).int4(n));
    }

    // 32 kB that do not compress.
    void add_large(const std::string& topic, const std::string& key) {
        session_.execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
            "SELECT $1, $2, 'T', to_json(string_agg(md5(random()::text), '')) "
            "FROM generate_series(1, 1000)",
            pg::Params().text(topic).text(key));
    }

    std::string small_topic() {
        const std::string topic = fresh_name("small");
        create_topic(topic, 4, {{"max.message.bytes", "3000"}});
        return topic;
    }

    RelayOptions with_policy(OnUnpublishable policy) const {
        RelayOptions options = installed_.relay_options();
        options.publisher.unpublishable.policy = policy;
        return options;
    }

    static std::vector<std::string> payloads(const std::string& topic, const std::string& key) {
        std::vector<std::string> found;
        for (const SeenRecord& record : read_topic(topic)) {
            if (record.key == key) found.push_back(record.value.value_or("tombstone"));
        }
        return found;
    }

    // "key reason" of each, in the order of lane and id.
    std::vector<std::string> dead() {
        std::vector<std::string> all;
        for (const DeadTask& task : dead_tasks(installed_)) {
            all.push_back(task.key.value_or("-") + " " + task.reason);
        }
        return all;
    }

    bool nothing_is_pending() { return installed_.pending_count() == 0; }
    bool nothing_is_left() { return nothing_is_pending() && dead_count(installed_) == 0; }

    int64_t halted_count() {
        return installed_.number(
            "SELECT count(*) FROM millrace.relay_lanes WHERE halted IS NOT NULL");
    }

    // Parks `key_count` keys of the truth: their topic does not exist yet.
    void park_truth(int task_count, int key_count) {
        installed_.topic = fresh_name("late");
        installed_.insert(task_count, key_count);
        RunningRelay relay(installed_);
        ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));
        ASSERT_EQ(dead_count(installed_), task_count);
    }

    void expect_clean() {
        const Verdict verdict = installed_.verdict();
        EXPECT_TRUE(verdict.is_clean()) << verdict.text();
        EXPECT_GT(verdict.task_count, 0);
    }

    Installed installed_{12, 4};
    pg::Session session_ = installed_.database.connect();
};

// PROTOCOL 5.1: topic and key are the scope, and only what is known to be published by nobody is
// accused.
TEST_F(DeadTasksTest, TooLargeTaskParksItsKeyAndGoesOnInOrderOnceItIsRetried) {
    const std::string small = small_topic();
    for (int i = 0; i < 40; ++i) add(small, "other" + std::to_string(i), i);
    add(small, "big", 1);
    add_large(small, "big");
    add(small, "big", 3);
    add(installed_.topic, "big", 4);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(60s, [&] { return nothing_is_pending(); }));

    EXPECT_THAT(dead(), ElementsAre("big task_too_large", "big queued_behind"));
    EXPECT_EQ(halted_count(), 0);
    EXPECT_EQ(count_records(small), 41U);
    EXPECT_THAT(payloads(installed_.topic, "big"), ElementsAre("4"));
    set_topic_config(small, "max.message.bytes", "1000000");
    EXPECT_EQ(retry(installed_).size(), 1U);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    add(small, "big", 5);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));

    const std::vector<std::string> big = payloads(small, "big");
    ASSERT_EQ(big.size(), 4U);
    EXPECT_GT(big[1].size(), 30'000U);
    EXPECT_THAT(big, ElementsAre("1", big[1], "3", "5"));
}

// PROTOCOL 5.1.
TEST_F(DeadTasksTest, PolicyDeadLetterSetsOneTaskAsideAndLetsItsKeyGoOn) {
    const std::string small = small_topic();
    add(small, "big", 1);
    add_large(small, "big");
    add(small, "big", 3);
    RelayOptions options = with_policy(OnUnpublishable::kHaltLane);
    options.publisher.unpublishable.by_topic.emplace(small, OnUnpublishable::kDeadLetter);
    RunningRelay relay(installed_, options);

    ASSERT_TRUE(eventually(60s, [&] { return nothing_is_pending(); }));

    EXPECT_THAT(dead(), ElementsAre("big task_too_large"));
    EXPECT_EQ(halted_count(), 0);
    EXPECT_THAT(payloads(small, "big"), ElementsAre("1", "3"));
}

// A claim holds them back without holding back anything else, however long the grace.
TEST_F(DeadTasksTest, TopicIsWaitedForWithoutHoldingUpTheOthers) {
    const std::string late = fresh_name("late");
    RelayOptions options = installed_.relay_options();
    options.publisher.unpublishable.topic_grace = 1h;
    RunningRelay relay(installed_, options);
    for (int n = 1; n <= 3; ++n) {
        add(late, "k0", n);
        installed_.insert(200, 10);
        ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == n; })) << n;
    }
    EXPECT_EQ(dead_count(installed_), 0);

    create_topic(late, 4);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    EXPECT_THAT(payloads(late, "k0"), ElementsAre("1", "2", "3"));
    expect_clean();
    EXPECT_EQ(relay.metric("millrace_relay_floor_violations_total"), 0);
}

// PROTOCOL 6: a claim that left a topic out must not raise the floor above its tasks.
TEST_F(DeadTasksTest, TasksOfAnAwaitedTopicDoNotFallBelowTheFloor) {
    const std::string late = fresh_name("late");
    RelayOptions options = installed_.relay_options();
    options.publisher.unpublishable.topic_grace = 1h;
    RunningRelay relay(installed_, options);
    for (int i = 0; i < 20; ++i) {
        installed_.insert(20, 10);
        ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() <= 1; }));
        // Behind claims that have given the floor its marks.
        if (i == 5) add(late, "k0", 1);
    }
    ASSERT_EQ(installed_.pending_count(), 1);
    create_topic(late, 4);

    EXPECT_TRUE(eventually(5s, [&] { return nothing_is_left(); }));
    EXPECT_EQ(relay.metric("millrace_relay_floor_violations_total"), 0);
}

// PROTOCOL 5.1.
TEST_F(DeadTasksTest, MissingTopicParksEachOfItsKeysByItself) {
    const std::string gone = fresh_name("gone");
    for (int n = 1; n <= 2; ++n) {
        add(gone, "k0", n);
        add(gone, "k1", n);
        add(gone, "", n);
    }
    add("not a topic", "k0", 1);
    installed_.insert(200, 10);
    RunningRelay relay(installed_);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));

    EXPECT_THAT(dead(),
                UnorderedElementsAre("k0 topic_missing", "k1 topic_missing", "- topic_missing",
                                     "- topic_missing", "k0 queued_behind", "k1 queued_behind",
                                     "k0 topic_invalid"));
    EXPECT_EQ(halted_count(), 0);
    expect_clean();
    EXPECT_TRUE(eventually(10s, [&] {
        return relay.metric("millrace_relay_dead_tasks{reason=\"topic_missing\"}") == 4;
    }));
}

// PROTOCOL 5.1: whatever is configured.
TEST_F(DeadTasksTest, CopiesOfDeadLettersHoldUpNothing) {
    const std::string copies = fresh_name("orders") + ".totals.dlq";
    add(copies, "k", 1);
    add(copies, "k", 2);
    installed_.insert(20, 10);
    RunningRelay relay(installed_, with_policy(OnUnpublishable::kHaltLane));

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));

    EXPECT_THAT(dead(), ElementsAre("k topic_missing", "k topic_missing"));
    EXPECT_EQ(halted_count(), 0);
    expect_clean();
}

// PROTOCOL 5.2: what queues is released in order, and what comes meanwhile stays behind it.
TEST_F(DeadTasksTest, RetryKeepsTheOrderOfEachKeyWhileMoreTasksCome) {
    ASSERT_NO_FATAL_FAILURE(park_truth(300, 20));
    create_topic(installed_.topic, 4);
    RelayOptions options = installed_.relay_options();
    // So that a queue takes many claims, with pending tasks of its key in each.
    options.publisher.batch.task_count = 16;
    RunningRelay relay(installed_, options);
    installed_.insert(100, 25);

    EXPECT_EQ(retry(installed_).size(), 20U);
    for (int i = 0; i < 20; ++i) installed_.insert(25, 25);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    expect_clean();
    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
    EXPECT_EQ(relay.metric("millrace_relay_floor_violations_total"), 0);
}

// PROTOCOL 5.2: released rows go first, and a key is free in the transaction that empties its
// queue: here with its pending task in the same one.
TEST_F(DeadTasksTest, KeyIsFreeInTheTransactionThatEmptiesItsQueue) {
    ASSERT_NO_FATAL_FAILURE(park_truth(20, 10));
    create_topic(installed_.topic, 4);
    retry(installed_);
    installed_.insert(10, 10);
    const int64_t seq =
        installed_.number("SELECT sum(seq)::bigint FROM millrace.relay_publishers");
    RunningRelay relay(installed_);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));

    expect_clean();
    EXPECT_EQ(installed_.number("SELECT sum(seq)::bigint FROM millrace.relay_publishers"),
              seq + 1);
}

// PROTOCOL 5.2: each goes back by itself, as dead as before, and what waits behind it with it.
TEST_F(DeadTasksTest, RetryWhileTheTopicIsStillMissingGoesBackOnce) {
    ASSERT_NO_FATAL_FAILURE(park_truth(30, 10));
    const int64_t row_count = dead_count(installed_);
    RunningRelay relay(installed_);
    EXPECT_EQ(retry(installed_).size(), 10U);

    ASSERT_TRUE(eventually(30s, [&] {
        return installed_.number("SELECT count(*) FROM millrace.dead_tasks "
                                 "WHERE released_at IS NOT NULL") == 0;
    }));

    EXPECT_EQ(dead_count(installed_), row_count);
    EXPECT_EQ(dead_tasks(installed_, {.reason = "topic_missing"}).size(), 10U);
    create_topic(installed_.topic, 4);
    EXPECT_EQ(retry(installed_).size(), 10U);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    expect_clean();
}

// The same for a task that the broker refuses again: found among released and pending ones.
TEST_F(DeadTasksTest, RetriedTaskThatIsRefusedAgainGoesBackAndParksItsKeyAsBefore) {
    insert_refused(installed_, "k3");
    installed_.insert(100, 10);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(60s, [&] { return nothing_is_pending(); }));
    ASSERT_EQ(dead_count(installed_), 11);

    EXPECT_EQ(retry(installed_).size(), 1U);
    installed_.insert(100, 10);
    ASSERT_TRUE(eventually(60s, [&] {
        return nothing_is_pending() &&
               installed_.number("SELECT count(*) FROM millrace.dead_tasks "
                                 "WHERE released_at IS NOT NULL") == 0;
    }));

    EXPECT_EQ(dead_tasks(installed_, {.reason = "task_refused"}).size(), 1U);
    EXPECT_EQ(dead_count(installed_), 21);
    // Given up, it frees what waited.
    EXPECT_EQ(discard(installed_, {.reason = "task_refused"}).size(), 1U);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    expect_clean();
}

// PROTOCOL 4.5, 2.6: whoever has the lane next knows its parked keys.
TEST_F(DeadTasksTest, ParkedKeysStayParkedWhereverTheirLaneGoes) {
    insert_refused(installed_, "k0");
    installed_.insert(20, 4);
    {
        RunningRelay first(installed_);
        ASSERT_TRUE(eventually(60s, [&] { return nothing_is_pending(); }));
        RunningRelay second(installed_);
        ASSERT_TRUE(
            eventually(10s, [&] { return second.metric("millrace_relay_lanes_owned") == 6; }));
        first.stop();
        ASSERT_TRUE(
            eventually(10s, [&] { return second.metric("millrace_relay_lanes_owned") == 12; }));
        installed_.insert(20, 4);
        ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));
    }
    EXPECT_EQ(dead_count(installed_), 11);
    RunningRelay third(installed_);
    installed_.insert(20, 4);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));
    EXPECT_EQ(dead_count(installed_), 16);

    discard(installed_, {.reason = "task_refused"});

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    expect_clean();
}

// PROTOCOL 5.2, 2.6: the owner learns of it by its version, whoever that is by then.
TEST_F(DeadTasksTest, RetryWhileLanesMoveKeepsOrderAndPublishesOnce) {
    ASSERT_NO_FATAL_FAILURE(park_truth(400, 40));
    create_topic(installed_.topic, 4);
    RelayOptions options = installed_.relay_options();
    options.publisher.batch.task_count = 10;
    RunningRelay stays(installed_, options);
    std::vector<DeadTask> heads = dead_tasks(installed_, {.heads_only = true});
    std::shuffle(heads.begin(), heads.end(), std::minstd_rand(7));
    ASSERT_EQ(heads.size(), 40U);

    for (size_t i = 0; i < heads.size(); i += 8) {
        RunningRelay comes(installed_, options);
        for (size_t j = i; j < i + 8; ++j) {
            EXPECT_EQ(retry(installed_, {.ids = {heads[j].id.id}}).size(), 1U);
        }
        installed_.insert(40, 40);
        ASSERT_TRUE(
            eventually(10s, [&] { return comes.metric("millrace_relay_lanes_owned") > 0; }));
    }

    ASSERT_TRUE(eventually(60s, [&] { return nothing_is_left(); }));
    expect_clean();
}

// PROTOCOL 5.3: the ledger names what was published, and nothing else.
TEST_F(DeadTasksTest, ParkedTasksAreNotInTheRecordOfTheirClaim) {
    insert_refused(installed_, "k0");
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(60s, [&] { return dead_count(installed_) == 1; }));
    relay.stop();
    installed_.insert(10, 2);
    {
        RunningRelay next(installed_);
        ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));
    }
    EXPECT_EQ(dead_count(installed_), 6);
    const auto publisher = static_cast<int16_t>(
        installed_.number("SELECT number FROM millrace.relay_publishers WHERE seq > 0"));
    kafka::Reaper reaper;
    LedgerReader ledger(kafka_options(), installed_.installation.ledger_topic(),
                        installed_.installation.id, reaper);

    const std::optional<LedgerRecord> record = ledger.newest(publisher, 10s);

    ASSERT_TRUE(record);
    EXPECT_EQ(record->tasks.size(), 5U);
}

// PROTOCOL 5.3: or the next settle would find the ledger behind.
TEST_F(DeadTasksTest, ClaimOfNothingButParkedTasksLeavesSeqAlone) {
    insert_refused(installed_, "k0");
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(60s, [&] { return dead_count(installed_) == 1; }));
    const std::string seqs = "SELECT sum(seq)::bigint FROM millrace.relay_publishers";
    const int64_t seq = installed_.number(seqs);

    installed_.insert(30, 1);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));

    EXPECT_EQ(dead_count(installed_), 31);
    EXPECT_EQ(installed_.number(seqs), seq);
    relay.stop();
    RunningRelay next(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return installed_.owned_lane_count() == 12; }));
    discard(installed_, {.reason = "task_refused"});
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    expect_clean();
}

// PROTOCOL 4.3: the redo looks in both tables, and what waits behind what it found stays released.
TEST_F(DeadTasksTest, RedoOfAClaimThatHeldReleasedTasksPublishesEachOnce) {
    ASSERT_NO_FATAL_FAILURE(park_truth(30, 3));
    create_topic(installed_.topic, 4);
    retry(installed_);
    installed_.insert(20, 20);
    PublisherByHand dead(installed_, 5);
    dead.take_lanes();
    ASSERT_EQ(dead.claim(12, {.has_released = true, .has_pending = false}), 12U);
    dead.commit_kafka();
    dead.roll_back();
    ASSERT_EQ(dead_count(installed_), 30);

    RunningRelay relay(installed_);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    EXPECT_EQ(relay.metric("millrace_relay_redos_total"), 1);
    EXPECT_EQ(relay.metric("millrace_relay_redo_mismatch_total"), 0);
    expect_clean();
}

// PROTOCOL 5.2: what may have been published can't be given up; only a settle knows.
TEST_F(DeadTasksTest, ReleasedTaskOfALaneInDoubtIsNotDiscarded) {
    ASSERT_NO_FATAL_FAILURE(park_truth(10, 1));
    create_topic(installed_.topic, 4);
    retry(installed_);
    PublisherByHand dead(installed_, 5);
    dead.take_lanes();
    ASSERT_EQ(dead.claim(4, {.has_released = true, .has_pending = false}), 4U);
    dead.commit_kafka();
    dead.roll_back();

    EXPECT_THAT(discard(installed_), IsEmpty());

    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    EXPECT_EQ(relay.metric("millrace_relay_redo_mismatch_total"), 0);
    expect_clean();
}

// PROTOCOL 5.2: under the lane's lock the one or the other comes first.
TEST_F(DeadTasksTest, NothingThatWasDiscardedIsPublished) {
    ASSERT_NO_FATAL_FAILURE(park_truth(300, 100));
    create_topic(installed_.topic, 4);
    const std::vector<DeadTask> all = dead_tasks(installed_);
    const auto shuffled = [&all](unsigned seed) {
        std::vector<DeadTask> tasks = all;
        std::shuffle(tasks.begin(), tasks.end(), std::minstd_rand(seed));
        return tasks;
    };
    RunningRelay relay(installed_);
    std::set<int64_t> discarded;

    std::jthread retries([&](const std::stop_token& stop) {
        pg::Session session = installed_.database.connect();
        while (!stop.stop_requested()) {
            for (const DeadTask& task : shuffled(1)) {
                DeadTaskVerbs(session).release(task.id.lane, {task}, "");
            }
        }
    });
    for (unsigned round = 2; dead_count(installed_) > 0; ++round) {
        for (const DeadTask& task : shuffled(round)) {
            const auto outcomes = DeadTaskVerbs(session_).discard(task.id.lane, {task}, "");
            if (outcomes.at(0) == DeadOutcome::kDone) discarded.insert(task.id.id);
        }
    }
    retries.request_stop();
    retries.join();
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));

    std::set<std::string> published;
    for (const SeenRecord& record : read_topic(installed_.topic)) {
        EXPECT_TRUE(published.insert(record.headers.at("id")).second);
    }
    size_t discarded_count = 0;
    for (const DeadTask& task : all) {
        const bool was_discarded = discarded.contains(task.id.id);
        discarded_count += was_discarded ? 1 : 0;
        EXPECT_NE(published.contains(task.id.event_id.text()), was_discarded) << task.id.id;
    }
    EXPECT_GT(discarded_count, 0U);
    EXPECT_GT(published.size(), 0U);
}

// Byte for byte what it would have been.
TEST_F(DeadTasksTest, RetriedTaskIsPublishedAsItWouldHaveBeen) {
    const std::string late = fresh_name("late");
    const std::string insert = R"(
        INSERT INTO millrace.pending_tasks
            (topic, key, task_type, tenant_id, actor_id, payload, payload_bytes, headers,
             created_at)
        VALUES ($1, 'k', 'A', 'tenant', 'actor', '{"b":  1, "a": [ ]}', NULL,
                '{"h": "x", "n":  2}', '2024-07-15 12:34:56.789+00'),
               ($1, 'k', 'B', NULL, NULL, NULL, '\x00ff80', NULL, '2024-07-15 12:34:56.790+00'),
               ($1, 'k', 'Tombstone', NULL, NULL, NULL, NULL, NULL,
                '2024-07-15 12:34:56.791+00'))";
    // Records of that age live until the broker looks for old ones.
    set_topic_config(installed_.topic, "retention.ms", "-1");
    session_.execute(insert, pg::Params().text(late));
    session_.execute(insert, pg::Params().text(installed_.topic));
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_pending(); }));
    ASSERT_EQ(dead_count(installed_), 3);
    create_topic(late, 4, {{"retention.ms", "-1"}});
    retry(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));

    std::vector<SeenRecord> retried = read_topic(late);
    std::vector<SeenRecord> direct = read_topic(installed_.topic);
    ASSERT_EQ(retried.size(), 3U);
    ASSERT_EQ(direct.size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
        for (const std::string own : {"id", "millrace-seq"}) {
            retried[i].headers.erase(own);
            direct[i].headers.erase(own);
        }
        EXPECT_EQ(retried[i].value, direct[i].value) << i;
        EXPECT_EQ(retried[i].headers, direct[i].headers) << i;
        EXPECT_EQ(retried[i].timestamp_ms, direct[i].timestamp_ms) << i;
        EXPECT_EQ(retried[i].partition, direct[i].partition) << i;
    }
}

// Of a queue only the first row carries the mark, however long the queue is.
TEST_F(DeadTasksTest, RetryAndReturnOfALongQueueChangeOneRow) {
    ASSERT_NO_FATAL_FAILURE(park_truth(2000, 1));
    RunningRelay relay(installed_);

    EXPECT_EQ(retry(installed_).size(), 1U);
    EXPECT_LE(installed_.number(
                  "SELECT count(*) FROM millrace.dead_tasks WHERE released_at IS NOT NULL"),
              1);
    ASSERT_TRUE(eventually(30s, [&] {
        return installed_.number("SELECT count(*) FROM millrace.dead_tasks "
                                 "WHERE released_at IS NOT NULL") == 0;
    }));
    create_topic(installed_.topic, 4);
    retry(installed_);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    expect_clean();
}

// A restored database has forgotten that a queue was released and its first rows published: without
// them it is released all the same, and only then (PROTOCOL 4.6).
TEST_F(DeadTasksTest, RemovingTheFirstOfAQueueReleasesTheRestOfIt) {
    ASSERT_NO_FATAL_FAILURE(park_truth(6, 2));
    const auto names = [this](const std::string& key) {
        std::vector<LedgerTask> tasks;
        for (const DeadTask& task : dead_tasks(installed_, {.key = key})) {
            tasks.push_back({.lane = task.id.lane,
                             .id = task.id.id,
                             .digest = digest_of(task.id.event_id)});
        }
        return tasks;
    };
    const auto released = [this](const std::string& key) {
        return installed_.number("SELECT count(*) FROM millrace.dead_tasks "
                                 "WHERE released_at IS NOT NULL AND key = '" + key + "'");
    };
    DeadTasks dead(session_);

    EXPECT_EQ(dead.remove({names("k0").at(0)}), 1);
    EXPECT_EQ(dead.remove({names("k1").at(1)}), 1);

    EXPECT_EQ(released("k0"), 1);
    EXPECT_EQ(released("k1"), 0);
    EXPECT_EQ(names("k0").size() + names("k1").size(), 4U);
}

// Ids come again after a setval: two rows of one id must not keep each other out.
TEST_F(DeadTasksTest, TaskWithTheIdOfADeadOneIsSetAsideToo) {
    const std::string gone = fresh_name("gone");
    add(gone, "k", 1);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return dead_count(installed_) == 1; }));
    session_.execute("ALTER SEQUENCE millrace.pending_tasks_id_seq RESTART WITH 1");

    add(gone, "k", 2);

    EXPECT_TRUE(eventually(30s, [&] { return dead_count(installed_) == 2; }));
}

// --- Owners that are killed or stopped -----------------------------------------------------------

class DeadTasksUnderKills : public DeadTasksTest {
  protected:
    Process start(const std::string& crash_at = "") {
        return Process({.arguments = {"run", "--config", config_},
                        .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                        .log_name = "relay"});
    }

    std::string config_ = write_file("relay.yaml", installed_.config());
};

// PROTOCOL 5.2, 2.4: the verb waits until another relay has ended the stopped one's session.
TEST_F(DeadTasksUnderKills, RetryWhileItsOwnerIsStoppedIsActedOnByTheNextOne) {
    ASSERT_NO_FATAL_FAILURE(park_truth(200, 20));
    create_topic(installed_.topic, 4);
    // With its claim's transaction open, whose locks the verb has to wait for.
    Process stopped = start("relay.after_claim:1:stop");
    installed_.insert(20, 20);
    ASSERT_TRUE(eventually(30s, [&] { return stopped.is_stopped(); })) << stopped.log();
    Process next = start();

    EXPECT_EQ(retry(installed_).size(), 20U);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); })) << next.log();
    stopped.signal(SIGCONT);
    installed_.insert(200, 20);

    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); })) << next.log();
    expect_clean();
}

// PROTOCOL 5.2, 4.3.
TEST_F(DeadTasksUnderKills, RetryWhileItsOwnersAreKilledPublishesEachOnceInOrder) {
    ASSERT_NO_FATAL_FAILURE(park_truth(600, 60));
    create_topic(installed_.topic, 4);
    const std::vector<DeadTask> heads = dead_tasks(installed_, {.heads_only = true});
    ASSERT_EQ(heads.size(), 60U);
    const std::vector<std::string> points = {"relay.after_kafka_commit", "relay.after_claim",
                                             "relay.before_pg_commit", "relay.after_ledger",
                                             "relay.mid_redo", "relay.after_pg_commit"};

    for (size_t i = 0; i < points.size(); ++i) {
        Process victim = start(points[i]);
        for (size_t j = i * 10; j < i * 10 + 10; ++j) {
            EXPECT_EQ(retry(installed_, {.ids = {heads[j].id.id}}).size(), 1U);
        }
        installed_.insert(60, 60);
        // One may have nothing to redo.
        eventually(10s, [&] { return !victim.is_running() || nothing_is_pending(); });
        victim.kill();
    }
    Process last = start();

    ASSERT_TRUE(eventually(60s, [&] { return nothing_is_left(); })) << last.log();
    expect_clean();
    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
}

// --- The verbs -----------------------------------------------------------------------------------

class DeadTaskVerbsTest : public DeadTasksTest {
  protected:
    Finished outbox(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), "outbox");
        arguments.insert(arguments.end(), {"--config", config_});
        return run_program(arguments);
    }

    // Two tasks of one key of a missing topic; returns its name.
    std::string park_two() {
        const std::string gone = fresh_name("gone");
        add(gone, "k", 1);
        add(gone, "k", 2);
        RunningRelay relay(installed_);
        EXPECT_TRUE(eventually(30s, [&] { return dead_count(installed_) == 2; }));
        return gone;
    }

    std::string acts() {
        return installed_.text("SELECT coalesce(string_agg(verb || '/' || object || '/' || "
                               "coalesce(reason, ''), E'\n' ORDER BY at), '') "
                               "FROM millrace.operator_acts");
    }

    std::string config_ = write_file("millrace.yaml", installed_.config());
};

TEST_F(DeadTaskVerbsTest, ListFiltersAndShowsWhatWaitsBehindWhat) {
    const std::string gone = park_two();

    const nlohmann::json all =
        nlohmann::json::parse(outbox({"list", "--output", "json"}).output);
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0]["reason"], "topic_missing");
    EXPECT_EQ(all[0]["state"], "dead");
    EXPECT_EQ(all[1]["state"], "waits behind " + std::to_string(all[0]["task"].get<int64_t>()));
    const auto count = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), "list");
        arguments.insert(arguments.end(), {"--output", "json"});
        return nlohmann::json::parse(outbox(arguments).output).size();
    };
    EXPECT_EQ(count({"--cause", "topic_missing"}), 1U);
    EXPECT_EQ(count({"--topic", gone}), 2U);
    EXPECT_EQ(count({"--topic", "another"}), 0U);
    EXPECT_EQ(count({"--key", "l"}), 0U);
    EXPECT_EQ(count({"--limit", "1"}), 1U);
    EXPECT_EQ(count({std::to_string(all[1]["task"].get<int64_t>())}), 1U);
    EXPECT_THAT(outbox({"list", "--limit", "1"}).output, HasSubstr("and more"));
    EXPECT_THAT(outbox({"status"}).output, HasSubstr("set aside: 1 queued_behind 1 topic_missing"));
}

TEST_F(DeadTaskVerbsTest, ShowPrintsTheTaskAndWhatToType) {
    park_two();
    const std::vector<DeadTask> tasks = dead_tasks(installed_);
    const std::string head = std::to_string(tasks[0].id.id);

    const Finished shown = outbox({"show", std::to_string(tasks[1].id.id)});
    const Finished missing = outbox({"show", "99999"});

    EXPECT_EQ(shown.exit_code, 0);
    EXPECT_THAT(shown.output, HasSubstr("payload     2"));
    EXPECT_THAT(shown.output, HasSubstr("millrace outbox retry " + head));
    EXPECT_EQ(missing.exit_code, kExitFailed);
    EXPECT_THAT(missing.output, HasSubstr("no_such_task: task 99999"));
}

TEST_F(DeadTaskVerbsTest, RetryAnswersForEachTaskAndIsRecorded) {
    const std::string gone = park_two();
    const std::vector<DeadTask> tasks = dead_tasks(installed_);
    const std::string head = std::to_string(tasks[0].id.id);
    const std::string queued = std::to_string(tasks[1].id.id);

    const Finished behind = outbox({"retry", queued});
    const Finished both = outbox({"retry", head, queued, "--output", "json", "--reason", "made"});
    const Finished again = outbox({"retry", "--cause", "topic_missing"});

    EXPECT_EQ(behind.exit_code, kExitFailed);
    EXPECT_THAT(behind.output, HasSubstr("waits behind"));
    const nlohmann::json results = nlohmann::json::parse(both.output);
    ASSERT_EQ(results.size(), 2U);
    EXPECT_EQ(results[0]["done"], true);
    EXPECT_THAT(again.output, HasSubstr("is being retried already"));
    EXPECT_EQ(acts(), "outbox retry/task " + head + " event " + tasks[0].id.event_id.text() +
                          " topic " + gone + " key k/made");
    EXPECT_EQ(outbox({"retry"}).exit_code, kExitUsage);
}

TEST_F(DeadTaskVerbsTest, DiscardNeedsAReasonAndReleasesWhatWaitedBehind) {
    const std::string gone = park_two();
    const std::vector<DeadTask> tasks = dead_tasks(installed_);
    const std::string head = std::to_string(tasks[0].id.id);
    EXPECT_EQ(outbox({"discard", head}).exit_code, kExitUsage);
    ASSERT_EQ(dead_count(installed_), 2);

    const Finished discarded = outbox({"discard", head, "--reason", "a test of ours"});

    EXPECT_EQ(discarded.exit_code, 0) << discarded.output;
    EXPECT_THAT(acts(), StartsWith("outbox discard/task " + head));
    EXPECT_THAT(acts(), HasSubstr("/a test of ours"));
    create_topic(gone, 1);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return nothing_is_left(); }));
    EXPECT_THAT(payloads(gone, "k"), ElementsAre("2"));
}

TEST_F(DeadTaskVerbsTest, DiscardOfAWholeKeyLeavesNothingToPublish) {
    const std::string gone = park_two();
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return installed_.owned_lane_count() == 12; }));

    const Finished discarded = outbox({"discard", "--topic", gone, "--reason", "all of it"});

    EXPECT_EQ(discarded.exit_code, 0) << discarded.output;
    EXPECT_EQ(dead_count(installed_), 0);
}

}  // namespace
}  // namespace millrace::test
