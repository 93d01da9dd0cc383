#include "relay/publishers.h"

#include <algorithm>

namespace millrace {

namespace {

// One that is halted because nobody could read its record may be tried again: this may be a later
// program (PROTOCOL 4.1).
constexpr std::string_view kFindFree = R"(
    SELECT p.number, p.epoch,
           EXISTS (SELECT FROM millrace.relay_lanes l WHERE l.publisher = p.number),
           p.owner IS NOT NULL, coalesce(p.pid, 0),
           coalesce(p.started, '2000-01-01 00:00:00+00'::timestamptz)
    FROM millrace.relay_publishers p
    WHERE (p.halted IS NULL OR p.halted IN ('ledger_format', 'ledger_corrupt'))
      AND (NOT EXISTS (SELECT FROM millrace.live_members m WHERE m.instance = p.owner)
           OR (p.number = $1 AND p.epoch = $2))
    ORDER BY p.number = $1 AND p.epoch = $2 DESC, 3 DESC, p.number)";

constexpr std::string_view kTake = R"(
    UPDATE millrace.relay_publishers
    SET epoch = epoch + 1, owner = $3, pid = $4, running = false, halted = NULL,
        started = '2000-01-01 00:00:00+00'::timestamptz + $5::bigint * interval '1 microsecond'
    WHERE number = (SELECT number FROM millrace.relay_publishers
                    WHERE number = $1 AND epoch = $2
                      AND (halted IS NULL OR halted IN ('ledger_format', 'ledger_corrupt'))
                    FOR UPDATE SKIP LOCKED)
    RETURNING epoch, version, seq, generation)";

constexpr std::string_view kTerminate = R"(
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = $1
      AND backend_start = '2000-01-01 00:00:00+00'::timestamptz
                          + $2::bigint * interval '1 microsecond')";

constexpr std::string_view kCheck = "SELECT millrace.check_publisher($1, $2, $3)";

constexpr std::string_view kLock = R"(
    SELECT seq, version, generation, halted, ledger_topic_id FROM millrace.relay_publishers
    WHERE number = $1 AND epoch = $2
    FOR UPDATE)";

constexpr std::string_view kLockOther = R"(
    SELECT seq, version, generation, halted, ledger_topic_id FROM millrace.relay_publishers
    WHERE number = $1
    FOR UPDATE SKIP LOCKED)";

constexpr std::string_view kLockAll = R"(
    SELECT number, epoch, seq, ledger_topic_id FROM millrace.relay_publishers
    ORDER BY number
    FOR UPDATE)";

constexpr std::string_view kReadAll = R"(
    SELECT number, epoch, seq, ledger_topic_id FROM millrace.relay_publishers ORDER BY number)";

constexpr std::string_view kSetSeq =
    "UPDATE millrace.relay_publishers SET seq = $2 WHERE number = $1";
constexpr std::string_view kSetRunning =
    "UPDATE millrace.relay_publishers SET running = true WHERE number = $1";
constexpr std::string_view kSetLedgerTopic =
    "UPDATE millrace.relay_publishers SET ledger_topic_id = $2 WHERE number = $1";
constexpr std::string_view kBumpVersion =
    "UPDATE millrace.relay_publishers SET version = version + 1 WHERE number = $1";
constexpr std::string_view kHaltAll =
    "UPDATE millrace.relay_publishers SET halted = $1, running = false";
constexpr std::string_view kRelease = R"(
    UPDATE millrace.relay_publishers SET owner = NULL, running = false
    WHERE number = $1 AND epoch = $2)";

constexpr std::string_view kOwnedBy =
    "SELECT number, epoch FROM millrace.relay_publishers WHERE owner = $1";
constexpr std::string_view kRelieve = R"(
    UPDATE millrace.relay_publishers SET owner = NULL, running = false, epoch = epoch + 1
    WHERE number = (SELECT number FROM millrace.relay_publishers
                    WHERE number = $1 AND epoch = $2
                    FOR UPDATE SKIP LOCKED))";
