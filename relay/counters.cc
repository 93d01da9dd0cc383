#include "relay/counters.h"

#include <set>
#include <utility>

namespace millrace {

namespace {

constexpr std::string_view kLoad = R"(
    SELECT topic, partition, generation, n FROM millrace.relay_counters WHERE publisher = $1)";

constexpr std::string_view kStore = R"(
    INSERT INTO millrace.relay_counters AS c (publisher, topic, partition, generation, n)
    SELECT $1::smallint, topic, partition, $2::int, n
    FROM unnest($3::text[], $4::int[], $5::bigint[]) AS moved(topic, partition, n)
    ON CONFLICT (publisher, topic, partition)
    DO UPDATE SET generation = excluded.generation, n = excluded.n)";

// Five minutes at 170 transactions a second leave 800 dead versions of a counter, not 51,000.
constexpr int kStoreEvery = 64;
// A ledger record is to stay small beside its transaction.
constexpr size_t kUnstoredMax = 256;

pg::Params store_params(int16_t publisher, int32_t generation,
                        const std::vector<SequenceCounter>& counters) {
    pg::ArrayBuilder topics(pg::Type::kText);
    pg::ArrayBuilder partitions(pg::Type::kInt4);
    pg::ArrayBuilder numbers(pg::Type::kInt8);
    for (const SequenceCounter& counter : counters) {
        topics.add_bytes(counter.topic);
        partitions.add_int4(counter.partition);
        numbers.add_int8(counter.n);
    }
    pg::Params params;
    params.int2(publisher).int4(generation).array(topics).array(partitions).array(numbers);
    return params;
}

}  // namespace

void Counters::load(pg::Session& session, int16_t publisher, int32_t generation) {
    publisher_ = publisher;
    generation_ = generation;
    counters_.clear();
    unstored_.clear();
    transaction_count_ = 0;
    is_stored_ = false;
    const pg::Result rows = session.execute(kLoad, pg::Params().int2(publisher));
    for (int i = 0; i < rows.row_count(); ++i) {
        // A counter of an older generation begins again at 1, but its topic is known.
        const int64_t n = rows.integer(i, 2) == generation ? rows.integer(i, 3) : 0;
        counters_[{rows.text(i, 0), static_cast<int32_t>(rows.integer(i, 1))}] = n;
    }
}

int64_t Counters::next(std::string_view topic, int32_t partition) {
    const std::pair<std::string_view, int32_t> key{topic, partition};
    auto counter = counters_.find(key);
    if (counter == counters_.end()) {
        counter = counters_.emplace(Partition(topic, partition), 0).first;
    }
    const int64_t n = ++counter->second;
    const auto seen = unstored_.find(key);
    if (seen != unstored_.end()) {
        seen->second = n;
    } else {
        unstored_.emplace(Partition(topic, partition), n);
    }
    return n;
}

std::vector<SequenceCounter> Counters::unstored() const {
    std::vector<SequenceCounter> unstored;
    for (const auto& [partition, n] : unstored_) {
        unstored.push_back({partition.first, partition.second, n});
    }
    return unstored;
}

bool Counters::is_due() const {
    return transaction_count_ + 1 >= kStoreEvery || unstored_.size() > kUnstoredMax;
}

void Counters::store(pg::Session& session) {
    session.execute_repeated(kStore, store_params(publisher_, generation_, unstored()));
    is_stored_ = true;
}

void Counters::committed() {
    ++transaction_count_;
    if (!std::exchange(is_stored_, false)) return;
    unstored_.clear();
    transaction_count_ = 0;
}

void Counters::restore(pg::Session& session, int16_t publisher, int32_t generation,
                       const std::vector<SequenceCounter>& counters) {
    if (counters.empty()) return;
    session.execute(kStore, store_params(publisher, generation, counters));
}

std::vector<std::string> Counters::topics() const {
    std::set<std::string> names;
    for (const auto& [partition, n] : counters_) names.insert(partition.first);
    return {names.begin(), names.end()};
}

}  // namespace millrace
