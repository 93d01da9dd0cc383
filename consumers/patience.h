#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "core/backoff.h"

namespace millrace {

// How often in a row a loop met each kind of trouble, and how long it waits before it tries again.
// Each kind by itself: an outage neither uses up the tries of another kind nor makes its waits
// longer. Not thread-safe.
class Patience {
  public:
    struct Try {
        int count;  // In a row, this one included.
        std::chrono::milliseconds wait;
    };
    Try next(std::string_view trouble);
    // The trouble is over.
    void forget(std::string_view trouble);
    // Nothing fails now: what last did so a while ago is over. Not what failed just now, which may
    // only not have been tried again.
    void forget_old();
    void forget_all() { troubles_.clear(); }

  private:
    using Clock = std::chrono::steady_clock;
    struct Trouble {
        Backoff backoff;
        Clock::time_point ends_at;  // Of the last wait.
    };
    std::map<std::string, Trouble, std::less<>> troubles_;
};

}  // namespace millrace