constexpr std::string_view kHalted = R"(
    SELECT true, split_part(halted, ':', 1), count(*)
    FROM millrace.relay_lanes WHERE halted IS NOT NULL GROUP BY 2
    UNION ALL
    SELECT false, halted, count(*)
    FROM millrace.relay_publishers WHERE halted IS NOT NULL GROUP BY 2)";

constexpr std::string_view kLeaveUnread = R"(
    UPDATE millrace.relay_publishers
    SET owner = NULL, running = false,
        halted = CASE WHEN NOT EXISTS (
            SELECT FROM millrace.live_members m WHERE m.instance <> $4) THEN $3 END
    WHERE number = $1 AND epoch = $2 AND halted IS NULL)";

constexpr std::string_view kLanesOf =
    "SELECT lane FROM millrace.relay_lanes WHERE publisher = $1 ORDER BY lane";
// Lanes are locked by number, whatever order an UPDATE would find them in.
constexpr std::string_view kLockLanes = R"(
    SELECT lane FROM millrace.relay_lanes WHERE publisher = $1 ORDER BY lane FOR UPDATE)";
constexpr std::string_view kFreeLanes = R"(
    UPDATE millrace.relay_lanes SET publisher = NULL
    WHERE publisher = $1 AND lane = ANY($2::smallint[]))";
constexpr std::string_view kFreeAllLanes =
    "UPDATE millrace.relay_lanes SET publisher = NULL WHERE publisher = $1";
constexpr std::string_view kFreeIdleLanes = R"(
    UPDATE millrace.relay_lanes SET publisher = NULL
    WHERE publisher = $1 AND (halted IS NOT NULL OR paused))";
constexpr std::string_view kTakeFreeLanes = R"(
    UPDATE millrace.relay_lanes SET publisher = $1
    WHERE lane IN (SELECT lane FROM millrace.relay_lanes
                   WHERE publisher IS NULL AND halted IS NULL AND NOT paused
                   ORDER BY lane
                   LIMIT $2::int
                   FOR UPDATE SKIP LOCKED)
    RETURNING lane)";
constexpr std::string_view kHaltLane =
    "UPDATE millrace.relay_lanes SET halted = $3, publisher = NULL "
    "WHERE lane = $2 AND publisher = $1";

// The lanes that count, my rank among the publishers that count, and how many these are.
constexpr std::string_view kShare = R"(
    SELECT (SELECT count(*) FROM millrace.relay_lanes WHERE halted IS NULL AND NOT paused),
           count(*),
           count(*) FILTER (WHERE p.number < $1),
           ARRAY(SELECT lane::bigint FROM millrace.relay_lanes
                 WHERE publisher = $1 AND (halted IS NOT NULL OR paused) ORDER BY lane)::text,
           (SELECT count(*) FROM millrace.relay_lanes
            WHERE publisher IS NULL AND halted IS NULL AND NOT paused),
           (SELECT version FROM millrace.relay_publishers WHERE number = $1)
    FROM millrace.relay_publishers p
    JOIN millrace.live_members m ON m.instance = p.owner
    WHERE p.running AND p.halted IS NULL)";

LockedPublisher locked_of(const pg::Result& row) {
    return {.seq = row.integer(0, 0),
            .version = row.integer(0, 1),
            .generation = static_cast<int32_t>(row.integer(0, 2)),
            .halted = row.optional_text(0, 3),
            .ledger_topic_id = row.optional_text(0, 4)};
}

std::vector<PublisherSeq> all_of(const pg::Result& rows) {
    std::vector<PublisherSeq> all;
    for (int i = 0; i < rows.row_count(); ++i) {
        all.push_back({static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1),
                       rows.integer(i, 2), rows.optional_text(i, 3)});
    }
    return all;
}

std::vector<int16_t> lanes_in(const pg::Result& rows) {
    std::vector<int16_t> lanes;
    for (int i = 0; i < rows.row_count(); ++i) {
        lanes.push_back(static_cast<int16_t>(rows.integer(i, 0)));
    }
    std::sort(lanes.begin(), lanes.end());
    return lanes;
}

