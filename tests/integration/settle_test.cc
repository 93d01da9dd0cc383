#include "relay/settler.h"

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "core/kafka/admin.h"
#include "relay/ledger_reader.h"
#include "relay/ledger_topic.h"
#include "relay/producer_pair.h"
#include "tests/support/broker.h"
#include "tests/support/by_hand.h"
#include "tests/support/eventually.h"
#include "tests/support/failures.h"
#include "tests/support/installed.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kHaltedForAll = R"(
    SELECT coalesce(min(halted), '') FROM millrace.relay_publishers
    HAVING count(DISTINCT halted) = 1 AND count(halted) = 32)";

// The reason that every publisher is halted for; empty while one is not.
std::string halted_for_all(const Installed& installed) {
    pg::Session session = installed.database.connect();
    const pg::Result row = session.execute(kHaltedForAll);
    return row.row_count() == 0 ? "" : row.text(0, 0);
}

bool is_running(const Installed& installed, int number) {
    return installed.number("SELECT running::int FROM millrace.relay_publishers WHERE number = " +
                            std::to_string(number)) == 1;
}

// What a broker's operator does who deletes the ledger topic and runs `migrate up` again.
void make_ledger_topic_again(const Installed& installed) {
    delete_topic(installed.installation.ledger_topic());
    kafka::Reaper reaper;
    ensure_ledger_topic(kafka_options(), installed.installation, 1, reaper);
}

// A settler of its own beside whatever runs.
class SettlerByHand {
  public:
    explicit SettlerByHand(const Installed& installed)
        : reader_(kafka_options(), installed.installation.ledger_topic(), installed.installation.id,
                  reaper_),
          relay_metrics_(metrics_),
          session_(relay_session(installed)),
          settler_(session_, installed.installation, reader_,
                   ledger_topic_id(reader_.raw(), installed.installation), relay_metrics_) {}

    // The reason of its failure; empty if it settled.
    std::string settle(PublisherState publisher, std::chrono::milliseconds limit = 10s) {
        try {
            settler_.settle(publisher, limit, [](Publishers&) {});
            return "";
        } catch (const Failure& failure) {
            return failure.reason();
        }
    }
    int backend_pid() const { return session_.backend_pid(); }

  private:
    kafka::Reaper reaper_;
    LedgerReader reader_;
    Metrics metrics_;
    RelayMetrics relay_metrics_;
    pg::Session session_;
    Settler settler_;
};

// A publisher that commits one transaction after the other, with two producers in turn as a relay
// does, until it is destroyed.
class BusyPublisher {
  public:
    BusyPublisher(const Installed& installed, int16_t number)
        : thread_([&installed, number](const std::stop_token& stop) {
              const std::string topic = installed.installation.ledger_topic();
              const std::string key = ledger_key(number);
              kafka::Reaper reaper;
              ProducerPair producers(kafka_options(), installed.installation, reaper);
              producers.init(number, {topic}, 15s);
              for (int64_t seq = 1; !stop.stop_requested(); ++seq) {
                  const std::string value = encode(empty_record(installed, number, 1, seq));
                  kafka::Producer& producer = producers.next().producer;
                  producer.begin();
                  producer.produce(
                      {.topic = topic, .partition = number, .key = key, .value = value});
                  producer.commit();
              }
          }) {}

  private:
    std::jthread thread_;
};

// A client whose connection breaks, while that is wanted, as soon as it has asked for offsets: as
// when a broker's machine went away and came back.
class CutOffClient {
  public:
    CutOffClient() : client_(make(), kafka::Bury{&reaper_, nullptr}) {}

    void cut(bool wanted) { is_cut_ = wanted; }
    rd_kafka_t* get() const { return client_.get(); }

  private:
    static constexpr int16_t kListOffsets = 2;  // In Kafka's protocol.

