#pragma once

#include <filesystem>
#include <string>

namespace millrace::test {

// A folder of its own below `parent`, removed with all in it.
class Folder {
  public:
    explicit Folder(const std::filesystem::path& parent = std::filesystem::temp_directory_path());
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    // Writes a file in it, `name` with the folders before it; its path.
    std::string write(const std::string& name, const std::string& text) const;

    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

// A file whose name begins so and is no other's, in a folder that is removed when the test's
// process exits; its path.
std::string write_file(const std::string& stem, const std::string& text);

}  // namespace millrace::test
