#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

// What a record's millrace-seq says about those before it in its partition.
enum class SequenceJump { kNone, kGap, kDuplicate, kReorder };
std::string_view name_of(SequenceJump jump);

// Watches the numbers that the relay gives to the records of a partition (PROTOCOL 7.4):
//
//   millrace-seq = series "." n
//   series       = 8 hex of the installation "." publisher "." generation
//
// n is contiguous in a series. The first record of a series after an assignment is only taken note
// of. Records are shown in offset order; one that was noted is not judged again, so a batch may be
// collected twice. Not thread-safe.
class SequenceWatch {
  public:
    // What the record would be; changes nothing. A header that is not of this form is no jump.
    SequenceJump look(int64_t offset, std::string_view header) const;
    void note(int64_t offset, std::string_view header);
    // The last number seen of the header's series, for a message.
    std::optional<int64_t> last_of(std::string_view header) const;
    void clear();

  private:
    std::map<std::string, int64_t, std::less<>> last_by_series_;
    int64_t noted_offset_ = -1;
};

}  // namespace millrace
