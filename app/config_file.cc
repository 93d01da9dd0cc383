#include "app/config_file.h"

#include <yaml-cpp/yaml.h>

#include <set>

#include "core/nearest_name.h"

namespace millrace {

namespace {

// Splits at the first dot; `rest` is empty for a last part.
std::pair<std::string_view, std::string_view> split(std::string_view name) {
    const size_t dot = name.find('.');
    if (dot == std::string_view::npos) return {name, {}};
    return {name.substr(0, dot), name.substr(dot + 1)};
}

// What may stand at one place of the file: keys, by what is left of their names there.
struct Candidate {
    const ConfigKey* key;
    std::string_view rest;
};

class FileReader {
  public:
    FileReader(std::filesystem::path file, std::vector<std::string>& mistakes)
        : file_(std::move(file)), mistakes_(mistakes) {}

    std::vector<FileValue> read() {
        std::vector<Candidate> all;
        for (const ConfigKey& key : config_keys()) all.push_back({&key, key.name});
        try {
            const YAML::Node root = YAML::LoadFile(file_.string());
            if (!root.IsNull()) read_map(root, "", all);
        } catch (const YAML::BadFile&) {
            mistakes_.push_back(file_.string() + ": can't be read");
        } catch (const YAML::Exception& error) {
            mistake(error.mark, error.msg);
        }
        return std::move(values_);
    }

  private:
    void read_map(const YAML::Node& node, const std::string& prefix,
                  const std::vector<Candidate>& candidates) {
        if (!node.IsMap()) {
            mistake(node.Mark(), prefix.empty() ? "the file is not a map of keys"
                                                : prefix + " needs keys below it, not a value");
            return;
        }
        std::set<std::string> seen;
        for (const auto& entry : node) {
            if (!entry.first.IsScalar()) {
                mistake(entry.first.Mark(), "a key is a plain word");
                continue;
            }
            const std::string& part = entry.first.Scalar();
            const std::string name = prefix.empty() ? part : prefix + "." + part;
            if (!seen.insert(part).second) {
                mistake(entry.first.Mark(), name + " is given twice");
                continue;
            }
            read_entry(entry.first.Mark(), entry.second, name, below(candidates, part));
        }
    }

    void read_entry(const YAML::Mark& mark, const YAML::Node& node, const std::string& name,
                    const std::vector<Candidate>& candidates) {
        if (candidates.empty()) {
            mistake(mark, "unknown key " + name + suggestion_for(name, known_names()));
            return;
        }
        if (!candidates.front().rest.empty()) {
            // An empty section is what is left when all its keys are commented out.
            if (!node.IsNull()) read_map(node, name, candidates);
            return;
        }
        FileValue value{.key = candidates.front().key,
                        .name = name,
                        .text = {},
                        .items = {},
                        .position = position(mark)};
        if (read_value(node, value)) values_.push_back(std::move(value));
    }

    bool read_value(const YAML::Node& node, FileValue& value) {
        if (value.key->type != KeyType::kNames) {
            if (!node.IsScalar()) {
                mistake(node.Mark(), value.name + (node.IsNull() ? " has no value"
                                                                 : " is one value, not several"));
                return false;
            }
            value.text = node.Scalar();
            return true;
        }
        bool is_list = node.IsSequence();
        for (size_t i = 0; is_list && i < node.size(); ++i) {
            is_list = node[i].IsScalar();
            if (is_list) value.items.push_back(node[i].Scalar());
        }
        if (!is_list) mistake(node.Mark(), value.name + " is a list of names, such as [a, b]");
        return is_list;
    }

    static std::vector<Candidate> below(const std::vector<Candidate>& candidates,
                                        std::string_view part) {
        std::vector<Candidate> found;
        for (const Candidate& candidate : candidates) {
            const auto [first, rest] = split(candidate.rest);
            if (first == part || first == "*") found.push_back({candidate.key, rest});
        }
        return found;
    }

    static std::vector<std::string_view> known_names() {
        std::vector<std::string_view> names;
        for (const ConfigKey& key : config_keys()) {
            for (size_t dot = key.name.find('.'); dot != std::string_view::npos;
                 dot = key.name.find('.', dot + 1)) {
                names.push_back(key.name.substr(0, dot));
            }
            names.push_back(key.name);
        }
        return names;
    }

    std::string position(const YAML::Mark& mark) const {
        return file_.string() + ":" + std::to_string(mark.line + 1);
    }

    void mistake(const YAML::Mark& mark, const std::string& text) {
        mistakes_.push_back(position(mark) + ":" + std::to_string(mark.column + 1) + ": " + text);
    }

    std::filesystem::path file_;
    std::vector<std::string>& mistakes_;
    std::vector<FileValue> values_;
};

}  // namespace

std::vector<FileValue> read_config_file(const std::filesystem::path& file,
                                        std::vector<std::string>& mistakes) {
    return FileReader(file, mistakes).read();
}

}  // namespace millrace
