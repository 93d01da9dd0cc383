#include "relay/members.h"

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "core/stop.h"
#include "relay/publishers.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

constexpr std::string_view kRegister = R"(
    INSERT INTO millrace.relay_members (instance, pid, backend_start, lease_until, kafka_ok_at)
    SELECT $1, a.pid, a.backend_start,
           clock_timestamp() + $2::bigint * interval '1 millisecond', NULL
    FROM pg_stat_activity a WHERE a.pid = pg_backend_pid())";
constexpr std::string_view kRenew = R"(
    UPDATE millrace.relay_members
    SET lease_until = clock_timestamp() + $2::bigint * interval '1 millisecond',
        kafka_ok_at = CASE WHEN $3::bigint < 0 THEN kafka_ok_at
                           ELSE clock_timestamp() - $3::bigint * interval '1 millisecond' END
    WHERE instance = $1 AND lease_until >= clock_timestamp())";
constexpr std::string_view kRemove = "DELETE FROM millrace.relay_members WHERE instance = $1";
// Whether Kafka answered another live member within so many seconds.
constexpr std::string_view kOthersAreAnswered = R"(
    SELECT EXISTS (
        SELECT
        FROM millrace.relay_members m
        JOIN millrace.live_members l ON l.instance = m.instance
        WHERE m.instance <> $1
          AND m.kafka_ok_at > clock_timestamp() - $2::bigint * interval '1 second'))";
// A member that takes over asks Kafka nothing else for some seconds: that does not make one that is
// cut off whole.
constexpr int64_t kAnsweredWithin = 5;
constexpr int64_t kAnsweredWithinStill = 60;
// Rows of processes that died; their publishers have long been taken over.
constexpr std::string_view kRemoveOld = R"(
    DELETE FROM millrace.relay_members WHERE lease_until < clock_timestamp() - interval '1 hour')";

int64_t now_ns() {
    return Clock::now().time_since_epoch().count();
}

}  // namespace

std::optional<Uuid> Lease::instance() const {
    const std::lock_guard lock(mutex_);
    return instance_;
}

void Lease::set_instance(const std::optional<Uuid>& instance) {
    const std::lock_guard lock(mutex_);
    instance_ = instance;
}

milliseconds Lease::kafka_silence() const {
    const int64_t at = kafka_answered_at_ns_.load();
    if (at == 0) return milliseconds::max();
    return duration_cast<milliseconds>(std::chrono::nanoseconds(now_ns() - at));
}

void Lease::note_kafka_answer() { kafka_answered_at_ns_ = now_ns(); }

void PublisherWatch::set_publisher(const PublisherState& publisher, int64_t pid, int64_t started) {
    const std::lock_guard lock(mutex_);
    held_ = Held{publisher.number, publisher.epoch, pid, started};
}

void PublisherWatch::clear_publisher() {
    const std::lock_guard lock(mutex_);
    held_.reset();
}

std::optional<PublisherWatch::Held> PublisherWatch::held() const {
    const std::lock_guard lock(mutex_);
    return held_;
}

LeaseLoop::LeaseLoop(LeaseOptions options, Lease& lease, std::vector<PublisherWatch*> watches)
    : options_(std::move(options)), lease_(lease), watches_(std::move(watches)) {
    // A renewal that takes longer than the lease is of no use.
    options_.session.call_timeout = std::max(options_.lease, milliseconds(1000));
}

void LeaseLoop::run(std::stop_token stop) {
    while (!stop.stop_requested()) {
        try {
            keep(stop);
            return;
        } catch (const Failure& failure) {
            if (ends_program(failure)) throw;
            log(LogLevel::kWarn, "lease", "lease connection lost",
                {{"reason", failure.reason()}, {"detail", failure.detail()}});
            lease_.set_instance(std::nullopt);
        }
        wait_for(stop, backoff_.next());
    }
}

