#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "core/pg/params.h"

namespace millrace {

// What a batch relation says of an event beside the file's own columns; sent only if mentioned.
enum class Meta {
    kOrd,        // 1, 2, ... in the batch.
    kId,         // Of the event; null if its message carries none.
    kTopic,
    kPartition,
    kOffset,
    kKey,        // Of the message.
    kType,
    kTs,
    kTenant,
    kActor,
    kDeleted,    // True for a tombstone.
    kPayload,    // json
    kCount,      // Only in batch_last and batch_merged: the key's events in the batch.
};

struct MetaColumn {
    Meta meta;
    std::string_view name;
    std::string_view sql_type;
    pg::Type wire;
};

// All of them, in the order in which they are sent.
std::span<const MetaColumn> meta_columns();
std::optional<Meta> find_meta(std::string_view name);
const MetaColumn& column_of(Meta meta);

}  // namespace millrace
