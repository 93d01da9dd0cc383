#include "app/scratch/scratch_folder.h"

#include <cstdlib>
#include <fstream>

#include "core/failure.h"

namespace millrace {

namespace {

namespace fs = std::filesystem;

fs::path make_folder(const std::string& owner) {
    std::error_code ignored;
    std::string path =
        (fs::temp_directory_path(ignored) / ("millrace-" + owner + "-XXXXXX")).string();
    if (mkdtemp(path.data()) == nullptr) {
        throw fatal("scratch_folder", "can't make a folder like " + path +
                                          ": set TMPDIR to one that can be written to");
    }
    return path;
}

}  // namespace

ScratchFolder::ScratchFolder(const std::string& owner) : path_(make_folder(owner)) {}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    if (!is_kept_) fs::remove_all(path_, ignored);
}

fs::path ScratchFolder::write(const std::string& name, std::string_view text) const {
    const fs::path path = path_ / name;
    std::error_code ignored;
    fs::create_directories(path.parent_path(), ignored);
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file) throw fatal("scratch_folder", "can't write " + path.string());
    return path;
}

}  // namespace millrace
