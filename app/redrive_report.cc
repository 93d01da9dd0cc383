#include "app/redrive_report.h"

#include <algorithm>
#include <iostream>

#include "app/letter_text.h"
#include "app/table.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kProgressEvery{2};

std::string stop_text(const std::string& stop) {
    return stop.empty() ? "" : "; its key stops at a letter of its own, " + shown_text(stop);
}

}  // namespace

void RedriveReport::add(const std::vector<LetterLine>& page, const RedrivenLetters& done) {
    for (const LetterLine& letter : page) {
        const auto redriven = done.find(letter.id);
        if (redriven != done.end()) add(letter, redriven->second);
    }
    // Whoever reads them elsewhere has them, should we be interrupted.
    std::cout << std::flush;
    tell_progress();
}

void RedriveReport::add(const ParkedKey& key, const Redriven& done) {
    parked_count_ += done.parked_count;
    note_stop(done);
    const std::string stop = stop_of(key.projection, done);
    if (options_.is_json) {
        print_json_line(std::cout, {{"projection", key.projection.name},
                                    {"key", bytes_json(key.key)},
                                    {"outcome", "finished"},
                                    {"parked_applied", done.parked_count},
                                    {"stopped_at", stop}});
        return;
    }
    std::cout << "key " << shown_bytes(key.key) << " of " << key.projection.name << ": "
              << with_commas(done.parked_count) << " events that waited are applied"
              << stop_text(stop) << "\n";
}

void RedriveReport::print_end() const {
    if (options_.is_json) {
        nlohmann::ordered_json causes = nlohmann::ordered_json::object();
        for (const auto& [cause, count] : causes_) causes[cause] = count;
        print_json_line(std::cout, {{"outcome", "end"},
                                    {"dry_run", options_.is_dry_run},
                                    {"applied", count_of(Redriven::Outcome::kApplied)},
                                    {"failed", count_of(Redriven::Outcome::kFailed)},
                                    {"skipped", count_of(Redriven::Outcome::kSkipped)},
                                    {"parked_applied", parked_count_},
                                    {"new_letters", stop_count_},
                                    {"causes", causes}});
        return;
    }
    std::cout << text() << "\n";
    for (const auto& [cause, count] : causes_) {
        std::cout << "  " << with_commas(count) << "  " << cause << "\n";
    }
}

std::string RedriveReport::text() const {
    std::string text = with_commas(count_of(Redriven::Outcome::kApplied)) + " applied, " +
                       with_commas(count_of(Redriven::Outcome::kFailed)) + " failed again, " +
                       with_commas(count_of(Redriven::Outcome::kSkipped)) + " skipped; " +
                       with_commas(parked_count_) + " events behind them applied";
    if (stop_count_ > 0) {
        text += "; " + with_commas(stop_count_) + " keys stop at a letter of their own";
    }
    return options_.is_dry_run ? text + " (dry run: all of it is rolled back)" : text;
}

void RedriveReport::add(const LetterLine& letter, const Redriven& redriven) {
    const std::string outcome(name_of(redriven.outcome));
    ++counts_[redriven.outcome];
    ++done_count_;
    parked_count_ += redriven.parked_count;
    if (!redriven.cause.empty()) ++causes_[outcome + ": " + redriven.cause];
    note_stop(redriven);
    const bool hides = options_.mask.hides_errors_of(letter.projection);
    const std::string& why = hides ? redriven.cause : redriven.why;
    const std::string stop = stop_of(letter.projection, redriven);
    if (options_.is_json) {
        print_json_line(std::cout, {{"id", letter.id},
                                    {"projection", letter.projection.name},
                                    {"record", letter.origin()},
                                    {"outcome", outcome},
                                    {"cause", redriven.cause},
                                    {"why", why},
                                    {"parked_applied", redriven.parked_count},
                                    {"stopped_at", stop}});
        return;
    }
    std::cout << "letter " << letter.id << " " << letter.projection.name << " " << letter.origin()
              << ": " << outcome;
    if (!why.empty()) std::cout << ": " << shown_text(why);
    if (redriven.parked_count > 0) {
        std::cout << ", and " << with_commas(redriven.parked_count) << " behind it";
    }
    std::cout << stop_text(stop) << "\n";
}

std::string RedriveReport::stop_of(const ProjectionName& projection,
                                   const Redriven& redriven) const {
    if (!options_.mask.hides_errors_of(projection)) return redriven.stopped_at;
    return redriven.stopped_at.substr(0, redriven.stopped_at.find(": "));
}

void RedriveReport::note_stop(const Redriven& redriven) {
    if (!redriven.stopped_at.empty()) ++stop_count_;
}

void RedriveReport::tell_progress() {
    const auto now = Clock::now();
    if (now - told_at_ < kProgressEvery) return;
    told_at_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double rate = static_cast<double>(done_count_) / seconds;
    std::cerr << with_commas(done_count_) << " of " << with_commas(options_.total) << " letters, "
              << with_commas(static_cast<int64_t>(rate)) << "/s";
    if (rate > 0 && options_.total > done_count_) {
        const double left = static_cast<double>(options_.total - done_count_) / rate;
        std::cerr << ", about " << with_commas(static_cast<int64_t>(left) + 1) << " s left";
    }
    std::cerr << std::endl;
}

int64_t RedriveReport::count_of(Redriven::Outcome outcome) const {
    const auto count = counts_.find(outcome);
    return count == counts_.end() ? 0 : count->second;
}

}  // namespace millrace