    rd_kafka_t* make() {
        kafka::Conf conf = kafka::make_conf(kafka_options(), {});
        rd_kafka_conf_interceptor_add_on_new(conf.get(), "cut", on_new, &is_cut_);
        return kafka::make_client(RD_KAFKA_PRODUCER, std::move(conf));
    }
    static rd_kafka_resp_err_t on_new(rd_kafka_t* client, const rd_kafka_conf_t*, void* opaque,
                                      char*, size_t) {
        return rd_kafka_interceptor_add_on_request_sent(client, "cut", on_request, opaque);
    }
    static rd_kafka_resp_err_t on_request(rd_kafka_t*, int socket, const char*, int32_t,
                                          int16_t api_key, int16_t, int32_t, size_t,
                                          void* opaque) {
        const auto& is_cut = *static_cast<const std::atomic<bool>*>(opaque);
        if (api_key == kListOffsets && is_cut) shutdown(socket, SHUT_RDWR);
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }

    std::atomic<bool> is_cut_{false};
    kafka::Reaper reaper_;
    kafka::Client client_;
};

// PROTOCOL 4.2: the end of the ledger that a settle reads to. librdkafka tells of no error then and
// of no offset. Taken for one, the settle ended at the partition's oldest record and halted a fleet
// that was well.
TEST(Settle, TakesNoEndFromABrokerThatWentAway) {
    const std::string topic = fresh_name("ledger");
    create_topic(topic, 2);
    ASSERT_TRUE(read_topic(topic).empty());  // So its partitions have leaders.
    CutOffClient client;
    kafka::Admin admin(client.get());
    ASSERT_EQ(admin.high_watermarks(topic, {0, 1}).size(), 2U);

    client.cut(true);
    // On a busy machine an answer may be there before the connection breaks.
    EXPECT_TRUE(eventually(20s, [&] {
        return failure_of([&] { admin.high_watermarks(topic, {1}); }).reason() ==
               "kafka_unreachable";
    }));
    EXPECT_TRUE(eventually(20s, [&] {
        return failure_of([&] { admin.last_stable_offsets(topic, {0, 1}); }).reason() ==
               "kafka_unreachable";
    }));
    client.cut(false);

    EXPECT_EQ(admin.high_watermarks(topic, {0, 1}).size(), 2U);
}

// PROTOCOL 4.4: as one that no broker leads. It used to keep every publisher from settling.
TEST(Settle, PassesOverAnotherPublishersPartitionThatNobodyTellsTheEndOf) {
    const std::string topic = fresh_name("ledger");
    create_topic(topic, kPublisherCount - 2);
    ASSERT_TRUE(read_topic(topic).empty());  // So its partitions have leaders.
    kafka::Reaper reaper;
    LedgerReader reader(kafka_options(), topic, Uuid::random(), reaper);

    // The broker names a new topic's partitions before it leads them all.
    size_t unread = 0;
    EXPECT_TRUE(eventually(30s, [&] {
        unread = reader.others(0, 10s).unread.size();
        return unread == 2;
    })) << unread;
}

// PROTOCOL 4.4: a settle must not wait for a living publisher to pause, for then a dead one's lanes
// would stand still the longer the more there is to do.
TEST(Settle, ReadsThePartitionOfAPublisherThatNeverPauses) {
    Installed installed;
    kafka::Reaper reaper;
    LedgerReader reader(kafka_options(), installed.installation.ledger_topic(),
                        installed.installation.id, reaper);
    const BusyPublisher busy(installed, 5);
    ASSERT_TRUE(eventually(30s, [&] {
        const auto others = reader.others(0, 5s);
        return others.newest.contains(5) && others.newest.at(5).seq > 50;
    }));

    for (int i = 0; i < 10; ++i) EXPECT_TRUE(reader.others(0, 300ms).unread.empty());
}

// PROTOCOL 4.4: one that died with a large transaction open hides nothing that it had committed,
// and is not waited for.
TEST(Settle, ReadsThePartitionOfAPublisherThatDiedInALongTransaction) {
    Installed installed;
    kafka::Reaper reaper;
    LedgerReader reader(kafka_options(), installed.installation.ledger_topic(),
                        installed.installation.id, reaper);
    write_ledger(installed, 5, encode(empty_record(installed, 5, 1, 7)));
    const OpenTransaction open(installed.installation.ledger_topic(), 5, /*record_count=*/20);

    const LedgerReader::Others others = reader.others(0, 5s);

    EXPECT_TRUE(others.unread.empty());
    ASSERT_TRUE(others.newest.contains(5));
    EXPECT_EQ(others.newest.at(5).seq, 7);
}

