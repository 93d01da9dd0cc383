#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "app/letter_mask.h"
#include "consumers/letter_store.h"
#include "consumers/redrive.h"

namespace millrace {

// What a re-drive tells: a line for each letter on standard output, as text or as JSON; its
// progress, every two seconds, on standard error; and a sum by causes at its end. Errors are hidden
// where their projection masks fields.
class RedriveReport {
  public:
    struct Options {
        bool is_json = false;
        bool is_dry_run = false;
        int64_t total = 0;
        LetterMask mask;
    };
    explicit RedriveReport(Options options) : options_(std::move(options)) {}

    void add(const std::vector<LetterLine>& page, const RedrivenLetters& done);
    // A key that waited behind no letter.
    void add(const ParkedKey& key, const Redriven& done);
    void print_end() const;

    // The sum in one line.
    std::string text() const;
    bool has_failures() const {
        return counts_.contains(Redriven::Outcome::kFailed) || stop_count_ > 0;
    }

  private:
    using Clock = std::chrono::steady_clock;

    void add(const LetterLine& letter, const Redriven& redriven);
    void note_stop(const Redriven& redriven);
    void tell_progress();
    int64_t count_of(Redriven::Outcome outcome) const;

    // Where an event stopped its key, and why as far as that may be told.
    std::string stop_of(const ProjectionName& projection, const Redriven& redriven) const;

    const Options options_;
    const Clock::time_point begin_ = Clock::now();
    Clock::time_point told_at_ = begin_;
    std::map<Redriven::Outcome, int64_t> counts_;
    std::map<std::string, int64_t> causes_;
    int64_t parked_count_ = 0;
    int64_t stop_count_ = 0;  // Keys that stopped at a letter of their own.
    int64_t done_count_ = 0;
};

}  // namespace millrace
