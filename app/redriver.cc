#include "app/redriver.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "app/options.h"
#include "consumers/projection_worker.h"
#include "core/backoff.h"
#include "projections/catalog.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPage = 500;
// An outage that lasts longer ends the command; what it did stays done.
constexpr std::chrono::seconds kOutageMax{60};

ProjectionFile stored_definition(pg::Session& session, const ProjectionName& projection) {
    for (const CatalogEntry& entry : list_projections(session)) {
        if (entry.name != projection.name || entry.version != projection.version) continue;
        return parse_projection(entry.name + ".sql", entry.definition);
    }
    throw fatal("no_such_projection", "the catalog has no " + projection.name + " version " +
                                          std::to_string(projection.version) + " any more");
}

bool is_outage(const Failure& failure) {
    return failure.kind() == FailureKind::kTransient || failure.kind() == FailureKind::kUnknown;
}

RedriveOptions redrive_options(const ProjectionOptions& projection,
                               const RedriverOptions& options) {
    return {.is_dry_run = options.is_dry_run,
            .is_out_of_order = options.is_out_of_order,
            .runs_quarantined = !options.filter.ids.empty(),
            .redrive_count_max = options.redrive_count_max,
            .retry_count = std::max(1, projection.retry_count),
            .copies_to_kafka = projection.letters.copies_to_kafka,
            .overrides = projection.overrides};
}

ProjectionOptions options_of(const Config& config, const Installation& installation,
                             const ProjectionFile& file) {
    ProjectionOptions options =
        projection_options(config, installation, instance_name(), file.name);
    options.projection = {.name = file.name, .version = file.version};
    return options;
}

}  // namespace

Redriver::Served::Served(ProjectionFile file, const ProjectionOptions& projection,
                         const RedriverOptions& options)
    : handler(std::move(file)),
      session(author_session(projection)),
      redrive(session, handler, projection.projection, redrive_options(projection, options)) {
    handler.open(session);
}

Redriver::Redriver(const Config& config, const Installation& installation,
                   RedriverOptions options)
    : config_(config), installation_(installation), options_(std::move(options)) {}

void Redriver::run(const std::function<void(const std::vector<LetterLine>&,
                                            const RedrivenLetters&)>& on_page,
                   const std::function<void(const ParkedKey&, const Redriven&)>& on_key) {
    const auto begin = Clock::now();
    // What is set aside from now on is for the next time.
    const int64_t newest =
        patiently([&] { return LetterStore(session()).count(options_.filter).newest_id; });
    int64_t after = 0;
    int64_t count = 0;
    for (;;) {
        int64_t page_size = kPage;
        if (options_.letter_count_max > 0) {
            page_size = std::min(page_size, options_.letter_count_max - count);
        }
        if (page_size <= 0) break;
        // A burst is a tenth of a second's worth at most.
        if (options_.letters_per_second > 0) {
            page_size = std::clamp<int64_t>(
                static_cast<int64_t>(options_.letters_per_second / 10), 1, page_size);
        }
        std::vector<LetterLine> page = patiently(
            [&] { return LetterStore(session()).list(options_.filter, after, page_size); });
        std::erase_if(page, [&](const LetterLine& letter) { return letter.id > newest; });
        if (page.empty()) break;
        on_page(page, run_page(page));
        after = page.back().id;
        count += static_cast<int64_t>(page.size());
        if (options_.letters_per_second > 0) {
            std::this_thread::sleep_until(
                begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                            static_cast<double>(count) / options_.letters_per_second)));
        }
    }
    if (options_.is_dry_run || !options_.filter.ids.empty()) return;
    finish_keys(on_key);
}

void Redriver::finish_keys(
    const std::function<void(const ParkedKey&, const Redriven&)>& on_key) {
    const std::vector<ParkedKey> keys = patiently([&] {
        return LetterStore(session()).keys_without_letter(options_.filter.projection,
                                                          options_.filter.key);
    });
    for (const ParkedKey& key : keys) {
        on_key(key, patiently([&] {
                   return served(key.projection).redrive.finish(key.where, key.key);
               }));
    }
}

// Letters of one partition together, so that its position is locked once for many.
RedrivenLetters Redriver::run_page(const std::vector<LetterLine>& page) {
    std::map<std::pair<ProjectionName, TopicPartition>, std::vector<LetterLine>> parts;
    for (const LetterLine& letter : page) {
        parts[{letter.projection, letter.where}].push_back(letter);
    }
    RedrivenLetters done;
    for (const auto& [place, letters] : parts) run_part(place.second, letters, done);
    return done;
}

void Redriver::run_part(const TopicPartition& where, const std::vector<LetterLine>& letters,
                        RedrivenLetters& done) {
    try {
        patiently([&] {
            served(letters.front().projection).redrive.run(where, letters, done);
        });
    } catch (const Failure& failure) {
        if (is_outage(failure)) throw;
        // A table or a right that is missing, a definition that is gone: the other projections'
        // letters have their turn all the same.
        served_.clear();
        for (const LetterLine& letter : letters) {
            if (done.contains(letter.id)) continue;
            done[letter.id] = {.id = letter.id,
                               .outcome = Redriven::Outcome::kFailed,
                               .cause = failure.reason() + " " + failure.sqlstate(),
                               .why = failure.what()};
        }
    }
}

Redriver::Served& Redriver::served(const ProjectionName& projection) {
    std::unique_ptr<Served>& known = served_[projection];
    if (!known) {
        ProjectionFile file = stored_definition(session(), projection);
        const ProjectionOptions of_file = options_of(config_, installation_, file);
        known = std::make_unique<Served>(std::move(file), of_file, options_);
    }
    return *known;
}

pg::Session& Redriver::session() {
    if (!session_) session_ = std::make_unique<pg::Session>(session_options(config_));
    return *session_;
}

template <typename Work>
std::invoke_result_t<Work> Redriver::patiently(Work work) {
    Backoff backoff(std::chrono::milliseconds(250), std::chrono::seconds(5));
    std::optional<Clock::time_point> first;
    Clock::time_point last;
    for (;;) {
        try {
            return work();
        } catch (const Failure& failure) {
            // What went on for a while after a failure is not the same outage.
            if (!first || Clock::now() - last > kOutageMax) first = Clock::now();
            last = Clock::now();
            if (!is_outage(failure) || last - *first >= kOutageMax) throw;
            std::cerr << "waits: " << failure.what() << std::endl;
            session_.reset();
            served_.clear();
            std::this_thread::sleep_for(backoff.next());
        }
    }
}

}  // namespace millrace
