#include "consumers/batch_sender.h"

#include <algorithm>
#include <utility>

#include "core/crash_point.h"

namespace millrace {

namespace {

constexpr const char* kBegin = "BEGIN ISOLATION LEVEL READ COMMITTED";

// A point inside the pipeline: what was queued so far has run when the process dies (PROTOCOL 7.1).
void pass_inside(pg::Pipeline& pipeline, const char* name) {
    if (crash_is_due(name)) pipeline.flush_and_read();
    MILLRACE_CRASH_POINT(name);
}

// The statements are on their way and being run when the process dies.
void pass_under_way(pg::Pipeline& pipeline, const char* name) {
    if (crash_is_due(name)) pipeline.flush();
    MILLRACE_CRASH_POINT(name);
}

// BEGIN inside a transaction that was left open only warns, and COMMIT would commit that, too.
void require_idle(const pg::Session& session) {
    if (!session.is_idle()) throw transient("pg_session_busy", "a transaction was left open");
}

// What of a pipeline begins where.
struct Places {
    size_t move = SIZE_MAX;
    size_t handler = SIZE_MAX;
    size_t set_aside = SIZE_MAX;
    size_t copies = SIZE_MAX;
    size_t commit = SIZE_MAX;
};

void queue_begin(pg::Pipeline& pipeline, const BatchTools& tools, const Batch& batch,
                 Places& places) {
    pipeline.queue(kBegin);
    places.move = pipeline.queued_count();
    tools.positions.queue_move(pipeline, batch.where, batch.move);
}

void queue_end(pg::Pipeline& pipeline, const BatchTools& tools, const FillEvent& fill,
               const Batch& batch, Places& places) {
    const RecordsSetAside set_aside{
        .where = batch.where, .fill = fill, .letters = batch.letters, .parked = batch.parked};
    places.set_aside = pipeline.queued_count();
    if (batch.set_aside_count() > 0) {
        tools.letters.queue(pipeline, set_aside);
        pass_inside(pipeline, "consumer.after_letters");
    }
    places.copies = pipeline.queued_count();
    if (batch.has_copies) tools.letters.queue_copies(pipeline, set_aside);
    pass_inside(pipeline, "consumer.before_commit");
    places.commit = pipeline.queued_count();
    pipeline.queue("COMMIT");
}

Refusal refusal_of(const pg::PipelineOutcome& outcome, const Places& places,
                   const Handler& handler, bool has_events) {
    const size_t index = outcome.failed_index;
    Refusal refusal{.error = *outcome.error, .statement = "BEGIN"};
    if (index >= places.commit) {
        refusal.statement = "COMMIT";
        refusal.is_of_handler = has_events;  // A constraint that it deferred.
    } else if (index >= places.copies) {
        refusal.statement = "the dead letters' copies";
        refusal.is_of_copies = true;
    } else if (index >= places.set_aside) {
        refusal.statement = "the dead letters";
    } else if (index >= places.handler) {
        refusal.statement = handler.describe_statement(index - places.handler, refusal.error);
        refusal.is_of_handler = true;
    } else if (index == places.move) {
        refusal.statement = "the position's move";
        refusal.is_of_move = true;
    }
    return refusal;
}

// The end of a transaction's last pipeline. Nothing: it is committed.
std::optional<Refusal> conclude(const BatchTools& tools, const pg::PipelineOutcome& outcome,
                                const Places& places, const Batch& batch) {
    if (outcome.error) {
        Refusal refusal = refusal_of(outcome, places, tools.handler, batch.event_count > 0);
        // Nothing is left to roll back after a COMMIT that failed (a deferred constraint).
        if (!tools.session.is_broken()) tools.session.rollback();
        return refusal;
    }
    // A transaction that failed answers ROLLBACK, without an error (PROTOCOL 3.6).
    if (outcome.results.back().command_tag() != "COMMIT") {
        throw unknown("pg_commit_in_doubt",
                      "COMMIT of " + batch.text() + " answered " +
                          std::string(outcome.results.back().command_tag()));
    }
    MILLRACE_CRASH_POINT("consumer.after_commit");
    return std::nullopt;
}

}  // namespace

std::optional<Refusal> send(const BatchTools& tools, const FillEvent& fill, const Batch& batch) {
    require_idle(tools.session);
    MILLRACE_CRASH_POINT("consumer.before_cas");
    // So that a batch that is too slow is told from a server that is silent: each statement has its
    // own time, which the server ends first.
    pg::Pipeline pipeline(tools.session, pg::Answers::kEach);
    Places places;
    queue_begin(pipeline, tools, batch, places);
    pass_inside(pipeline, "consumer.after_cas");
    places.handler = pipeline.queued_count();
    if (batch.event_count > 0) tools.handler.queue(pipeline);
    pass_under_way(pipeline, "consumer.mid_apply");
    queue_end(pipeline, tools, fill, batch, places);
    return conclude(tools, pipeline.finish(), places, batch);
}

SentInParts send_in_parts(const BatchTools& tools, const FillEvent& fill,
                          const BisectionOptions& options, const StormBreaker& storm,
                          Batch& batch) {
    require_idle(tools.session);
    {
        pg::Pipeline pipeline(tools.session, pg::Answers::kEach);
        Places places;
        queue_begin(pipeline, tools, batch, places);
        const pg::PipelineOutcome begun = pipeline.finish();
        if (begun.error) {
            Refusal refusal = refusal_of(begun, places, tools.handler, false);
            if (!tools.session.is_broken()) tools.session.rollback();
            return {.refusal = std::move(refusal)};
        }
    }
    BisectionResult found =
        bisect(tools.session, tools.handler,
               {.fill = fill, .items = batch.items, .is_known_bad = true}, options, storm);
    SentInParts sent{.refusal = std::move(found.refusal),
                     .storm = std::move(found.storm),
                     .part_count = found.part_count};
    Batch in_parts = batch;
    Event event;
    for (DeadLetter& letter : found.letters) {
        fill(letter.index, event);
        in_parts.set_aside(std::move(letter), event);
    }
    in_parts.items = std::move(found.applied);
    in_parts.event_count = in_parts.items.size();
    in_parts.parked.insert(in_parts.parked.end(), found.parked.begin(), found.parked.end());
    std::sort(in_parts.parked.begin(), in_parts.parked.end());
    // What ended before all was tried says nothing about shares.
    if (!sent.refusal && sent.storm.empty()) {
        const StormBreaker judged = judge(storm, in_parts);
        if (judged.is_tripped()) sent.storm = judged.text();
    }
    if (!sent.storm.empty()) sent.storm += ", " + causes_of(in_parts.letters);
    if (sent.refusal || !sent.storm.empty()) {
        if (!tools.session.is_broken()) tools.session.rollback();
        return sent;
    }
    // Before the answer: if it is lost, the batch is committed as it is now, or dropped.
    std::swap(batch, in_parts);
    pg::Pipeline pipeline(tools.session, pg::Answers::kEach);
    Places places;
    queue_end(pipeline, tools, fill, batch, places);
    sent.refusal = conclude(tools, pipeline.finish(), places, batch);
    if (sent.refusal) std::swap(batch, in_parts);
    return sent;
}

}  // namespace millrace
