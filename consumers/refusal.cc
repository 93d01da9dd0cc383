#include "consumers/refusal.h"

namespace millrace {

std::string Refusal::text() const {
    std::string text = statement + ": " + error.text() + " [" + error.sqlstate + "]";
    if (!error.constraint.empty()) text += ", constraint " + error.constraint;
    return text;
}

Cause cause_of(const Refusal& refusal, FailureClass failure_class, int attempt_count) {
    return {.failure_class = failure_class,
            .reason = std::string(reason_of(failure_class)),
            .sqlstate = refusal.error.sqlstate,
            .constraint = refusal.error.constraint,
            .statement = refusal.statement,
            .error = refusal.error.text(),
            .attempt_count = attempt_count};
}

}  // namespace millrace
