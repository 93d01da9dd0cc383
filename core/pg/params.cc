#include "core/pg/params.h"

#include <utility>

#include "core/check.h"

namespace millrace::pg {

namespace {

constexpr size_t kArrayHeaderBytes = 20;

template <typename Unsigned>
void append_big_endian(std::string& out, Unsigned value) {
    for (int shift = static_cast<int>(sizeof(value)) * 8 - 8; shift >= 0; shift -= 8) {
        out.push_back(static_cast<char>(value >> shift & 0xFF));
    }
}

}  // namespace

unsigned array_oid(Type element) {
    switch (element) {
        case Type::kBool: return 1000;
        case Type::kBytea: return 1001;
        case Type::kInt2: return 1005;
        case Type::kInt4: return 1007;
        case Type::kText: return 1009;
        case Type::kInt8: return 1016;
        case Type::kFloat8: return 1022;
        case Type::kDate: return 1182;
        case Type::kTimestamptz: return 1185;
        case Type::kJson: return 199;
        case Type::kNumeric: return 1231;
        case Type::kUuid: return 2951;
        case Type::kJsonb: return 3807;
    }
    MILLRACE_CHECK(false, "every bound type has an array type");
}

int64_t timestamp_of(std::chrono::milliseconds since_1970) {
    return std::chrono::microseconds(since_1970).count() - kEpochUs;
}

std::chrono::milliseconds time_of(int64_t timestamp) {
    return std::chrono::floor<std::chrono::milliseconds>(
        std::chrono::microseconds(timestamp + kEpochUs));
}

void append_int16(std::string& out, int16_t value) {
    append_big_endian(out, static_cast<uint16_t>(value));
}

void append_int32(std::string& out, int32_t value) {
    append_big_endian(out, static_cast<uint32_t>(value));
}

void append_int64(std::string& out, int64_t value) {
    append_big_endian(out, static_cast<uint64_t>(value));
}

ArrayBuilder::ArrayBuilder(Type element) : element_(element) { reset(); }

void ArrayBuilder::add_null() {
    append_int32(bytes_, -1);
    has_null_ = true;
    ++count_;
}

void ArrayBuilder::add_bytes(std::string_view bytes) {
    append_int32(bytes_, static_cast<int32_t>(bytes.size()));
    bytes_.append(bytes);
    ++count_;
}

void ArrayBuilder::add_int2(int16_t value) {
    append_int32(bytes_, 2);
    append_int16(bytes_, value);
    ++count_;
}

void ArrayBuilder::add_int4(int32_t value) {
    append_int32(bytes_, 4);
    append_int32(bytes_, value);
    ++count_;
}

void ArrayBuilder::add_int8(int64_t value) {
    append_int32(bytes_, 8);
    append_int64(bytes_, value);
    ++count_;
}

void ArrayBuilder::add_bool(bool value) { add_bytes(value ? std::string_view("\1", 1)
                                                          : std::string_view("\0", 1)); }

void ArrayBuilder::add_uuid(const Uuid& value) { add_bytes(value.view()); }

void ArrayBuilder::add_optional_bytes(std::optional<std::string_view> bytes) {
    if (!bytes) return add_null();
    add_bytes(*bytes);
}

void ArrayBuilder::add_optional_int8(std::optional<int64_t> value) {
    if (!value) return add_null();
    add_int8(*value);
}

void ArrayBuilder::add_optional_uuid(const std::optional<Uuid>& value) {
    if (!value) return add_null();
    add_uuid(*value);
}

std::string ArrayBuilder::take() {
    std::string header;
    append_int32(header, 1);  // Dimensions.
    append_int32(header, has_null_ ? 1 : 0);
    append_int32(header, static_cast<int32_t>(element_));
    append_int32(header, count_);
    append_int32(header, 1);  // Lower bound.
    bytes_.replace(0, kArrayHeaderBytes, header);

    std::string taken = std::move(bytes_);
    reset();
    return taken;
}

void ArrayBuilder::reset() {
    bytes_.assign(kArrayHeaderBytes, '\0');
    count_ = 0;
    has_null_ = false;
}

Params& Params::null(Type type) {
    slots_.push_back({static_cast<unsigned>(type), true, nullptr, 0, 0});
    return *this;
}

Params& Params::text(std::string_view value) {
    return own(static_cast<unsigned>(Type::kText), value);
}

Params& Params::optional_text(const std::optional<std::string>& value) {
    return value ? text(*value) : null(Type::kText);
}

Params& Params::bytea(std::string_view value) {
    return own(static_cast<unsigned>(Type::kBytea), value);
}

Params& Params::optional_bytea(const std::optional<std::string>& value) {
    return value ? bytea(*value) : null(Type::kBytea);
}

Params& Params::boolean(bool value) {
    return own(static_cast<unsigned>(Type::kBool), {value ? "\1" : "\0", 1});
}

Params& Params::int2(int16_t value) {
    std::string bytes;
    append_int16(bytes, value);
    return own(static_cast<unsigned>(Type::kInt2), bytes);
}

Params& Params::int4(int32_t value) {
    std::string bytes;
    append_int32(bytes, value);
    return own(static_cast<unsigned>(Type::kInt4), bytes);
}

Params& Params::int8(int64_t value) {
    std::string bytes;
    append_int64(bytes, value);
    return own(static_cast<unsigned>(Type::kInt8), bytes);
}

Params& Params::uuid(const Uuid& value) {
    return own(static_cast<unsigned>(Type::kUuid), value.view());
}

Params& Params::array(ArrayBuilder& array) {
    return own(array_oid(array.element()), array.take());
}

Params& Params::null_array(Type element) {
    slots_.push_back({array_oid(element), true, nullptr, 0, 0});
    return *this;
}

Params& Params::borrow(unsigned oid, std::string_view bytes) {
    // An empty value still needs an address: libpq takes a null pointer for SQL NULL.
    slots_.push_back({oid, false, bytes.data() != nullptr ? bytes.data() : "", 0, bytes.size()});
    return *this;
}

Params& Params::own(unsigned oid, std::string_view bytes) {
    slots_.push_back({oid, false, nullptr, owned_.size(), bytes.size()});
    owned_.append(bytes);
    return *this;
}

Params::Wire Params::wire() const {
    Wire wire;
    for (const Slot& slot : slots_) {
        wire.types.push_back(slot.oid);
        wire.lengths.push_back(static_cast<int>(slot.length));
        wire.formats.push_back(1);
        const char* data = slot.borrowed != nullptr ? slot.borrowed : owned_.data() + slot.offset;
        wire.values.push_back(slot.is_null ? nullptr : data);
    }
    return wire;
}

}  // namespace millrace::pg