// "{3,7}" as PostgreSQL prints an array of numbers.
std::vector<int16_t> parse_lanes(std::string_view text) {
    std::vector<int16_t> lanes;
    int value = -1;
    for (const char c : text) {
        if (c >= '0' && c <= '9') {
            value = (value < 0 ? 0 : value * 10) + (c - '0');
            continue;
        }
        if (value >= 0) lanes.push_back(static_cast<int16_t>(value));
        value = -1;
    }
    return lanes;
}

}  // namespace

std::vector<FreePublisher> Publishers::find_free(const std::optional<PublisherState>& mine) {
    pg::Params params;
    params.int2(mine ? mine->number : static_cast<int16_t>(-1)).int8(mine ? mine->epoch : -1);
    const pg::Result rows = session_.execute_repeated(kFindFree, params);
    std::vector<FreePublisher> free;
    for (int i = 0; i < rows.row_count(); ++i) {
        free.push_back({.number = static_cast<int16_t>(rows.integer(i, 0)),
                        .epoch = rows.integer(i, 1),
                        .has_lanes = rows.boolean(i, 2),
                        .had_owner = rows.boolean(i, 3),
                        .pid = rows.integer(i, 4),
                        .started = rows.integer(i, 5)});
    }
    return free;
}

std::optional<PublisherState> Publishers::take(const FreePublisher& free, const Uuid& owner,
                                               int64_t pid, int64_t started) {
    const pg::Result row = session_.execute(kTake, pg::Params()
                                                       .int2(free.number)
                                                       .int8(free.epoch)
                                                       .uuid(owner)
                                                       .int4(static_cast<int32_t>(pid))
                                                       .int8(started));
    if (row.row_count() == 0) return std::nullopt;
    return PublisherState{.number = free.number,
                          .epoch = row.integer(0, 0),
                          .version = row.integer(0, 1),
                          .seq = row.integer(0, 2),
                          .generation = static_cast<int32_t>(row.integer(0, 3)),
                          .lanes = {}};
}

bool Publishers::terminate(int64_t pid, int64_t started) {
    const pg::Result row = session_.execute(
        kTerminate, pg::Params().int4(static_cast<int32_t>(pid)).int8(started));
    return row.row_count() == 1 && row.boolean(0, 0);
}

std::vector<std::pair<int16_t, int64_t>> Publishers::owned_by(const Uuid& owner) {
    const pg::Result rows = session_.execute_repeated(kOwnedBy, pg::Params().uuid(owner));
    std::vector<std::pair<int16_t, int64_t>> owned;
    for (int i = 0; i < rows.row_count(); ++i) {
        owned.emplace_back(static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1));
    }
    return owned;
}

bool Publishers::relieve(int16_t number, int64_t epoch) {
    return session_.execute(kRelieve, pg::Params().int2(number).int8(epoch)).affected_count() == 1;
}

Publishers::Halted Publishers::halted() {
    const pg::Result rows = session_.execute(kHalted);
    Halted halted;
    for (int i = 0; i < rows.row_count(); ++i) {
        auto& by_reason = rows.boolean(i, 0) ? halted.lanes : halted.publishers;
        by_reason[rows.text(i, 1)] = static_cast<int>(rows.integer(i, 2));
    }
    return halted;
}

void Publishers::check(const PublisherState& publisher) {
    session_.execute(kCheck, pg::Params()
                                 .int2(publisher.number)
                                 .int8(publisher.epoch)
                                 .int8(publisher.version));
}

LockedPublisher Publishers::lock(const PublisherState& publisher) {
    const pg::Result row =
        session_.execute(kLock, pg::Params().int2(publisher.number).int8(publisher.epoch));
    if (row.row_count() == 0) {
        throw lost("publisher_lost", "publisher " + std::to_string(publisher.number) +
                                         " is no longer at epoch " +
                                         std::to_string(publisher.epoch));
    }
    return locked_of(row);
}

