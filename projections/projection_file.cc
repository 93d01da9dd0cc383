#include "projections/projection_file.h"

#include <openssl/sha.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "core/check.h"
#include "projections/projection_parts.h"
#include "projections/sql_lexer.h"

namespace millrace {

namespace {

constexpr std::string_view kHeaderBegin = "/* millrace projection";
// With "_v", the version, "_probe_" and a process id behind it still within PostgreSQL's 63 bytes.
constexpr size_t kNameSizeMax = 40;

void check_name(const ProjectionFile& file, Mistakes& mistakes) {
    const std::string& name = file.name;
    const bool is_plain = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") ==
                          std::string::npos;
    if (!name.empty() && is_plain && name.size() <= kNameSizeMax && name[0] >= 'a') return;
    mistakes.add(1, "the file's name is the projection's: up to 40 of a-z, 0-9 and _, a letter "
                    "first, and .sql");
}

struct HeaderPlace {
    size_t begin;  // Of the YAML.
    size_t end;
};

HeaderPlace find_header(const ProjectionFile& file, Mistakes& mistakes) {
    const std::string_view text = file.text;
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos ||
        text.substr(first, kHeaderBegin.size()) != kHeaderBegin) {
        mistakes.add(1, "a projection file begins with \"" + std::string(kHeaderBegin) + "\"");
        mistakes.throw_if_any();
    }
    const size_t begin = first + kHeaderBegin.size();
    const size_t end = text.find("*/", begin);
    if (end == std::string_view::npos) {
        mistakes.add(line_at(text, first), "the header comment does not end");
        mistakes.throw_if_any();
    }
    return {begin, end};
}

// Each part with its length before it, so that no two definitions give the same bytes.
class Canonical {
  public:
    void add(std::string_view part) {
        bytes_ += std::to_string(part.size());
        bytes_ += ':';
        bytes_ += part;
    }
    void add(const std::vector<std::string>& parts) {
        add(std::to_string(parts.size()));
        for (const std::string& part : parts) add(part);
    }
    std::string sha256() const {
        unsigned char digest[SHA256_DIGEST_LENGTH];
        SHA256(reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size(), digest);
        std::string hex;
        for (const unsigned char byte : digest) {
            hex += "0123456789abcdef"[byte >> 4];
            hex += "0123456789abcdef"[byte & 15];
        }
        return hex;
    }

  private:
    std::string bytes_;
};

}  // namespace

std::string_view name_of(SectionKind kind) {
    switch (kind) {
        case SectionKind::kTable: return "table";
        case SectionKind::kIndex: return "index";
        case SectionKind::kApply: return "apply";
    }
    MILLRACE_CHECK(false, "every section kind has a name");
}

std::vector<const Section*> ProjectionFile::sections_of(SectionKind kind) const {
    std::vector<const Section*> found;
    for (const Section& section : sections) {
        if (section.kind == kind) found.push_back(&section);
    }
    return found;
}

bool ProjectionFile::mentions(std::string_view identifier) const {
    return std::any_of(sections.begin(), sections.end(), [&](const Section& section) {
        return section.kind == SectionKind::kApply && section.mentions(identifier);
    });
}

ProjectionFile parse_projection(const std::string& path, const std::string& text) {
    ProjectionFile file;
    file.path = path;
    file.text = text;
    file.name = std::filesystem::path(path).stem().string();
    Mistakes mistakes(path);
    check_name(file, mistakes);

    const HeaderPlace header = find_header(file, mistakes);
    const std::string_view yaml =
        std::string_view(file.text).substr(header.begin, header.end - header.begin);
    parse_header(yaml, line_at(file.text, header.begin), file, mistakes);
    parse_sections(header.end + 2, file, mistakes);
    mistakes.throw_if_any();
    return file;
}

ProjectionFile read_projection_file(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw misconfigured("projection_file", path.string() + ":1: cannot be read");
    return parse_projection(path.string(), {std::istreambuf_iterator<char>(stream), {}});
}

std::vector<ProjectionFile> read_projection_folder(const std::filesystem::path& folder) {
    std::error_code error;
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        if (entry.path().extension() == ".sql") paths.push_back(entry.path());
    }
    if (error) throw misconfigured("projection_folder", folder.string() + ": " + error.message());
    std::sort(paths.begin(), paths.end());

    std::vector<ProjectionFile> files;
    std::string mistakes;
    for (const auto& path : paths) {
        try {
            files.push_back(read_projection_file(path));
        } catch (const Failure& failure) {
            mistakes += (mistakes.empty() ? "" : "\n") + failure.detail();
        }
    }
    if (!mistakes.empty()) throw misconfigured("projection_file", mistakes);
    return files;
}

std::string definition_hash(const ProjectionFile& file) {
    Canonical canonical;
    canonical.add(std::to_string(file.version));
    canonical.add(file.topics);
    canonical.add(file.types);
    canonical.add(file.key);
    canonical.add(std::to_string(file.columns.size()));
    for (const Column& column : file.columns) {
        canonical.add(column.name);
        canonical.add(name_of(column.type));
        canonical.add(column.path ? "path" : "header");
        canonical.add(column.source);
        canonical.add(column.is_required ? "required" : "");
        canonical.add(column.default_text ? "default" : "");
        canonical.add(column.default_text.value_or(""));
    }
    for (const Section& section : file.sections) {
        canonical.add(name_of(section.kind));
        canonical.add(section.canonical);
    }
    return canonical.sha256();
}

}  // namespace millrace
