#include "projections/json_walker.h"

#include <simdjson.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "projections/column_value.h"

namespace millrace {

namespace {

using simdjson::ondemand::json_type;

constexpr size_t kNoNode = static_cast<size_t>(-1);
constexpr int kDepthMax = simdjson::DEFAULT_MAX_DEPTH;

// A token reaches up to the next one, so white space may follow it.
std::string_view trim(std::string_view text) {
    const size_t last = text.find_last_not_of(" \t\r\n");
    return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

Misfit misfit_of(simdjson::error_code code) {
    if (code == simdjson::UTF8_ERROR) return kNotUtf8;
    if (code == simdjson::DEPTH_ERROR) return "JSON nested too deeply";
    if (code == simdjson::STRING_ERROR) return "not JSON: a bad escape or surrogate in a string";
    return kNotJson;
}

// The content of a string that begins with a quote at `begin`, if it ends before `end` and needs no
// unescaping; simdjson has already looked for control characters and bad UTF-8. Null otherwise.
std::optional<std::string_view> plain_string(const char* begin, const char* end) {
    const char* content = begin + 1;
    const auto size = static_cast<size_t>(end - content);
    const auto* quote = static_cast<const char*>(std::memchr(content, '"', size));
    if (quote == nullptr) return std::nullopt;
    const std::string_view text{content, static_cast<size_t>(quote - content)};
    if (text.find('\\') != std::string_view::npos) return std::nullopt;
    return text;
}

[[noreturn]] void refuse(simdjson::error_code code) { throw simdjson::simdjson_error(code); }

}  // namespace

class JsonWalker::Walk {
  public:
    explicit Walk(const std::vector<JsonPath>& paths);

    Misfit read(std::string_view payload);
    const JsonSlot& slot(size_t path_index) const { return slots_[node_of_path_[path_index]]; }

  private:
    // Paths that begin alike share their nodes. Node 0 is the payload itself.
    struct Node {
        std::vector<std::pair<std::string, size_t>> members;
        std::vector<std::pair<size_t, size_t>> elements;
        bool is_wanted = false;
    };

    using Value = simdjson::ondemand::value;

    size_t add_step(size_t node, const JsonStep& step);
    std::string_view pad(std::string_view payload);
    void forget(size_t node);
    size_t find_member(size_t node, std::string_view name) const;
    size_t find_element(size_t node, size_t number) const;
    void visit(Value value, size_t node, int depth);
    void visit_object(Value value, size_t node, int depth);
    std::string_view name_of(simdjson::ondemand::field& field);
    void visit_array(Value value, size_t node, int depth);
    void visit_scalar(Value value, simdjson::ondemand::json_type type, size_t node);
    void keep(size_t node, JsonSlot slot);