// PROTOCOL 4.3: q = s.
TEST(Settle, WithNothingInDoubtRedoesNothing) {
    Installed installed;
    installed.insert(100);
    {
        RunningRelay first(installed);
        ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    }
    installed.insert(100);

    RunningRelay second(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    second.stop();

    const Verdict verdict = installed.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(second.metric("millrace_relay_redos_total"), 0);
}

// PROTOCOL 4.3: q = s + 1. The predecessor died between its two commits.
TEST(Settle, DeletesWhatItsPredecessorHadPublished) {
    Installed installed;
    installed.insert(200);
    PublisherByHand dead(installed, 0);
    dead.take_lanes();
    ASSERT_EQ(dead.claim(120), 120U);
    dead.commit_kafka();
    dead.roll_back();
    ASSERT_EQ(installed.pending_count(), 200);

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const Verdict verdict = installed.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(relay.metric("millrace_relay_redos_total"), 1);
    EXPECT_EQ(relay.metric("millrace_relay_redo_mismatch_total"), 0);
}

// PROTOCOL 4.3, 1: the counters of the lost transaction are restored from its record.
TEST(Settle, GoesOnWithTheSequenceNumbersOfTheRedoneTransaction) {
    Installed installed;
    installed.insert(200);
    PublisherByHand dead(installed, 0);
    dead.take_lanes();
    dead.claim(120);
    dead.commit_kafka();
    dead.roll_back();

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    EXPECT_EQ(sequence_breaks(read_topic(installed.topic)), std::vector<std::string>{});
    EXPECT_EQ(installed.number("SELECT sum(n)::bigint FROM millrace.relay_counters"), 120);
}

// PROTOCOL 4.1, 4.3: the table of the counters is behind, the newest record is not.
TEST(Settle, GoesOnWithTheSequenceNumbersThatOnlyTheLedgerHas) {
    Installed installed;
    for (int run = 1; run <= 3; ++run) {
        RunningRelay relay(installed);
        // The last transaction leaves out most partitions.
        for (const int count : {20, 20, 20, 1}) {
            installed.insert(count);
            ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
        }
        relay.stop();
        ASSERT_LT(installed.number(
                      "SELECT coalesce(sum(n), 0)::bigint FROM millrace.relay_counters"),
                  61 * run);
    }

    EXPECT_EQ(sequence_breaks(read_topic(installed.topic)), std::vector<std::string>{});
}

// They are stored now and then, or the ledger's records would grow with each new topic.
TEST(Settle, FindsCountersThatWereStoredBefore) {
    Installed installed;
    {
        RunningRelay relay(installed);
        for (int batch = 1; batch <= 130; ++batch) {
            installed.insert(1);
            ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
        }
        relay.stop();
    }
    ASSERT_GE(
        installed.number("SELECT coalesce(sum(n), 0)::bigint FROM millrace.relay_counters"), 120);
    installed.insert(200);
    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    EXPECT_EQ(sequence_breaks(read_topic(installed.topic)), std::vector<std::string>{});
}

// PROTOCOL 4.1: more partitions than a ledger record is to name, stored in each transaction then.
TEST(Settle, GoesOnWithTheSequenceNumbersOfMorePartitionsThanARecordNames) {
    Installed installed(12, 300);
    for (int run = 1; run <= 3; ++run) {
        RunningRelay relay(installed);
        for (const int count : {100, 1000, 100, 1}) {
            installed.insert(count, count);
            ASSERT_TRUE(eventually(60s, [&] { return installed.pending_count() == 0; }));
        }
    }
    PublisherByHand dead(installed, 0);
    ASSERT_EQ(SettlerByHand(installed).settle(dead.state()), "");
    dead.take_lanes();
    installed.insert(400, 400);
    dead.claim();
    dead.commit_kafka();
    dead.roll_back();
    RunningRelay relay(installed);
    installed.insert(100, 100);
    ASSERT_TRUE(eventually(60s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    EXPECT_EQ(sequence_breaks(read_topic(installed.topic)), std::vector<std::string>{});
}

// PROTOCOL 4.3, 4.1: after a crash PostgreSQL gives out ids again that a lost transaction had
// drawn.
TEST(Settle, LeavesATaskThatHasTheIdOfAPublishedOne) {
    Installed installed;
    installed.insert(20);
    PublisherByHand dead(installed, 0);
    dead.take_lanes();
    dead.claim();
    dead.commit_kafka();
    dead.roll_back();
    const std::string other = Uuid::random().text();
    installed.execute("UPDATE millrace.pending_tasks SET event_id = '" + other +
                      "' WHERE id = (SELECT min(id) FROM millrace.pending_tasks)");

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const std::vector<SeenRecord> seen = read_topic(installed.topic);
    EXPECT_EQ(seen.size(), 21U);
    EXPECT_EQ(std::count_if(seen.begin(), seen.end(),
                            [&](const auto& record) { return record.headers.at("id") == other; }),
              1);
    EXPECT_EQ(relay.metric("millrace_relay_redos_total"), 1);
    EXPECT_EQ(relay.metric("millrace_relay_redo_mismatch_total"), 1);
}

// PROTOCOL 4.3: q > s + 1, as after a restore of the database from a backup.
TEST(Settle, OfADatabaseBehindTheLedgerHaltsEveryPublisherAndPublishesNothing) {
    Installed installed;
    installed.insert(20);
    write_ledger(installed, 0, encode(empty_record(installed, 0, 0, 2)));

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(
        30s, [&] { return halted_for_all(installed) == "database_behind_ledger"; }));
    relay.stop();

    EXPECT_EQ(installed.pending_count(), 20);
    EXPECT_EQ(count_records(installed.topic), 0U);
}

// PROTOCOL 4.3: the record's writer took the publisher by a commit that PostgreSQL has lost.
TEST(Settle, OfARecordWithAHigherEpochHaltsEveryPublisher) {
    Installed installed;
    write_ledger(installed, 0, encode(empty_record(installed, 0, 100, 1)));

    RunningRelay relay(installed);

    EXPECT_TRUE(eventually(
        30s, [&] { return halted_for_all(installed) == "database_behind_ledger"; }));
}

// PROTOCOL 4.3: no record though s > 0.
TEST(Settle, OfALedgerThatWasMadeAgainHaltsEveryPublisherAndPublishesNothing) {
    Installed installed;
    installed.insert(20);
    {
        RunningRelay first(installed);
        ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    }
    make_ledger_topic_again(installed);
    installed.insert(20);

    RunningRelay second(installed);
    ASSERT_TRUE(eventually(
        30s, [&] { return halted_for_all(installed) == "ledger_behind_database"; }));
    second.stop();

    EXPECT_EQ(installed.pending_count(), 20);
    EXPECT_EQ(count_records(installed.topic), 20U);
}

// PROTOCOL 4.3: q < s.
TEST(Settle, OfALedgerThatLostRecordsHaltsEveryPublisher) {
    Installed installed;
    write_ledger(installed, 0, encode(empty_record(installed, 0, 0, 1)));
    installed.execute("UPDATE millrace.relay_publishers SET seq = 2 WHERE number = 0");

    RunningRelay relay(installed);

    EXPECT_TRUE(eventually(
        30s, [&] { return halted_for_all(installed) == "ledger_behind_database"; }));
}

// PROTOCOL 4.3: the topic's id is not the row's. With s = 0 it used to be taken for a publisher
// that had never published, and what its first transaction had published went out again.
TEST(Settle, OfALedgerMadeAgainInDoubtOfTheFirstTransactionPublishesNothingTwice) {
    Installed installed;
    {
        RunningRelay first(installed);
        ASSERT_TRUE(eventually(30s, [&] { return is_running(installed, 0); }));
    }
    installed.insert(20);
    PublisherByHand dead(installed, 0);
    dead.take_lanes();
    dead.claim();
    dead.commit_kafka();
    dead.roll_back();
    make_ledger_topic_again(installed);

    RunningRelay second(installed);
    EXPECT_TRUE(eventually(
        30s, [&] { return halted_for_all(installed) == "ledger_behind_database"; }));
    second.stop();

    EXPECT_EQ(count_records(installed.topic), 20U);
}

// PROTOCOL 4.2.
TEST(Settle, OfARecordOfAnotherInstallationHaltsAndPublishesNothing) {
    Installed installed;
    installed.insert(20);
    LedgerRecord foreign = empty_record(installed, 0, 0, 0);
    foreign.installation = Uuid::random();
    write_ledger(installed, 0, encode(foreign));

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return halted_for_all(installed) == "prefix_taken"; }));
    relay.stop();

    EXPECT_EQ(installed.pending_count(), 20);
    EXPECT_EQ(count_records(installed.topic), 0U);
}

