#include "app/letter_mask.h"

#include "projections/catalog.h"
#include "projections/masked_fields.h"

namespace millrace {

namespace {

constexpr const char* kHidden = "(masked; --raw shows it)";

}  // namespace

LetterMask::LetterMask(pg::Session& session, bool is_raw) : is_raw_(is_raw) {
    if (is_raw_) return;
    for (const CatalogEntry& entry : list_projections(session)) {
        Fields& fields = fields_[{.name = entry.name, .version = entry.version}];
        try {
            fields.paths = parse_projection(entry.name + ".sql", entry.definition).masked;
            fields.is_known = true;
        } catch (const Failure&) {
            // A newer program's: what it masks is not known.
        }
    }
}

bool LetterMask::hides_errors_of(const ProjectionName& projection) const {
    return fields_of(projection) != nullptr;
}

void LetterMask::apply(LetterLine& letter) const {
    if (hides_errors_of(letter.projection)) letter.error = kHidden;
}

void LetterMask::apply(const ProjectionName& projection, StoredRecord& record) const {
    const Fields* fields = fields_of(projection);
    if (fields == nullptr || !record.value) return;
    const auto masked =
        fields->is_known ? mask_fields(*record.value, fields->paths) : std::nullopt;
    // Nobody can tell what is in it.
    record.value = masked.value_or(kHidden);
}

const LetterMask::Fields* LetterMask::fields_of(const ProjectionName& projection) const {
    static const Fields kUnknown;
    if (is_raw_) return nullptr;
    const auto found = fields_.find(projection);
    // A version that is gone.
    if (found == fields_.end()) return &kUnknown;
    return found->second.is_known && found->second.paths.empty() ? nullptr : &found->second;
}

}  // namespace millrace
