#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace millrace {

struct StormLimits {
    double share = 0.05;           // Of the last `event_count_window` events.
    size_t event_count_window = 1000;
    size_t in_a_row = 50;
};

// Notices when so many events are poisoned that not they are at fault, but the projection or its
// producer: then setting them aside one by one would empty the topic into the dead letters. A value
// of one loop; what is noted of a batch that is not committed goes with a copy.
class StormBreaker {
  public:
    explicit StormBreaker(StormLimits limits) : limits_(limits) {}

    // In the order of the events.
    void note_good(size_t count = 1);
    void note_letter();
    bool is_tripped() const { return letters_.size() > count_max() || row_ >= limits_.in_a_row; }
    // For people.
    std::string text() const;

  private:
    size_t count_max() const;
    void forget_old();

    StormLimits limits_;
    uint64_t event_count_ = 0;
    std::deque<uint64_t> letters_;  // The window's: which event each was.
    size_t row_ = 0;
};

}  // namespace millrace
