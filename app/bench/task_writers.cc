#include "app/bench/task_writers.h"

#include <algorithm>

#include "app/bench/task_text.h"
#include "core/stop.h"

namespace millrace {

namespace {

std::string insert_of(const TaskWriters::Options& options) {
    if (!options.insert.empty()) return options.insert;
    return "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) SELECT '" +
           options.topic + "', t.key, '" + std::string(kBenchTaskType) +
           "', t.payload FROM unnest($1::text[], $2::json[]) AS t(key, payload)";
}

int64_t count_of(const TaskWriters::Options& options) {
    const double seconds = std::chrono::duration<double>(options.duration).count();
    const auto count = static_cast<int64_t>(seconds * options.tasks_per_second);
    return count - count % options.tasks_per_transaction;
}

}  // namespace

TaskWriters::TaskWriters(Options options)
    : options_(std::move(options)),
      task_count_(count_of(options_)),
      // The sessions are opened meanwhile.
      began_at_(Clock::now() + std::chrono::milliseconds(200)),
      committed_at_(static_cast<size_t>(task_count_)) {
    for (int i = 0; i < options_.writer_count; ++i) {
        parts_.emplace_back([this](const std::stop_token& stop) { write(stop); });
    }
}

void TaskWriters::join() {
    for (Part& part : parts_) part.join();
}

void TaskWriters::stop() {
    request_stop();
    join();
}

void TaskWriters::request_stop() {
    for (Part& part : parts_) part.request_stop();
}

bool TaskWriters::is_done() const {
    return std::all_of(parts_.begin(), parts_.end(),
                       [](const Part& part) { return part.has_ended(); });
}

std::optional<TaskWriters::Clock::time_point> TaskWriters::committed_at(int64_t number) const {
    const int64_t index = number - options_.first_number;
    if (index < 0 || index >= task_count_) return std::nullopt;
    const Clock::rep at = committed_at_[static_cast<size_t>(index)].load();
    if (at == 0) return std::nullopt;
    return Clock::time_point(Clock::duration(at));
}

void TaskWriters::write(const std::stop_token& stop) {
    pg::Session session(options_.session);
    session.prepare("insert", insert_of(options_));
    const int per_transaction = options_.tasks_per_transaction;
    const std::chrono::duration<double> slot_length(per_transaction / options_.tasks_per_second);
    for (;;) {
        const int64_t slot = next_slot_++;
        if (slot * per_transaction >= task_count_) return;
        const Clock::time_point due = began_at_ + std::chrono::duration_cast<Clock::duration>(
                                                      slot_length * static_cast<double>(slot));
        if (const auto wait = due - Clock::now(); wait > Clock::duration::zero()) {
            if (!wait_for(stop, wait)) return;
        }
        if (stop.stop_requested()) return;
        const Clock::rep late = (Clock::now() - due).count();
        for (Clock::rep seen = delay_max_;
             late > seen && !delay_max_.compare_exchange_weak(seen, late);) {
        }
        insert(session, options_.first_number + slot * per_transaction);
        const Clock::rep now = Clock::now().time_since_epoch().count();
        for (int64_t i = slot * per_transaction; i < (slot + 1) * per_transaction; ++i) {
            committed_at_[static_cast<size_t>(i)] = now;
        }
        committed_count_ += per_transaction;
    }
}

void TaskWriters::insert(pg::Session& session, int64_t first) const {
    pg::ArrayBuilder keys(pg::Type::kText);
    pg::ArrayBuilder payloads(pg::Type::kJson);
    for (int64_t n = first; n < first + options_.tasks_per_transaction; ++n) {
        keys.add_bytes(bench_key(n, options_.key_count));
        payloads.add_bytes(bench_payload(n, options_.key_count));
    }
    // Alone outside of a transaction: its answer comes after its COMMIT.
    session.execute_prepared("insert", pg::Params().array(keys).array(payloads));
}

}  // namespace millrace
