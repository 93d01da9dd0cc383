#include "consumers/batch_sender.h"

#include "core/crash_point.h"

namespace millrace {

namespace {

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

}  // namespace

std::string Refusal::text() const {
    std::string text = statement + ": " + error.text() + " [" + error.sqlstate + "]";
    if (!error.constraint.empty()) text += ", constraint " + error.constraint;
    return text;
}

std::optional<Refusal> send(pg::Session& session, Positions& positions, Handler& handler,
                            const Batch& batch) {
    // BEGIN inside a transaction that was left open only warns, and COMMIT would commit that, too.
    if (!session.is_idle()) throw transient("pg_session_busy", "a transaction was left open");

    MILLRACE_CRASH_POINT("consumer.before_cas");
    // So that a batch that is too slow is told from a server that is silent: each statement has its
    // own time, which the server ends first.
    pg::Pipeline pipeline(session, pg::Answers::kEach);
    pipeline.queue("BEGIN ISOLATION LEVEL READ COMMITTED");
    const size_t move_index = pipeline.queued_count();
    positions.queue_move(pipeline, batch.where, batch.move);
    pass_inside(pipeline, "consumer.after_cas");
    const size_t first_index = pipeline.queued_count();
    if (batch.event_count > 0) handler.queue(pipeline);
    pass_under_way(pipeline, "consumer.mid_apply");
    pass_inside(pipeline, "consumer.before_commit");
    const size_t commit_index = pipeline.queued_count();
    pipeline.queue("COMMIT");
    const pg::PipelineOutcome outcome = pipeline.finish();

    if (!outcome.error) {
        // A transaction that failed answers ROLLBACK, without an error (PROTOCOL 3.6).
        if (outcome.results.back().command_tag() != "COMMIT") {
            throw unknown("pg_commit_in_doubt",
                          "COMMIT of " + batch.text() + " answered " +
                              std::string(outcome.results.back().command_tag()));
        }
        MILLRACE_CRASH_POINT("consumer.after_commit");
        return std::nullopt;
    }
    Refusal refusal{.error = *outcome.error, .statement = "COMMIT"};
    const size_t index = outcome.failed_index;
    refusal.is_of_move = index == move_index;
    if (index >= first_index && index < commit_index) {
        refusal.statement = handler.describe_statement(index - first_index, refusal.error);
    } else if (index < first_index) {
        refusal.statement = refusal.is_of_move ? "the position's move" : "BEGIN";
    }
    // Nothing is left to roll back after a COMMIT that failed (a deferred constraint).
    if (!session.is_broken()) session.rollback();
    return refusal;
}

}  // namespace millrace
