#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "app/config.h"
#include "consumers/projection_options.h"
#include "consumers/redrive.h"
#include "core/pg/session.h"
#include "projections/sql_handler.h"
#include "schema/installation.h"

namespace millrace {

struct RedriverOptions {
    LetterFilter filter{};
    int64_t letter_count_max = 0;   // 0: all.
    double letters_per_second = 0;  // 0: as fast as it goes.
    bool is_dry_run = false;
    bool is_out_of_order = false;
    int redrive_count_max = 5;
};

// Runs dead letters of any projections, page by page, with the definitions that the database has
// and a session for each projection: needs no Kafka and no file but the configuration. Waits out an
// outage of up to a minute, then throws what it met; what was done stays done. Throws kFatal
// `no_such_projection` from finish_keys; in run, a definition that is gone fails its letters. Not
// thread-safe.
class Redriver {
  public:
    Redriver(const Config& config, const Installation& installation, RedriverOptions options);

    // `on_page` gets what came of up to 500 letters at a time. Then the keys that wait behind no
    // letter any more get what waits for them.
    void run(const std::function<void(const std::vector<LetterLine>&,
                                      const RedrivenLetters&)>& on_page,
             const std::function<void(const ParkedKey&, const Redriven&)>& on_key);
    // Only those keys.
    void finish_keys(const std::function<void(const ParkedKey&, const Redriven&)>& on_key);

  private:
    // What one version of a projection takes to be run.
    struct Served {
        Served(ProjectionFile file, const ProjectionOptions& projection,
               const RedriverOptions& options);

        SqlHandler handler;
        pg::Session session;
        Redrive redrive;
    };

    Served& served(const ProjectionName& projection);
    RedrivenLetters run_page(const std::vector<LetterLine>& page);
    void run_part(const TopicPartition& where, const std::vector<LetterLine>& letters,
                  RedrivenLetters& done);
    pg::Session& session();
    // Calls it, again while PostgreSQL is away.
    template <typename Work>
    std::invoke_result_t<Work> patiently(Work work);

    const Config& config_;
    const Installation& installation_;
    const RedriverOptions options_;
    std::unique_ptr<pg::Session> session_;
    std::map<ProjectionName, std::unique_ptr<Served>> served_;
};

}  // namespace millrace
