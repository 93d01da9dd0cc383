#include "tests/support/folder.h"

#include <fstream>
#include <stdexcept>

#include "core/uuid.h"

namespace millrace::test {

namespace fs = std::filesystem;

Folder::Folder(const fs::path& parent) : path_(parent / ("test." + Uuid::random().text())) {
    fs::create_directory(path_);
}

Folder::~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

std::string Folder::write(const std::string& name, const std::string& text) const {
    const fs::path path = path_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file) throw std::runtime_error(path.string() + " could not be written");
    return path.string();
}

std::string write_file(const std::string& stem, const std::string& text) {
    static const Folder folder;
    return folder.write(stem + "." + Uuid::random().text(), text);
}

}  // namespace millrace::test