void LeaseLoop::keep(std::stop_token stop) {
    pg::Session session(options_.session);
    register_member(session);
    backoff_.reset();
    while (wait_for(stop, options_.lease / 5)) {
        const std::optional<Uuid> instance = lease_.instance();
        if (!renew(session, *instance)) {
            log(LogLevel::kWarn, "lease", "lease had expired; registering anew",
                {{"instance", instance->text()}});
            register_member(session);
        }
        relieve_hung_publishers(session);
        relieve_when_cut_off(session, *lease_.instance());
        relieve_stray_publishers(session, *lease_.instance());
    }
    session.execute(kRemove, pg::Params().uuid(*lease_.instance()));
}

void LeaseLoop::register_member(pg::Session& session) {
    const Uuid instance = Uuid::random();
    session.execute(kRegister, pg::Params().uuid(instance).int8(options_.lease.count()));
    session.execute(kRemoveOld);
    lease_.set_instance(instance);
    log(LogLevel::kInfo, "lease", "registered", {{"instance", instance.text()}});
}

bool LeaseLoop::renew(pg::Session& session, const Uuid& instance) {
    const milliseconds silence = lease_.kafka_silence();
    const int64_t silence_ms = silence == milliseconds::max() ? -1 : silence.count();
    return session
               .execute_repeated(kRenew, pg::Params()
                                             .uuid(instance)
                                             .int8(options_.lease.count())
                                             .int8(silence_ms))
               .affected_count() == 1;
}

void LeaseLoop::relieve_hung_publishers(pg::Session& session) {
    for (const PublisherWatch* watch : watches_) {
        const auto held = watch->held();
        if (!held || watch->loop.silence() < options_.hung_after) continue;
        const bool relieved = relieve(session, *held);
        log(LogLevel::kError, "lease", "publisher made no progress; given up",
            {{"publisher", held->number}, {"relieved", relieved ? "yes" : "not yet"}});
    }
}

bool LeaseLoop::relieve(pg::Session& session, const PublisherWatch::Held& held) {
    Publishers publishers(session);
    if (publishers.relieve(held.number, held.epoch)) return true;
    // Its own session holds the row: end that session, then again.
    publishers.terminate(held.pid, held.started);
    return publishers.relieve(held.number, held.epoch);
}

void LeaseLoop::relieve_when_cut_off(pg::Session& session, const Uuid& instance) {
    const auto age =
        duration_cast<milliseconds>(std::chrono::steady_clock::now() - begun_at_);
    const bool is_silent = std::min(lease_.kafka_silence(), age) >= options_.cut_off_after;
    const int64_t within = lease_.is_cut_off() ? kAnsweredWithinStill : kAnsweredWithin;
    const bool is_cut_off =
        is_silent &&
        session.execute_repeated(kOthersAreAnswered, pg::Params().uuid(instance).int8(within))
            .boolean(0, 0);
    if (is_cut_off != lease_.is_cut_off()) {
        log(LogLevel::kWarn, "lease",
            is_cut_off ? "cut off from Kafka while other relays are not; publishers given up"
                       : "no longer cut off from Kafka");
    }
    // Before they are given up, or a thread would take its own again.
    lease_.set_cut_off(is_cut_off);
    if (!is_cut_off) return;
    for (const PublisherWatch* watch : watches_) {
        const auto held = watch->held();
        if (held) relieve(session, *held);
    }
}

void LeaseLoop::relieve_stray_publishers(pg::Session& session, const Uuid& instance) {
    const auto strays_before = std::exchange(strays_, {});
    Publishers publishers(session);
    for (const std::pair<int16_t, int64_t>& which : publishers.owned_by(instance)) {
        const bool is_run = std::any_of(watches_.begin(), watches_.end(), [&](const auto* watch) {
            const auto held = watch->held();
            return held && held->number == which.first && held->epoch == which.second;
        });
        if (is_run) continue;
        const auto seen = strays_before.find(which);
        const Clock::time_point since = seen == strays_before.end() ? Clock::now() : seen->second;
        if (Clock::now() - since < options_.stray_after) {
            strays_.emplace(which, since);
            continue;
        }
        const bool relieved = publishers.relieve(which.first, which.second);
        log(LogLevel::kWarn, "lease", "publisher owned by no thread; given up",
            {{"publisher", which.first},
             {"epoch", which.second},
             {"relieved", relieved ? "yes" : "not yet"}});
    }
}

}  // namespace millrace
