#include "consumers/sequence_watch.h"

#include <charconv>

namespace millrace {

namespace {

struct Sequence {
    std::string_view series;
    int64_t n = 0;
};

std::optional<Sequence> parse(std::string_view header) {
    const size_t dot = header.rfind('.');
    if (dot == std::string_view::npos || dot == 0) return std::nullopt;
    Sequence sequence{.series = header.substr(0, dot)};
    const char* end = header.data() + header.size();
    const auto parsed = std::from_chars(header.data() + dot + 1, end, sequence.n);
    if (parsed.ec != std::errc() || parsed.ptr != end || sequence.n < 1) return std::nullopt;
    return sequence;
}

}  // namespace

std::string_view name_of(SequenceJump jump) {
    switch (jump) {
        case SequenceJump::kNone: return "none";
        case SequenceJump::kGap: return "gap";
        case SequenceJump::kDuplicate: return "duplicate";
        case SequenceJump::kReorder: return "reorder";
    }
    return "invalid";
}

SequenceJump SequenceWatch::look(int64_t offset, std::string_view header) const {
    if (offset <= noted_offset_) return SequenceJump::kNone;
    const std::optional<Sequence> sequence = parse(header);
    if (!sequence) return SequenceJump::kNone;
    const auto last = last_by_series_.find(sequence->series);
    if (last == last_by_series_.end() || sequence->n == last->second + 1) {
        return SequenceJump::kNone;
    }
    if (sequence->n > last->second) return SequenceJump::kGap;
    return sequence->n == last->second ? SequenceJump::kDuplicate : SequenceJump::kReorder;
}

void SequenceWatch::note(int64_t offset, std::string_view header) {
    if (offset <= noted_offset_) return;
    noted_offset_ = offset;
    const std::optional<Sequence> sequence = parse(header);
    if (!sequence) return;
    const auto last = last_by_series_.find(sequence->series);
    if (last == last_by_series_.end()) {
        last_by_series_.emplace(sequence->series, sequence->n);
        return;
    }
    // A number that came late leaves the expectation where it is: one disorder is told once.
    if (sequence->n > last->second) last->second = sequence->n;
}

std::optional<int64_t> SequenceWatch::last_of(std::string_view header) const {
    const std::optional<Sequence> sequence = parse(header);
    if (!sequence) return std::nullopt;
    const auto last = last_by_series_.find(sequence->series);
    if (last == last_by_series_.end()) return std::nullopt;
    return last->second;
}

void SequenceWatch::clear() {
    last_by_series_.clear();
    noted_offset_ = -1;
}

}  // namespace millrace
