#pragma once

#include <map>
#include <vector>

#include "consumers/letter_store.h"
#include "core/pg/session.h"
#include "projections/json_path.h"

namespace millrace {

// Hides what projections mask (`masked:` in their files) of letters that are shown or exported.
// Reads the catalog once; not thread-safe.
class LetterMask {
  public:
    // With `is_raw` it hides nothing.
    LetterMask(pg::Session& session, bool is_raw);

    // Errors quote rows and values as PostgreSQL or a trigger writes them, cut, cast or in another
    // order, where no mask would find them: where anything is masked no error is shown, but its
    // SQLSTATE and constraint.
    bool hides_errors_of(const ProjectionName& projection) const;
    void apply(LetterLine& letter) const;
    void apply(const ProjectionName& projection, StoredRecord& record) const;

  private:
    struct Fields {
        std::vector<JsonPath> paths;
        bool is_known = false;
    };
    // Null: nothing is masked.
    const Fields* fields_of(const ProjectionName& projection) const;

    const bool is_raw_;
    std::map<ProjectionName, Fields> fields_;
};

}  // namespace millrace
