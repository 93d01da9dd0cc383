#include "app/scratch/samples.h"

#include <algorithm>

#include "core/check.h"

namespace millrace {

std::string sample_text(std::string_view file_name) {
    const auto all = samples();
    const auto found = std::find_if(all.begin(), all.end(), [file_name](const Sample& sample) {
        return sample.file_name == file_name;
    });
    MILLRACE_CHECK(found != all.end(), "the sample is compiled in");
    return std::string(found->text);
}

}  // namespace millrace
