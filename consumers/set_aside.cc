#include "consumers/set_aside.h"

#include <algorithm>
#include <map>

namespace millrace {

std::string causes_of(const std::vector<DeadLetter>& letters) {
    struct Count {
        size_t letter_count = 0;
        std::string example;
    };
    std::map<std::string, Count> counts;
    for (const DeadLetter& letter : letters) {
        Count& count = counts[letter.cause.text()];
        ++count.letter_count;
        count.example = letter.cause.error;
    }
    std::vector<std::pair<std::string, Count>> causes(counts.begin(), counts.end());
    std::stable_sort(causes.begin(), causes.end(), [](const auto& a, const auto& b) {
        return a.second.letter_count > b.second.letter_count;
    });
    std::string text;
    for (const auto& [cause, count] : causes) {
        text += (text.empty() ? "" : ", ") + std::to_string(count.letter_count) + " of " + cause;
    }
    if (!causes.empty()) text += "; such as: " + causes.front().second.example;
    return text;
}

}  // namespace millrace
