#pragma once

#include <string>

#include "core/pg/session.h"
#include "schema/event.h"

namespace millrace {

// What a batch means. The runtime owns transaction, position, retry and clock; a handler owns SQL
// on its own tables and nothing else, so that it can be replayed from the first event. One handler
// serves one loop: its calls come from that loop's thread. Implemented in projections/.
class Handler {
  public:
    virtual ~Handler() = default;

    // Prepares what the handler sends, on a session that was just opened.
    virtual void open(pg::Session& session) = 0;
    // True if the projection subscribes to this event's type; the others only move the position.
    virtual bool wants(const Event& event) const = 0;
    // Takes a wanted event into the batch being collected. False: the event must start a batch of
    // its own (it follows a tombstone of its key) and was not taken. Throws kPoison with reason
    // `unparsable_event` and a detail that names topic-partition@offset, path and column.
    virtual bool collect(const Event& event) = 0;
    // How many events, and how many bytes of parameters, the batch being collected holds.
    virtual size_t event_count() const = 0;
    virtual size_t byte_count() const = 0;
    // Queues the batch's statements. May be called again for the same batch after a rollback.
    virtual void queue(pg::Pipeline& pipeline) = 0;
    // Names, for an error message, the statement that was `index`-th of those queued: file and
    // line.
    virtual std::string describe_statement(size_t index, const pg::ServerError& error) const = 0;
    // Refreshes the planner's statistics of the handler's tables: a generic plan made over an empty
    // table keeps its sequential scan. Called on an idle session, after the projection's 10th,
    // 100th and 1,000th batch; may be called at any time.
    virtual void analyze(pg::Session& session) = 0;
    // Empties the batch.
    virtual void clear() = 0;
};

}  // namespace millrace
