# A scratch installation, as part of millrace_app: what the demo and the bench stand on.
# Included by app/CMakeLists.txt, because a generated source counts only where its target is made.
set(samples_folder ${PROJECT_SOURCE_DIR}/projections/samples)
set(embedded_samples ${CMAKE_CURRENT_BINARY_DIR}/embedded_samples.cc)
add_custom_command(
    OUTPUT ${embedded_samples}
    COMMAND ${CMAKE_COMMAND} -DFOLDER=${samples_folder} -DOUTPUT=${embedded_samples}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/scratch/embed_samples.cmake
    DEPENDS ${samples_folder}/customer_totals.sql ${samples_folder}/orders.sql
            scratch/embed_samples.cmake
    VERBATIM)

target_sources(millrace_app PRIVATE
    ${embedded_samples}
    scratch/child.cc
    scratch/samples.cc
    scratch/scratch.cc
    scratch/scratch_database.cc
    scratch/scratch_folder.cc
    scratch/scratch_topics.cc)
