#include "consumers/patience.h"

namespace millrace {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kWaitFirst{250};
constexpr milliseconds kWaitMax{30000};
constexpr std::chrono::seconds kQuiet{10};

}  // namespace

Patience::Try Patience::next(std::string_view trouble) {
    auto known = troubles_.find(trouble);
    if (known == troubles_.end()) {
        known = troubles_.emplace(trouble, Trouble{Backoff(kWaitFirst, kWaitMax), {}}).first;
    }
    Backoff& backoff = known->second.backoff;
    const milliseconds wait = backoff.next();
    known->second.ends_at = Clock::now() + wait;
    return {.count = backoff.try_count(), .wait = wait};
}

void Patience::forget(std::string_view trouble) {
    const auto known = troubles_.find(trouble);
    if (known != troubles_.end()) troubles_.erase(known);
}

void Patience::forget_old() {
    const auto now = Clock::now();
    std::erase_if(troubles_,
                  [now](const auto& entry) { return now - entry.second.ends_at > kQuiet; });
}

}  // namespace millrace
