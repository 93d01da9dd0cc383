#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/uuid.h"

namespace millrace::pg {

// Type oids of PostgreSQL's pg_type.dat that our statements bind; they never change.
enum class Type : unsigned {
    kBool = 16,
    kBytea = 17,
    kInt8 = 20,
    kInt2 = 21,
    kInt4 = 23,
    kText = 25,
    kJson = 114,
    kFloat8 = 701,
    kDate = 1082,
    kTimestamptz = 1184,
    kNumeric = 1700,
    kUuid = 2950,
    kJsonb = 3802,
};

// The oid of the array type over `element`.
unsigned array_oid(Type element);

// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
constexpr int64_t kEpochUs = 946684800000000;
// A timestamptz as the binary format has it.
int64_t timestamp_of(std::chrono::milliseconds since_1970);
// And back; rounded down.
std::chrono::milliseconds time_of(int64_t timestamp);

// Appends `value` as PostgreSQL's binary format has it: network byte order.
void append_int16(std::string& out, int16_t value);
void append_int32(std::string& out, int32_t value);
void append_int64(std::string& out, int64_t value);

// One array in PostgreSQL's binary format, built element by element (source: array_recv in
// src/backend/utils/adt/arrayfuncs.c). A value; `take` ends it.
class ArrayBuilder {
  public:
    explicit ArrayBuilder(Type element);

    void add_null();
    void add_bytes(std::string_view bytes);  // text, json, bytea: the bytes as they are
    void add_int2(int16_t value);
    void add_int4(int32_t value);
    void add_int8(int64_t value);
    void add_bool(bool value);
    void add_uuid(const Uuid& value);
    void add_optional_bytes(std::optional<std::string_view> bytes);
    void add_optional_int8(std::optional<int64_t> value);
    void add_optional_uuid(const std::optional<Uuid>& value);

    Type element() const { return element_; }
    int32_t size() const { return count_; }
    // The finished bytes; the builder is empty afterwards and can be filled again.
    std::string take();

  private:
    void reset();

    Type element_;
    int32_t count_ = 0;
    bool has_null_ = false;
    std::string bytes_;
};

// The parameters of one statement, all in binary format. Owns what it is given, except for
// `borrow`. Single thread.
class Params {
  public:
    Params& null(Type type);
    Params& text(std::string_view value);
    Params& optional_text(const std::optional<std::string>& value);
    Params& bytea(std::string_view value);
    Params& optional_bytea(const std::optional<std::string>& value);
    Params& boolean(bool value);
    Params& int2(int16_t value);
    Params& int4(int32_t value);
    Params& int8(int64_t value);
    Params& uuid(const Uuid& value);
    Params& array(ArrayBuilder& array);
    Params& null_array(Type element);
    // `bytes` must outlive the call that sends the statement.
    Params& borrow(unsigned oid, std::string_view bytes);

    int count() const { return static_cast<int>(slots_.size()); }
    // Parallel arrays as libpq's PQsendQueryParams takes them; valid until the next change.
    struct Wire {
        std::vector<unsigned> types;
        std::vector<const char*> values;
        std::vector<int> lengths;
        std::vector<int> formats;
    };
    Wire wire() const;

  private:
    struct Slot {
        unsigned oid;
        bool is_null;
        const char* borrowed;  // Null when the bytes are in `owned_`.
        size_t offset;
        size_t length;
    };

    Params& own(unsigned oid, std::string_view bytes);

    std::vector<Slot> slots_;
    std::string owned_;
};

}  // namespace millrace::pg