    std::vector<Node> nodes_;
    std::vector<JsonSlot> slots_;
    std::vector<size_t> node_of_path_;
    simdjson::ondemand::parser parser_;
    simdjson::ondemand::document document_;
    std::string padded_;
    size_t nul_count_ = 0;
    size_t huge_number_count_ = 0;
};

JsonWalker::JsonWalker(const std::vector<JsonPath>& paths)
    : walk_(std::make_unique<Walk>(paths)) {}

JsonWalker::~JsonWalker() = default;

std::string_view JsonWalker::read(std::string_view payload) { return walk_->read(payload); }

const JsonSlot& JsonWalker::slot(size_t path_index) const { return walk_->slot(path_index); }

JsonWalker::Walk::Walk(const std::vector<JsonPath>& paths) : nodes_(1) {
    for (const JsonPath& path : paths) {
        size_t node = 0;
        for (const JsonStep& step : path) node = add_step(node, step);
        nodes_[node].is_wanted = true;
        node_of_path_.push_back(node);
    }
    slots_.resize(nodes_.size());
}

std::string_view JsonWalker::Walk::read(std::string_view payload) {
    forget(0);
    nul_count_ = 0;
    huge_number_count_ = 0;
    const std::string_view wrapped = pad(payload);
    try {
        document_ = parser_.iterate(wrapped.data(), wrapped.size(), padded_.size());
        size_t value_count = 0;
        for (simdjson::ondemand::value value : document_.get_array()) {
            if (++value_count > 1) return kNotJson;
            visit(value, 0, 1);
        }
        if (value_count != 1) return kNotJson;
        // Anything but the end: the payload closed our bracket and went on.
        if (document_.current_location().error() != simdjson::OUT_OF_BOUNDS) return kNotJson;
    } catch (const simdjson::simdjson_error& error) {
        return misfit_of(error.error());
    }
    return kFits;
}

size_t JsonWalker::Walk::add_step(size_t node, const JsonStep& step) {
    const size_t next = nodes_.size();
    if (const auto* name = std::get_if<std::string>(&step)) {
        const size_t found = find_member(node, *name);
        if (found != kNoNode) return found;
        nodes_[node].members.emplace_back(*name, next);
    } else {
        const size_t number = std::get<size_t>(step);
        const size_t found = find_element(node, number);
        if (found != kNoNode) return found;
        nodes_[node].elements.emplace_back(number, next);
    }
    nodes_.emplace_back();
    return next;
}

// simdjson reads past the end, hence the copy. The brackets make a payload that is a bare string or
// number an element like any other.
std::string_view JsonWalker::Walk::pad(std::string_view payload) {
    const size_t size = payload.size() + 2;
    if (padded_.size() < size + simdjson::SIMDJSON_PADDING) {
        padded_.resize(2 * size + simdjson::SIMDJSON_PADDING);
    }
    padded_[0] = '[';
    payload.copy(padded_.data() + 1, payload.size());
    padded_[size - 1] = ']';
    return {padded_.data(), size};
}

void JsonWalker::Walk::forget(size_t node) {
    slots_[node] = {};
    for (const auto& [name, child] : nodes_[node].members) forget(child);
    for (const auto& [number, child] : nodes_[node].elements) forget(child);
}

size_t JsonWalker::Walk::find_member(size_t node, std::string_view name) const {
    if (node == kNoNode) return kNoNode;
    for (const auto& [member, child] : nodes_[node].members) {
        if (member == name) return child;
    }
    return kNoNode;
}

size_t JsonWalker::Walk::find_element(size_t node, size_t number) const {
    if (node == kNoNode) return kNoNode;
    for (const auto& [element, child] : nodes_[node].elements) {
        if (element == number) return child;
    }
    return kNoNode;
}

void JsonWalker::Walk::visit(Value value, size_t node, int depth) {
    if (depth > kDepthMax) refuse(simdjson::DEPTH_ERROR);
    const json_type type = value.type();
    if (type != json_type::object && type != json_type::array) {
        return visit_scalar(value, type, node);
    }
    const char* begin = value.raw_json_token().data();
    const size_t nul_count_before = nul_count_;
    const size_t huge_number_count_before = huge_number_count_;
    if (type == json_type::object) visit_object(value, node, depth);
    if (type == json_type::array) visit_array(value, node, depth);
    const char* next_token = document_.current_location();
    const std::string_view raw = trim({begin, static_cast<size_t>(next_token - begin)});
    keep(node, {JsonSlot::Kind::kContainer, raw, raw, nul_count_ > nul_count_before,
                huge_number_count_ > huge_number_count_before});
}

void JsonWalker::Walk::visit_object(Value value, size_t node, int depth) {
    for (simdjson::ondemand::field field : value.get_object()) {
        const std::string_view name = name_of(field);
        const size_t child = find_member(node, name);
        // A member seen before: what stood below it goes too.
        if (child != kNoNode) forget(child);
        visit(field.value(), child, depth + 1);
    }
}

std::string_view JsonWalker::Walk::name_of(simdjson::ondemand::field& field) {
    const char* quote = field.key().raw() - 1;
    const auto plain = plain_string(quote, padded_.data() + padded_.size());
    if (plain) return *plain;
    const std::string_view name = field.unescaped_key();
    if (has_nul(name)) ++nul_count_;
    return name;
}

void JsonWalker::Walk::visit_array(Value value, size_t node, int depth) {
    size_t number = 0;
    for (Value element : value.get_array()) {
        visit(element, find_element(node, number++), depth + 1);
    }
}

void JsonWalker::Walk::visit_scalar(Value value, json_type type, size_t node) {
    const std::string_view raw = trim(value.raw_json_token());
    if (type == json_type::string) {
        const auto plain = plain_string(raw.data(), raw.data() + raw.size());
        const std::string_view text = plain ? *plain : std::string_view(value.get_string());
        const bool holds_nul = !plain && has_nul(text);
        if (holds_nul) ++nul_count_;
        return keep(node, {JsonSlot::Kind::kString, text, raw, holds_nul, false});
    }
    if (type == json_type::null) {
        if (raw != "null") refuse(simdjson::N_ATOM_ERROR);
        return keep(node, {JsonSlot::Kind::kNull, raw, raw, false, false});
    }
    const bool is_number = type == json_type::number;
    const bool is_token = is_number ? is_json_number(raw) : raw == "true" || raw == "false";
    if (!is_token) refuse(simdjson::NUMBER_ERROR);
    const bool is_huge = is_number && !fits_numeric(raw);
    if (is_huge) ++huge_number_count_;
    keep(node, {JsonSlot::Kind::kToken, raw, raw, false, is_huge});
}

void JsonWalker::Walk::keep(size_t node, JsonSlot slot) {
    if (node != kNoNode && nodes_[node].is_wanted) slots_[node] = slot;
}

}  // namespace millrace
