#include "projections/column_reader.h"

#include "core/check.h"
#include "core/failure.h"
#include "core/uuid.h"
#include "projections/calendar.h"

namespace millrace {

namespace {

constexpr Misfit kMissing = "required, but missing";

std::vector<JsonPath> paths_of(const ProjectionFile& file) {
    std::vector<JsonPath> paths;
    for (const Column& column : file.columns) {
        if (column.path) paths.push_back(*column.path);
    }
    // The whole payload, for _payload.
    if (file.mentions(column_of(Meta::kPayload).name)) paths.emplace_back();
    return paths;
}

[[noreturn]] void refuse(const Event& event, std::string_view source, Misfit misfit,
                         std::string_view column) {
    std::string detail(event.topic);
    detail += "-" + std::to_string(event.partition) + "@" + std::to_string(event.offset) + ": ";
    detail.append(source).append(": ").append(misfit);
    if (!column.empty()) detail.append(", column ").append(column);
    throw poison("unparsable_event", std::move(detail));
}

Misfit append_slot(ColumnType type, const JsonSlot& slot, std::string& out) {
    if (type == ColumnType::kJson || type == ColumnType::kJsonb) {
        return append_raw_json(type, slot, out);
    }
    switch (slot.kind) {
        case JsonSlot::Kind::kString: return append_json_string(type, slot.text, out);
        case JsonSlot::Kind::kToken: return append_json_token(type, slot.text, out);
        case JsonSlot::Kind::kContainer: return "an object or array, not a plain value";
        case JsonSlot::Kind::kAbsent:
        case JsonSlot::Kind::kNull: break;
    }
    MILLRACE_CHECK(false, "an absent value is not encoded");
}

std::optional<std::string_view> header_value(const Event& event, std::string_view name) {
    // Kafka lets a header stand there twice; the last one counts, as for a member of JSON.
    std::optional<std::string_view> value;
    for (const Header& header : event.headers) {
        if (header.name == name) value = header.value;
    }
    return value;
}

std::optional<std::string_view> text_of(const Event& event, Meta meta) {
    switch (meta) {
        case Meta::kTopic: return event.topic;
        case Meta::kKey: return event.key;
        case Meta::kTenant: return event.tenant;
        case Meta::kActor: return event.actor;
        case Meta::kType:
            if (!event.type.empty()) return event.type;
            return std::nullopt;
        case Meta::kOrd:
        case Meta::kId:
        case Meta::kPartition:
        case Meta::kOffset:
        case Meta::kTs:
        case Meta::kDeleted:
        case Meta::kPayload:
        case Meta::kCount: break;
    }
    return std::nullopt;
}

}  // namespace

ColumnReader::ColumnReader(const ProjectionFile& file, const BatchLayout& layout)
    : walker_(paths_of(file)) {
    size_t path_count = 0;
    for (const Column& column : file.columns) {
        Source source{column.name,   column.type,        !column.path, 0,
                      column.source, column.is_required, false,        ""};
        if (column.path) source.path_index = path_count++;
        if (column.default_text) {
            source.has_default = true;
            append_plain_text(column.type, *column.default_text, source.default_bytes);
        }
        sources_.push_back(std::move(source));
    }
    for (const BatchField& field : layout.fields) {
        if (field.meta) metas_.push_back(*field.meta);
    }
    payload_path_index_ = path_count;
    reads_payload_ = !paths_of(file).empty();
}

void ColumnReader::read(const Event& event, BatchRows& rows) {
    try {
        add_row(event, rows);
    } catch (const Failure&) {
        rows.drop_row();
        throw;
    }
}

void ColumnReader::add_row(const Event& event, BatchRows& rows) {
    if (reads_payload_ && event.payload) {
        const Misfit misfit = walker_.read(*event.payload);
        if (!misfit.empty()) refuse(event, "$", misfit, "");
    }
    for (const Source& source : sources_) add_column(event, source, rows);
    for (const Meta meta : metas_) add_meta(event, meta, rows);
    rows.end_row(event.key);
}

void ColumnReader::add_column(const Event& event, const Source& source, BatchRows& rows) {
    const bool is_tombstone = !event.payload;
    Misfit misfit = kFits;
    bool is_found = false;
    if (source.is_header) {
        const auto value = header_value(event, source.source);
        is_found = value.has_value();
        if (is_found) misfit = append_plain_text(source.type, *value, rows.open_cell());
    } else if (!is_tombstone) {
        const JsonSlot& slot = walker_.slot(source.path_index);
        is_found = slot.kind != JsonSlot::Kind::kAbsent && slot.kind != JsonSlot::Kind::kNull;
        if (is_found) misfit = append_slot(source.type, slot, rows.open_cell());
    } else {
        return rows.add_null();
    }
    if (!misfit.empty()) refuse(event, source.source, misfit, source.name);
    if (is_found) return rows.end_cell();
    if (source.is_required && !is_tombstone) refuse(event, source.source, kMissing, source.name);
    if (!source.has_default) return rows.add_null();
    rows.open_cell().append(source.default_bytes);
    rows.end_cell();
}

void ColumnReader::add_meta(const Event& event, Meta meta, BatchRows& rows) {
    std::string& out = rows.open_cell();
    switch (meta) {
        case Meta::kOrd: pg::append_int64(out, static_cast<int64_t>(rows.row_count()) + 1); break;
        case Meta::kPartition: pg::append_int32(out, event.partition); break;
        case Meta::kOffset: pg::append_int64(out, event.offset); break;
        case Meta::kTs: pg::append_int64(out, pg::timestamp_of(event.timestamp)); break;
        case Meta::kDeleted: out.push_back(event.payload ? '\0' : '\1'); break;
        case Meta::kPayload: return add_payload(event, rows);
        case Meta::kId: {
            const auto id = Uuid::parse(event.event_id);
            if (!id) return rows.add_null();
            out.append(id->view());
            break;
        }
        case Meta::kTopic:
        case Meta::kKey:
        case Meta::kType:
        case Meta::kTenant:
        case Meta::kActor: {
            const auto text = text_of(event, meta);
            if (!text) return rows.add_null();
            const Misfit misfit = append_checked_text(*text, out);
            if (!misfit.empty()) refuse(event, "message", misfit, column_of(meta).name);
            break;
        }
        case Meta::kCount: MILLRACE_CHECK(false, "_count is no cell");
    }
    rows.end_cell();
}

void ColumnReader::add_payload(const Event& event, BatchRows& rows) {
    if (!event.payload) return rows.add_null();
    const Misfit misfit =
        append_raw_json(ColumnType::kJson, walker_.slot(payload_path_index_), rows.open_cell());
    if (!misfit.empty()) refuse(event, "$", misfit, column_of(Meta::kPayload).name);
    rows.end_cell();
}

}  // namespace millrace
