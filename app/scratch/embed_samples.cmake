# Writes OUTPUT: the projection files in FOLDER as one C++ file. Run as a script, at build time.
file(GLOB files "${FOLDER}/*.sql")
list(SORT files)
set(entries "")
foreach(file IN LISTS files)
  get_filename_component(name "${file}" NAME)
  file(READ "${file}" text)
  string(APPEND entries "    {\"${name}\", R\"sample(${text})sample\"},\n")
endforeach()
file(WRITE "${OUTPUT}" "#include \"app/scratch/samples.h\"

namespace millrace {

namespace {

constexpr Sample kSamples[] = {
${entries}};

}  // namespace

std::span<const Sample> samples() { return kSamples; }

}  // namespace millrace
")
