#pragma once

#include <cstdint>
#include <functional>

#include "app/bench/ground.h"
#include "app/bench/report.h"

namespace millrace {

struct ProjectionResult {
    double seconds = 0;  // From the first event applied to the last.
    double rate = 0;     // Events a second.
    Cpu cpu;             // With the start of the process.
    double resident_mebibytes = 0;
};

struct FeedOptions {
    int64_t event_count = 0;
    int64_t key_count = 100'000;
    // Each so many-th event has a key of its own and an amount below zero; 0: none has.
    int64_t poison_every = 0;
    // The first event of each key has an amount below zero.
    bool begins_keys_with_poison = false;
    int64_t events_per_second = 0;  // 0: as fast as it goes.
    int generation = 1;             // Of millrace-seq: another one for each feed of a topic.
    // After each transaction: how many of the events that are no poison are committed.
    std::function<void(int64_t)> on_commit{};
};

// Writes events to the workspace's topic as the relay does, in Kafka transactions of 2,000, or of
// what 20 ms bring at a rate.
void feed_topic(const BenchGround& ground, Workspace& workspace, const FeedOptions& options);

// A topic full of events over 100,000 keys into the sample read model `orders` by a worker. Throws
// kFatal `bench_unsound` unless the read model then counts each event once, and if there were too
// few to see them come.
ProjectionResult measure_projection(const BenchGround& ground, int64_t event_count,
                                    const Workspace::Values& values);
BenchRow row_of(const std::string& measure, const ProjectionResult& result, int64_t event_count);

}  // namespace millrace
