#include "relay/operator.h"

#include "relay/publishers.h"

namespace millrace {

namespace {

constexpr std::string_view kLanes = R"(
    SELECT l.lane, l.publisher, p.owner::text,
           m.instance IS NOT NULL, l.halted, l.paused, waiting.n,
           coalesce(extract(epoch FROM clock_timestamp() - oldest.created_at)::bigint, 0)
    FROM millrace.relay_lanes l
    LEFT JOIN millrace.relay_publishers p ON p.number = l.publisher
    LEFT JOIN millrace.live_members m ON m.instance = p.owner
    CROSS JOIN LATERAL (SELECT count(*) AS n
                        FROM (SELECT FROM millrace.pending_tasks t WHERE t.lane = l.lane
                              LIMIT $1::int) looked_at) waiting
    LEFT JOIN LATERAL (SELECT t.created_at FROM millrace.pending_tasks t WHERE t.lane = l.lane
                       ORDER BY t.id LIMIT 1) oldest ON true
    ORDER BY l.lane)";

constexpr std::string_view kPublishers = R"(
    SELECT p.number, p.epoch, p.seq, p.halted, p.ledger_topic_id, p.owner::text,
           m.instance IS NOT NULL
    FROM millrace.relay_publishers p
    LEFT JOIN millrace.live_members m ON m.instance = p.owner
    ORDER BY p.number)";

constexpr std::string_view kBacklog = R"(
    SELECT lane, topic, count(*),
           extract(epoch FROM clock_timestamp() - min(created_at))::bigint
    FROM (SELECT lane, topic, created_at FROM millrace.pending_tasks LIMIT $1::int) looked_at
    GROUP BY lane, topic
    ORDER BY count(*) DESC, lane, topic)";

constexpr std::string_view kHalted = R"(
    SELECT said FROM (
        SELECT 1 AS kind, lane AS number, 'lane ' || lane || ' is halted: ' || halted AS said
        FROM millrace.relay_lanes WHERE halted IS NOT NULL
        UNION ALL
        SELECT 0, 0, 'publishers ' || string_agg(number::text, ' ' ORDER BY number)
                     || ' are halted: ' || halted
        FROM millrace.relay_publishers WHERE halted IS NOT NULL GROUP BY halted) all_halted
    ORDER BY kind, number)";

constexpr std::string_view kLockLane = "SELECT millrace.lock_lane($1)";
constexpr std::string_view kPause =
    "UPDATE millrace.relay_lanes SET paused = true WHERE lane = $1 AND NOT paused";
constexpr std::string_view kUnpause =
    "UPDATE millrace.relay_lanes SET paused = false WHERE lane = $1 AND paused";
constexpr std::string_view kResume =
    "UPDATE millrace.relay_lanes SET halted = NULL WHERE lane = $1 AND halted IS NOT NULL";
constexpr std::string_view kRecordAct =
    "INSERT INTO millrace.operator_acts (verb, object, reason) VALUES ($1, $2, nullif($3, ''))";

constexpr std::string_view kLockPublishers =
    "SELECT number FROM millrace.relay_publishers ORDER BY number FOR UPDATE";
constexpr std::string_view kLockLanes =
    "SELECT lane FROM millrace.relay_lanes ORDER BY lane FOR UPDATE";
constexpr std::string_view kSetLedgerState = R"(
    UPDATE millrace.relay_publishers
    SET seq = $2, epoch = greatest(epoch, $3), ledger_topic_id = $4, generation = generation + 1
    WHERE number = $1)";
constexpr std::string_view kReopen = R"(
    UPDATE millrace.relay_publishers
    SET epoch = epoch + 1, version = version + 1, owner = NULL, running = false, halted = NULL)";
constexpr std::string_view kForget = R"(
    UPDATE millrace.relay_publishers
    SET epoch = epoch + 1, version = version + 1, seq = 0, owner = NULL, pid = NULL, started = NULL,
        running = false, halted = NULL, generation = generation + 1, ledger_topic_id = NULL)";
constexpr std::string_view kFreeLanes = "UPDATE millrace.relay_lanes SET publisher = NULL";
constexpr std::string_view kCountTasks = "SELECT count(*) FROM millrace.pending_tasks";

std::string_view sql_of(LaneVerb verb) {
    switch (verb) {
        case LaneVerb::kPause: return kPause;
        case LaneVerb::kUnpause: return kUnpause;
        case LaneVerb::kResume: return kResume;
    }
    return {};
}

