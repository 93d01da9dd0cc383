#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "consumers/redrive.h"
#include "tests/support/counted.h"

namespace millrace::test {

// Dead letters of the projection `counted`.

// For Counted::at_insert: what it does, and to whom.
inline constexpr const char* kRefuseK3 = "RAISE 'k3 is refused' USING ERRCODE = '23514';";
inline constexpr const char* kForK3 = "FOR EACH ROW WHEN (NEW.key = 'k3')";

// What its handler refuses, in partition 0.
FedMessage poison_of(std::optional<std::string> key);

int64_t letter_count(const Counted& counted);
int64_t parked_count(const Counted& counted);
// Whether the counts beside the positions are those of the tables.
bool counts_agree(const Counted& counted);
// Waits until so many events are applied, letters, or parked.
bool reaches(const Counted& counted, int64_t handled_count);

// Runs all its letters, as the command does.
class Redriving {
  public:
    explicit Redriving(const Counted& counted, RedriveOptions options = {});

    std::vector<Redriven> run();
    pg::Session& session() { return session_; }
    Redrive& redrive() { return redrive_; }

  private:
    pg::Session session_;
    CountedHandler handler_;
    Redrive redrive_;
};

}  // namespace millrace::test
