#include "consumers/bisection.h"

#include "core/check.h"
#include "core/crash_point.h"

namespace millrace {

namespace {

class Bisection {
  public:
    Bisection(pg::Session& session, Handler& handler, const BisectionWork& work,
              const BisectionOptions& options, StormBreaker storm)
        : session_(session),
          handler_(handler),
          fill_(work.fill),
          items_(work.items),
          options_(options),
          storm_(std::move(storm)) {}

    BisectionResult run(bool is_known_bad) {
        apply_range(0, items_.size(), is_known_bad);
        handler_.clear();
        if (needs_rollback_) {
            session_.execute("ROLLBACK TO SAVEPOINT part");
            session_.execute("RELEASE SAVEPOINT part");
        }
        return std::move(result_);
    }

  private:
    // Applies [first, last), sets aside what must be. False: the whole has ended.
    bool apply_range(size_t first, size_t last, bool is_known_bad) {
        if (first == last) return true;
        if (!is_known_bad || last - first == 1) {
            size_t end = last;
            const std::optional<Refusal> refusal = try_part(first, end);
            if (!refusal) return end == last || apply_range(end, last, false);
            const FailureClass failure_class =
                class_of(refusal->error.sqlstate, options_.overrides);
            if (failure_class != FailureClass::kRecord || !refusal->is_of_handler) {
                result_.refusal = *refusal;
                return false;
            }
            if (last - first == 1) return set_aside(items_[first], *refusal);
        }
        const size_t middle = first + (last - first) / 2;
        const size_t letter_count = result_.letters.size();
        if (!apply_range(first, middle, false)) return false;
        // The culprit of this half, if the other one had none.
        return apply_range(middle, last, result_.letters.size() == letter_count);
    }

    // `end` moves back where an event must begin a part of its own.
    std::optional<Refusal> try_part(size_t first, size_t& end) {
        handler_.clear();
        std::vector<size_t> taken;
        std::vector<size_t> parked;
        for (size_t i = first; i < end; ++i) {
            fill_(items_[i], event_);
            if (is_parked()) {
                parked.push_back(items_[i]);
                continue;
            }
            parser_.parse(event_);
            if (!handler_.collect(event_)) {
                MILLRACE_CHECK(!taken.empty(), "an empty batch takes any event");
                end = i;
                break;
            }
            taken.push_back(items_[i]);
        }
        if (!taken.empty()) {
            const std::optional<Refusal> refusal = send_part();
            if (refusal) return refusal;
        }
        storm_.note_good(taken.size());
        result_.applied.insert(result_.applied.end(), taken.begin(), taken.end());
        result_.parked.insert(result_.parked.end(), parked.begin(), parked.end());
        return std::nullopt;
    }

    bool is_parked() const {
        return event_.key && !stopped_keys_.empty() && stopped_keys_.contains(*event_.key);
    }

    // One round trip. The checks run under a savepoint of their own, which is rolled back: so
    // constraints that were deferred are deferred again for the next part.
    std::optional<Refusal> send_part() {
        ++result_.part_count;
        pg::Pipeline pipeline(session_, pg::Answers::kEach);
        if (needs_rollback_) {
            pipeline.queue("ROLLBACK TO SAVEPOINT part");
            pipeline.queue("RELEASE SAVEPOINT part");
        }
        pipeline.queue("SAVEPOINT part");
        const size_t first_index = pipeline.queued_count();
        handler_.queue(pipeline);
        const size_t last_index = pipeline.queued_count();
        pipeline.queue("SAVEPOINT checks");
        pipeline.queue("SET CONSTRAINTS ALL IMMEDIATE");
        pipeline.queue("ROLLBACK TO SAVEPOINT checks");
        pipeline.queue("RELEASE SAVEPOINT part");
        const pg::PipelineOutcome outcome = pipeline.finish();
        MILLRACE_CRASH_POINT("consumer.mid_bisection");
        needs_rollback_ = outcome.error.has_value();
        if (!outcome.error) return std::nullopt;
        Refusal refusal{.error = *outcome.error, .statement = "a deferred constraint"};
        refusal.is_of_handler = outcome.failed_index >= first_index;
        if (outcome.failed_index < first_index) {
            refusal.statement = "a savepoint";
        } else if (outcome.failed_index < last_index) {
            refusal.statement =
                handler_.describe_statement(outcome.failed_index - first_index, refusal.error);
        }
        return refusal;
    }

    bool set_aside(size_t index, const Refusal& refusal) {
        fill_(index, event_);
        const bool parks = parks_key(options_.on_poison, event_);
        result_.letters.push_back(
            {.index = index,
             .parks = parks,
             .cause = cause_of(refusal, FailureClass::kRecord, options_.attempt_count)});
        if (parks) stopped_keys_.emplace(*event_.key);
        storm_.note_letter();
        if (storm_.is_tripped()) result_.storm = storm_.text();
        return result_.storm.empty();
    }

    pg::Session& session_;
    Handler& handler_;
    const FillEvent& fill_;
    const std::vector<size_t>& items_;
    const BisectionOptions options_;
    StormBreaker storm_;
    EventParser parser_;
    Event event_;
    KeySet stopped_keys_;
    bool needs_rollback_ = false;
    BisectionResult result_;
};

}  // namespace

BisectionResult bisect(pg::Session& session, Handler& handler, const BisectionWork& work,
                       const BisectionOptions& options, StormBreaker storm) {
    return Bisection(session, handler, work, options, std::move(storm)).run(work.is_known_bad);
}

}  // namespace millrace
