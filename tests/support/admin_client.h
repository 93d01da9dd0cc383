#pragma once

#include <string>

#include "tests/support/process.h"

namespace millrace::test {

struct Page {
    int status = 0;  // Of HTTP; 0 while nothing answers.
    std::string body;
};

Page page_at(int port, const std::string& path);

// The admin server of a running process, found by the address it logged.
class AdminClient {
  public:
    explicit AdminClient(const Process& process) : process_(process) {}

    // The page's body; empty while nothing answers.
    std::string get(const std::string& path) const;
    // Sum of the metric's lines that begin so; 0 while nothing answers.
    double metric(const std::string& line_start) const;

  private:
    const Process& process_;
};

}  // namespace millrace::test
