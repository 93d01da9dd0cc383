#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace millrace::test {

// A task that its writer committed.
struct TrueTask {
    std::string id;
    std::string key;       // Within which order is promised (topic and key); empty: none is.
    int64_t sequence = 0;  // Rises with each task of the key, as its writers held the key's lock.
};

// `run` names the run that made the data, as it stands beside the tasks where they are stored.
struct Truth {
    std::string run;
    std::vector<TrueTask> tasks;
};

// What a reader saw, with the run as the record itself names it.
struct SeenTask {
    std::string run;
    std::string id;
};

struct Verdict {
    int64_t task_count = 0;       // In the truth: a clean verdict about none proves nothing.
    int64_t lost_count = 0;       // Committed, never seen.
    int64_t doubled_count = 0;    // Sightings after the first.
    int64_t reordered_count = 0;  // First seen after a later task of the same key.
    int64_t phantom_count = 0;    // Sightings of what nobody committed.
    std::vector<std::string> examples;  // The first few of each.

    bool is_clean() const {
        return lost_count + doubled_count + reordered_count + phantom_count == 0;
    }
    std::string text() const;
};

// Holds what was seen, as often and in the order it was seen (partitions one after the other, since
// a key has only one), against what was committed. Throws std::invalid_argument instead of giving a
// verdict if a record is of another run than the truth, or if the truth contradicts itself: one id
// twice, or two tasks of a key with the same sequence.
Verdict check(const Truth& truth, const std::vector<SeenTask>& seen);

}  // namespace millrace::test
