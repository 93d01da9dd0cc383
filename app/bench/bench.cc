#include "app/bench/bench.h"

#include <algorithm>

#include "app/bench/drain.h"
#include "app/bench/latency.h"
#include "app/bench/projection.h"
#include "app/table.h"
#include "core/failure.h"

namespace millrace {

namespace {

constexpr int64_t kWarmUpTasks = 100'000;

// Runs the measures of `millrace bench` by name.
class Bench {
  public:
    Bench(const BenchGround& ground, const BenchOptions& options)
        : ground_(ground),
          options_(options),
          values_{{"relay.publishers", std::to_string(options.publishers)}} {}

    void measure(const std::string& name, std::vector<BenchRow>& rows) const {
        say(name);
        const LatencyOptions at_1000{.duration = std::chrono::seconds(options_.seconds),
                                     .values = values_};
        if (name == "drain") {
            const std::string title = "drain of " + with_commas(options_.task_count) + " tasks";
            rows.push_back(row_of(title, measure_drain(ground_, options_.task_count, values_),
                                  options_.task_count));
        } else if (name == "latency") {
            rows.push_back(row_of("commit to visible, 1,000/s", measure_latency(ground_, at_1000)));
        } else if (name == "projection") {
            rows.push_back(row_of("Kafka to read model",
                                  measure_projection(ground_, options_.task_count, {}),
                                  options_.task_count));
        } else {
            rows.push_back(
                row_of("insert to read model, 1,000/s", measure_end_to_end(ground_, at_1000)));
        }
    }

    // A broker that has just started takes twice the time for everything.
    void warm_up() const {
        say("warming the servers up");
        measure_drain(ground_, kWarmUpTasks, values_);
    }

  private:
    const BenchGround& ground_;
    const BenchOptions& options_;
    const Workspace::Values values_;
};

void print(std::ostream& out, const std::vector<BenchRow>& rows, bool is_json) {
    if (!is_json) {
        out << markdown_of(rows);
        return;
    }
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const BenchRow& row : rows) all.push_back(json_of(row));
    print_json(out, all);
}

}  // namespace

const std::vector<std::string>& bench_measures() {
    static const std::vector<std::string> names{"drain", "latency", "projection", "end-to-end"};
    return names;
}

int run_bench(const Config& config, const BenchOptions& options, bool is_json, std::ostream& out,
              const std::stop_token& stop) {
    const BenchGround ground{.config = config, .stop = stop};
    const Bench bench(ground, options);
    std::vector<BenchRow> rows;
    bool is_whole = true;
    try {
        bench.warm_up();
        for (const std::string& name : bench_measures()) {
            const auto& wanted = options.measures;
            const bool is_wanted = std::find(wanted.begin(), wanted.end(), name) != wanted.end();
            if (wanted.empty() || is_wanted) bench.measure(name, rows);
        }
    } catch (const Stopped&) {
        is_whole = false;
    }
    print(out, rows, is_json);
    return is_whole ? 0 : 1;
}

}  // namespace millrace