// PROTOCOL 4.1: another member may be able to read it, so it is left to others and nobody waits for
// it.
TEST(Settle, LeavesAPublisherWhoseRecordItCannotReadToOtherMembers) {
    Installed installed;
    installed.insert(20);
    installed.execute("UPDATE millrace.relay_lanes SET publisher = 0 WHERE lane = 0");
    write_ledger(installed, 0, "\x02 a later program's record");
    pg::Session other_member = installed.database.connect();
    other_member.execute(
        "INSERT INTO millrace.relay_members (instance, pid, backend_start, lease_until) "
        "SELECT gen_random_uuid(), pid, backend_start, clock_timestamp() + interval '1 hour' "
        "FROM pg_stat_activity WHERE pid = pg_backend_pid()");

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] {
        return installed.number("SELECT count(*) FROM millrace.pending_tasks WHERE lane > 0") == 0;
    }));

    EXPECT_TRUE(eventually(30s, [&] {
        return relay.metric("millrace_failures_total{reason=\"ledger_format\"}") >= 1;
    }));
    EXPECT_TRUE(eventually(30s, [&] {
        return installed.number("SELECT count(*) FROM millrace.relay_publishers WHERE number = 0 "
                                "AND owner IS NULL AND halted IS NULL") == 1;
    }));
    EXPECT_EQ(installed.number("SELECT count(*) FROM millrace.relay_lanes WHERE publisher = 0"), 1);
}

