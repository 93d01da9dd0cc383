#pragma once

#include <ostream>
#include <stop_token>
#include <string>
#include <vector>

#include "app/config.h"

namespace millrace {

struct BenchOptions {
    std::vector<std::string> measures;  // Of bench_measures(); empty: all.
    int64_t task_count = 500'000;       // Of a drain and of Kafka to read model.
    int seconds = 10;                   // Of each open loop.
    int publishers = 1;
};

const std::vector<std::string>& bench_measures();

// Measures the configured servers, each measurement in a scratch database and topics of its own
// that are gone afterwards, also when `stop` ends it. Progress goes to standard error, the rows to
// `out` in the end, those that were finished also after a stop. Returns the exit code; throws
// Failure.
int run_bench(const Config& config, const BenchOptions& options, bool is_json, std::ostream& out,
              const std::stop_token& stop);

}  // namespace millrace
