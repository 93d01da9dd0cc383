#include "tests/support/checker.h"

#include <set>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace millrace::test {

namespace {

constexpr int64_t kExampleCountMax = 5;

struct Sighting {
    const TrueTask* task;
    int64_t count = 0;
};

using Sightings = std::unordered_map<std::string_view, Sighting>;

void require_same_run(const Truth& truth, const std::vector<SeenTask>& seen) {
    if (truth.run.empty()) throw std::invalid_argument("the truth names no run");
    for (const SeenTask& task : seen) {
        if (task.run == truth.run) continue;
        throw std::invalid_argument("the truth is of run " + truth.run + ", but " + task.id +
                                    " was seen of run " + task.run);
    }
}

Sightings index_of(const Truth& truth) {
    Sightings sightings;
    std::set<std::pair<std::string_view, int64_t>> places;
    for (const TrueTask& task : truth.tasks) {
        if (!sightings.emplace(task.id, Sighting{&task}).second) {
            throw std::invalid_argument("the truth holds task " + task.id + " twice");
        }
        if (!task.key.empty() && !places.emplace(task.key, task.sequence).second) {
            throw std::invalid_argument("the truth holds two tasks of key " + task.key +
                                        " with sequence " + std::to_string(task.sequence));
        }
    }
    return sightings;
}

std::string name_of(const TrueTask& task) {
    if (task.key.empty()) return task.id;
    return task.id + " (key " + task.key + ", sequence " + std::to_string(task.sequence) + ")";
}

void count(int64_t& number, std::vector<std::string>& examples, std::string example) {
    if (++number <= kExampleCountMax) examples.push_back(std::move(example));
}

}  // namespace

Verdict check(const Truth& truth, const std::vector<SeenTask>& seen) {
    require_same_run(truth, seen);
    Sightings sightings = index_of(truth);
    std::unordered_map<std::string_view, const TrueTask*> newest_of_key;

    Verdict verdict;
    verdict.task_count = static_cast<int64_t>(truth.tasks.size());
    for (const auto& [run, id] : seen) {
        const auto found = sightings.find(id);
        if (found == sightings.end()) {
            count(verdict.phantom_count, verdict.examples, "phantom: " + id);
            continue;
        }
        const TrueTask& task = *found->second.task;
        if (++found->second.count > 1) {
            count(verdict.doubled_count, verdict.examples, "doubled: " + name_of(task));
            continue;
        }
        if (task.key.empty()) continue;
        const TrueTask*& newest = newest_of_key.try_emplace(task.key, &task).first->second;
        if (task.sequence < newest->sequence) {
            count(verdict.reordered_count, verdict.examples,
                  "reordered: " + name_of(task) + " after " + name_of(*newest));
        } else {
            newest = &task;
        }
    }
    for (const TrueTask& task : truth.tasks) {
        if (sightings.at(task.id).count > 0) continue;
        count(verdict.lost_count, verdict.examples, "lost: " + name_of(task));
    }
    return verdict;
}

std::string Verdict::text() const {
    std::string text = std::to_string(task_count) + " tasks: " + std::to_string(lost_count) +
                       " lost, " + std::to_string(doubled_count) + " doubled, " +
                       std::to_string(reordered_count) + " reordered, " +
                       std::to_string(phantom_count) + " phantom";
    for (const std::string& example : examples) text += "\n  " + example;
    return text;
}

}  // namespace millrace::test
