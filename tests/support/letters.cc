#include "tests/support/letters.h"

#include <map>

#include "consumers/letter_store.h"
#include "tests/support/eventually.h"

namespace millrace::test {

FedMessage poison_of(std::optional<std::string> key) {
    return {.partition = 0, .key = std::move(key), .value = "\"poison\"", .headers = {}};
}

int64_t letter_count(const Counted& counted) {
    return counted.number("SELECT count(*) FROM millrace.dead_letters");
}

int64_t parked_count(const Counted& counted) {
    return counted.number("SELECT count(*) FROM millrace.parked_events");
}

bool counts_agree(const Counted& counted) {
    return counted.number("SELECT sum(letter_count)::bigint FROM millrace.positions") ==
               letter_count(counted) &&
           counted.number("SELECT sum(parked_count)::bigint FROM millrace.positions") ==
               parked_count(counted);
}

bool reaches(const Counted& counted, int64_t handled_count) {
    return eventually(std::chrono::seconds(60), [&] {
        return counted.applied_count() + letter_count(counted) + parked_count(counted) >=
               handled_count;
    });
}

Redriving::Redriving(const Counted& counted, RedriveOptions options)
    : session_(counted.database.connect()),
      redrive_(session_, handler_, {.name = "counted", .version = 1}, std::move(options)) {
    handler_.open(session_);
}

std::vector<Redriven> Redriving::run() {
    const std::vector<LetterLine> letters = LetterStore(session_).list({}, 0, 100'000);
    std::map<TopicPartition, std::vector<LetterLine>> parts;
    for (const LetterLine& letter : letters) parts[letter.where].push_back(letter);
    RedrivenLetters done;
    for (const auto& [where, of_partition] : parts) redrive_.run(where, of_partition, done);
    std::vector<Redriven> all;
    for (auto& [id, redriven] : done) all.push_back(std::move(redriven));
    return all;
}

}  // namespace millrace::test
