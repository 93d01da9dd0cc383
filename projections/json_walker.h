#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "projections/json_path.h"

namespace millrace {

// What a payload holds at one path.
struct JsonSlot {
    // A token: a number, true or false.
    enum class Kind { kAbsent, kNull, kString, kToken, kContainer };

    Kind kind = Kind::kAbsent;
    std::string_view text;  // A string's content without its escapes; else as `raw`.
    std::string_view raw;   // The value's JSON as it stands in the payload.
    // What jsonb cannot hold, somewhere inside: U+0000, a number beyond PostgreSQL's numeric.
    bool holds_nul = false;
    bool holds_huge_number = false;
};

// Reads a payload once from front to end, checks all of it (syntax, UTF-8, escapes, depth), also
// where no path looks, so that the verdict does not depend on the columns, and keeps what stands at
// the given paths. A member that occurs twice: the last one counts, as for PostgreSQL's jsonb and
// for JavaScript. Holds simdjson's buffers: one per loop, not thread-safe.
class JsonWalker {
  public:
    explicit JsonWalker(const std::vector<JsonPath>& paths);
    ~JsonWalker();

    // Empty when the payload is JSON, else why it is not. `payload` need not be padded.
    std::string_view read(std::string_view payload);
    // Of the path given as number `path_index`; valid until the next read, if the last succeeded.
    const JsonSlot& slot(size_t path_index) const;

  private:
    // Out of sight, for simdjson's classes differ in layout between builds' flags.
    class Walk;
    std::unique_ptr<Walk> walk_;
};

}  // namespace millrace