std::optional<LockedPublisher> Publishers::lock_other(int16_t number) {
    const pg::Result row = session_.execute(kLockOther, pg::Params().int2(number));
    if (row.row_count() == 0) return std::nullopt;
    return locked_of(row);
}

std::vector<PublisherSeq> Publishers::lock_all() { return all_of(session_.execute(kLockAll)); }

std::vector<PublisherSeq> Publishers::read_all() { return all_of(session_.execute(kReadAll)); }

void Publishers::set_seq(int16_t number, int64_t seq) {
    session_.execute(kSetSeq, pg::Params().int2(number).int8(seq));
}

void Publishers::set_running(int16_t number) {
    session_.execute(kSetRunning, pg::Params().int2(number));
}

void Publishers::set_ledger_topic(int16_t number, const std::string& topic_id) {
    session_.execute(kSetLedgerTopic, pg::Params().int2(number).text(topic_id));
}

void Publishers::bump_version(int16_t number) {
    session_.execute(kBumpVersion, pg::Params().int2(number));
}

void Publishers::halt_all(const std::string& reason) {
    session_.execute(kHaltAll, pg::Params().text(reason));
}

bool Publishers::release(const PublisherState& publisher) {
    return session_
               .execute(kRelease, pg::Params().int2(publisher.number).int8(publisher.epoch))
               .affected_count() == 1;
}

void Publishers::leave_unread(const PublisherState& publisher, const std::string& reason,
                              const Uuid& instance) {
    session_.execute(kLeaveUnread, pg::Params()
                                       .int2(publisher.number)
                                       .int8(publisher.epoch)
                                       .text(reason)
                                       .uuid(instance));
}

std::vector<int16_t> Publishers::lanes_of(int16_t number) {
    return lanes_in(session_.execute(kLanesOf, pg::Params().int2(number)));
}

void Publishers::free_lanes(int16_t number, const std::vector<int16_t>& lanes) {
    session_.execute(kLockLanes, pg::Params().int2(number));
    pg::ArrayBuilder array = array_of(lanes);
    session_.execute(kFreeLanes, pg::Params().int2(number).array(array));
}

void Publishers::free_all_lanes(int16_t number) {
    session_.execute(kLockLanes, pg::Params().int2(number));
    session_.execute(kFreeAllLanes, pg::Params().int2(number));
}

void Publishers::free_idle_lanes(int16_t number) {
    session_.execute(kLockLanes, pg::Params().int2(number));
    session_.execute(kFreeIdleLanes, pg::Params().int2(number));
}

std::vector<int16_t> Publishers::take_free_lanes(int16_t number, int count) {
    return lanes_in(session_.execute(kTakeFreeLanes, pg::Params().int2(number).int4(count)));
}

bool Publishers::halt_lane(int16_t number, int16_t lane, const std::string& reason) {
    return session_
               .execute(kHaltLane, pg::Params().int2(number).int2(lane).text(reason))
               .affected_count() == 1;
}

LaneShare Publishers::share_of(const PublisherState& publisher) {
    const pg::Result row =
        session_.execute_repeated(kShare, pg::Params().int2(publisher.number));
    const auto lane_count = static_cast<int>(row.integer(0, 0));
    const auto publisher_count = std::max(1, static_cast<int>(row.integer(0, 1)));
    const auto rank = static_cast<int>(row.integer(0, 2));
    const auto free_count = static_cast<int>(row.integer(0, 4));
    const int share =
        lane_count / publisher_count + (rank < lane_count % publisher_count ? 1 : 0);

    LaneShare wanted;
    wanted.version = row.integer(0, 5);
    wanted.to_give = parse_lanes(row.bytes(0, 3));
    std::vector<int16_t> working;
    std::set_difference(publisher.lanes.begin(), publisher.lanes.end(), wanted.to_give.begin(),
                        wanted.to_give.end(), std::back_inserter(working));
    while (static_cast<int>(working.size()) > share) {
        wanted.to_give.push_back(working.back());
        working.pop_back();
    }
    wanted.to_take = std::max(0, std::min(free_count, share - static_cast<int>(working.size())));
    return wanted;
}

}  // namespace millrace