// PROTOCOL 4.1.
TEST(Settle, HaltsAPublisherWhoseRecordNoMemberCanRead) {
    Installed installed;
    installed.insert(20);
    write_ledger(installed, 0, "\x02 a later program's record");

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));

    EXPECT_TRUE(eventually(30s, [&] {
        return installed.text("SELECT halted FROM millrace.relay_publishers WHERE number = 0") ==
               "ledger_format";
    }));
}

// PROTOCOL 4.1: as a later program does that is started once nobody could read on.
TEST(Settle, EndsTheHaltOfAPublisherWhoseRecordItCanRead) {
    Installed installed;
    installed.insert(200, 50);
    installed.execute("UPDATE millrace.relay_publishers SET halted = 'ledger_format' "
                      "WHERE number = 4");
    installed.execute("UPDATE millrace.relay_lanes SET publisher = 4 WHERE lane < 6");

    RunningRelay relay(installed);

    EXPECT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    EXPECT_EQ(installed.number("SELECT count(halted) FROM millrace.relay_publishers"), 0);
}

// PROTOCOL 4.1, 4.4: in a rolling update the others' records may be newer than this program. It
// used to settle nothing then.
TEST(Settle, PublishesBesideAPublisherWhoseRecordItCannotRead) {
    Installed installed;
    installed.insert(20);
    write_ledger(installed, 7, "\x02 a later program's record");

    RunningRelay relay(installed);

    EXPECT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
}

// PROTOCOL 4.4: after a restore a publisher that ran one ahead may be one that nobody takes today,
// its rows in lanes of another.
TEST(Settle, RedoesAPublisherThatNobodyRuns) {
    Installed installed;
    installed.insert(40);
    PublisherByHand restored(installed, 5);
    restored.take_lanes();
    ASSERT_EQ(restored.claim(30), 30U);
    restored.commit_kafka();
    restored.roll_back();
    installed.execute("UPDATE millrace.relay_lanes SET publisher = NULL");

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const Verdict verdict = installed.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(relay.metric("millrace_relay_redos_total"), 1);
    EXPECT_EQ(installed.number("SELECT seq FROM millrace.relay_publishers WHERE number = 5"), 1);
    EXPECT_EQ(installed.number("SELECT version FROM millrace.relay_publishers WHERE number = 5"),
              restored.state().version + 1);
}

