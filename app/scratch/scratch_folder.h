#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace millrace {

// A temporary folder that only its owner may read, so that its files may hold a password. Removed
// at the end unless kept. Throws kFatal `scratch_folder` when it can't be made or written to.
class ScratchFolder {
  public:
    // Called `millrace-<owner>-` and six letters, in TMPDIR.
    explicit ScratchFolder(const std::string& owner);
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;

    // A file, with the folders above it; `name` is a path from here. Returns its whole path.
    std::filesystem::path write(const std::string& name, std::string_view text) const;
    // For its logs.
    void keep() { is_kept_ = true; }

    const std::filesystem::path& path() const { return path_; }

  private:
    const std::filesystem::path path_;
    bool is_kept_ = false;
};

}  // namespace millrace
