#pragma once

#include <simdjson.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "projections/json_path.h"

namespace millrace {

// What a payload holds at one path.
struct JsonSlot {
    enum class Kind { kAbsent, kNull, kString, kToken, kContainer };  // A token: number, true, false.

    Kind kind = Kind::kAbsent;
    std::string_view text;  // A string's content without its escapes; else as `raw`.
    std::string_view raw;   // The value's JSON as it stands in the payload.
    // What jsonb cannot hold, somewhere inside: U+0000, a number beyond PostgreSQL's numeric.
    bool holds_nul = false;
    bool holds_huge_number = false;
};

// Reads a payload once from front to end, checks all of it (syntax, UTF-8, escapes, depth), also
// where no path looks, so that the verdict does not depend on the columns, and keeps what stands at
// the given paths. A member that occurs twice: the last one counts, as for PostgreSQL's jsonb and for
// JavaScript. Holds simdjson's buffers: one per loop, not thread-safe.
class JsonWalker {
  public:
    explicit JsonWalker(const std::vector<JsonPath>& paths);

    // Empty when the payload is JSON, else why it is not. `payload` need not be padded.
    std::string_view read(std::string_view payload);
    // Of the path given as number `path_index`; valid until the next read that succeeded.
    const JsonSlot& slot(size_t path_index) const { return slots_[node_of_path_[path_index]]; }

  private:
    // Paths that begin alike share their nodes. Node 0 is the payload itself.
    struct Node {
        std::vector<std::pair<std::string, size_t>> members;
        std::vector<std::pair<size_t, size_t>> elements;
        bool is_wanted = false;
    };

    using Value = simdjson::ondemand::value;

    size_t add_step(size_t node, const JsonStep& step);
    std::string_view pad(std::string_view payload);
    void forget(size_t node);
    size_t find_member(size_t node, std::string_view name) const;
    size_t find_element(size_t node, size_t number) const;
    void visit(Value value, size_t node, int depth);
    void visit_object(Value value, size_t node, int depth);
    std::string_view name_of(simdjson::ondemand::field& field);
    void visit_array(Value value, size_t node, int depth);
    void visit_scalar(Value value, simdjson::ondemand::json_type type, size_t node);
    void keep(size_t node, JsonSlot slot);

    std::vector<Node> nodes_;
    std::vector<JsonSlot> slots_;
    std::vector<size_t> node_of_path_;
    simdjson::ondemand::parser parser_;
    simdjson::ondemand::document document_;
    std::string padded_;
    size_t nul_count_ = 0;
    size_t huge_number_count_ = 0;
};

}  // namespace millrace