// PROTOCOL 4.4.
TEST(Settle, OfAnotherPublishersLostCommitsHaltsEveryPublisher) {
    Installed installed;
    installed.insert(20);
    write_ledger(installed, 5, encode(empty_record(installed, 5, 0, 2)));

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(
        30s, [&] { return halted_for_all(installed) == "database_behind_ledger"; }));
    relay.stop();

    EXPECT_EQ(count_records(installed.topic), 0U);
}

// PROTOCOL 4.4: a live publisher's record is one ahead of its row until its COMMIT.
TEST(Settle, LeavesAnotherPublishersTransactionInFlightAlone) {
    Installed installed;
    installed.insert(20);
    PublisherByHand in_flight(installed, 5);
    in_flight.take_lanes(6);
    const size_t claimed = in_flight.claim();
    ASSERT_GT(claimed, 0U);
    in_flight.commit_kafka();

    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return is_running(installed, 0); }));
    in_flight.commit_database();
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const Verdict verdict = installed.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(relay.metric("millrace_relay_redos_total"), 0);
}

// PROTOCOL 4.2: whose transaction is open may still commit a record, so nothing may be concluded.
TEST(Settle, WaitsWhileATransactionIsOpenInItsLedgerPartition) {
    Installed installed;
    SettlerByHand settler(installed);
    const PublisherState publisher = PublisherByHand(installed, 0).state();
    OpenTransaction open(installed.installation.ledger_topic(), 0);

    EXPECT_EQ(settler.settle(publisher, 500ms), "ledger_open_transaction");
    open.abort();
    EXPECT_EQ(settler.settle(publisher), "");
}

// PROTOCOL 4.3: what it found no longer holds under all rows' locks.
TEST(Settle, StoppedBeforeAnOperatorsResumeHaltsNobody) {
    Installed installed;
    SettlerByHand settler(installed);
    const PublisherState publisher = PublisherByHand(installed, 0).state();
    write_ledger(installed, 0, encode(empty_record(installed, 0, publisher.epoch, 2)));
    std::string end = "not ended";
    OpenTransaction open(installed.installation.ledger_topic(), 0);

    // It holds the row while it waits for the open transaction; the resume queues behind it, and
    // gets the lock before it can lock all rows.
    std::jthread settling([&] { end = settler.settle(publisher); });
    const std::string pid = std::to_string(settler.backend_pid());
    ASSERT_TRUE(eventually(10s, [&] {
        return installed.number("SELECT count(*) FROM pg_stat_activity WHERE pid = " + pid +
                                " AND state = 'idle in transaction'") == 1;
    }));
    std::jthread resuming([&] {
        // The table's queue is first come, first served; a row's is not.
        installed.execute(R"(
            DO $$ BEGIN
                LOCK TABLE millrace.relay_publishers IN ACCESS EXCLUSIVE MODE;
                UPDATE millrace.relay_publishers SET seq = 2 WHERE number = 0;
            END $$)");
    });
    ASSERT_TRUE(eventually(10s, [&] {
        return installed.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND database = "
                                "(SELECT oid FROM pg_database "
                                "WHERE datname = current_database())") == 1;
    }));
    open.abort();
    settling.join();
    resuming.join();

    EXPECT_EQ(end, "publisher_lost");
    EXPECT_EQ(installed.number("SELECT count(halted) FROM millrace.relay_publishers"), 0);
}

// PROTOCOL 4.2: the publisher's owner changed while this settle was on its way.
TEST(Settle, OfAPublisherThatWasTakenMeanwhileIsLost) {
    Installed installed;
    SettlerByHand settler(installed);
    const PublisherState stale = PublisherByHand(installed, 0).state();
    PublisherByHand(installed, 0);

    EXPECT_EQ(settler.settle(stale), "publisher_lost");
}

}  // namespace
}  // namespace millrace::test
