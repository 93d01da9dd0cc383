#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/failure.h"

namespace millrace {

// Collects what is wrong in one projection file, so that its author sees all of it at once.
class Mistakes {
  public:
    explicit Mistakes(std::string file) : file_(std::move(file)) {}

    void add(int line, const std::string& text) { lines_.push_back(at(line) + text); }
    // Throws kFatal `projection_file` with one line per mistake, each beginning `file:line: `.
    void throw_if_any() const {
        if (lines_.empty()) return;
        std::string all;
        for (const std::string& line : lines_) all += (all.empty() ? "" : "\n") + line;
        throw misconfigured("projection_file", all);
    }
    std::string at(int line) const { return file_ + ":" + std::to_string(line) + ": "; }

  private:
    std::string file_;
    std::vector<std::string> lines_;
};

}  // namespace millrace
