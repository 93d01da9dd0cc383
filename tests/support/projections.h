#pragma once

#include <optional>
#include <string>
#include <vector>

#include "projections/projection_file.h"
#include "schema/event.h"
#include "tests/support/database.h"

namespace millrace::test {

// A file of one table `t (id text PRIMARY KEY, n bigint)`, columns id and n, whose key is id, and
// the apply statements given.
inline std::string file_text(const std::vector<std::string>& apply,
                             const std::string& types = "[Added, Removed]",
                             const std::string& key = "key: id\n") {
    std::string text =
        "/* millrace projection\n"
        "version: 1\n"
        "topics: [things]\n"
        "types: " + types + "\n" + key +
        "columns:\n"
        "  id: {type: text, path: $.id}\n"
        "  n:  {type: bigint, path: $.n}\n"
        "*/\n"
        "-- table\n"
        "CREATE TABLE t (id text PRIMARY KEY, n bigint);\n";
    for (const std::string& statement : apply) text += "-- apply\n" + statement + ";\n";
    return text;
}

// One of projections/samples/. Tests run in the project's root folder.
inline ProjectionFile sample(const std::string& name) {
    return read_projection_file("projections/samples/" + name);
}

// An event of topic `things`, partition 0, key as given.
inline Event event_at(int64_t offset, std::string_view type, std::string_view key,
                      std::optional<std::string_view> payload) {
    Event event;
    event.topic = "things";
    event.offset = offset;
    event.type = type;
    event.key = key;
    event.payload = payload;
    return event;
}

}  // namespace millrace::test