std::string name_of(LaneVerb verb) {
    switch (verb) {
        case LaneVerb::kPause: return "lanes pause";
        case LaneVerb::kUnpause: return "lanes unpause";
        case LaneVerb::kResume: return "lanes resume";
    }
    return {};
}

}  // namespace

std::vector<LaneReport> Operator::lanes(int task_count_max) {
    const pg::Result rows = session_.execute(kLanes, pg::Params().int4(task_count_max));
    std::vector<LaneReport> lanes;
    for (int i = 0; i < rows.row_count(); ++i) {
        LaneReport lane;
        lane.lane = static_cast<int16_t>(rows.integer(i, 0));
        if (!rows.is_null(i, 1)) lane.publisher = static_cast<int16_t>(rows.integer(i, 1));
        lane.owner = rows.optional_text(i, 2);
        lane.is_owner_live = rows.boolean(i, 3);
        lane.halted = rows.optional_text(i, 4);
        lane.is_paused = rows.boolean(i, 5);
        lane.task_count = rows.integer(i, 6);
        lane.oldest_age_seconds = rows.integer(i, 7);
        lanes.push_back(std::move(lane));
    }
    return lanes;
}

bool Operator::change_lane(LaneVerb verb, int16_t lane, const std::string& reason) {
    // One lane a transaction: with several, publishers and lanes would be locked out of their
    // order.
    pg::Transaction transaction(session_);
    const pg::Result owner = session_.execute(kLockLane, pg::Params().int2(lane));
    if (session_.execute(sql_of(verb), pg::Params().int2(lane)).affected_count() == 0) return false;
    if (!owner.is_null(0, 0)) {
        Publishers(session_).bump_version(static_cast<int16_t>(owner.integer(0, 0)));
    }
    record_act(name_of(verb), "lane " + std::to_string(lane), reason);
    transaction.commit();
    return true;
}

std::vector<BacklogShare> Operator::backlog(int task_count_max) {
    const pg::Result rows = session_.execute(kBacklog, pg::Params().int4(task_count_max));
    std::vector<BacklogShare> shares;
    for (int i = 0; i < rows.row_count(); ++i) {
        shares.push_back({static_cast<int16_t>(rows.integer(i, 0)), rows.text(i, 1),
                          rows.integer(i, 2), rows.integer(i, 3)});
    }
    return shares;
}

std::vector<PublisherReport> Operator::publishers() {
    const pg::Result rows = session_.execute(kPublishers);
    std::vector<PublisherReport> publishers;
    for (int i = 0; i < rows.row_count(); ++i) {
        publishers.push_back({.number = static_cast<int16_t>(rows.integer(i, 0)),
                              .epoch = rows.integer(i, 1),
                              .seq = rows.integer(i, 2),
                              .halted = rows.optional_text(i, 3),
                              .ledger_topic_id = rows.optional_text(i, 4),
                              .owner = rows.optional_text(i, 5),
                              .is_owner_live = rows.boolean(i, 6)});
    }
    return publishers;
}

std::vector<std::string> Operator::halted() {
    const pg::Result rows = session_.execute(kHalted);
    std::vector<std::string> halted;
    for (int i = 0; i < rows.row_count(); ++i) halted.push_back(rows.text(i, 0));
    return halted;
}

void Operator::record_act(const std::string& verb, const std::string& object,
                          const std::string& reason) {
    session_.execute(kRecordAct, pg::Params().text(verb).text(object).text(reason));
}

std::vector<PublisherReport> Operator::lock_fleet() {
    session_.execute(kLockPublishers);
    session_.execute(kLockLanes);
    // Read by a later statement: what the rows hold now that they are ours.
    return publishers();
}

void Operator::set_ledger_state(int16_t number, int64_t seq, int64_t epoch_least,
                                const std::string& ledger_topic_id) {
    session_.execute(
        kSetLedgerState,
        pg::Params().int2(number).int8(seq).int8(epoch_least).text(ledger_topic_id));
}

void Operator::reopen_publishers() { session_.execute(kReopen); }

int64_t Operator::begin_anew() {
    lock_fleet();
    session_.execute(kForget);
    session_.execute(kFreeLanes);
    return session_.execute(kCountTasks).integer(0, 0);
}

}  // namespace millrace
