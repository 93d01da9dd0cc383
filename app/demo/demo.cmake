# The demo, as part of millrace_app: a shop, relays and workers as processes, and the proof.
# Included by app/CMakeLists.txt, because a generated source counts only where its target is made.
set(samples_folder ${PROJECT_SOURCE_DIR}/projections/samples)
set(embedded_samples ${CMAKE_CURRENT_BINARY_DIR}/demo_samples.cc)
add_custom_command(
    OUTPUT ${embedded_samples}
    COMMAND ${CMAKE_COMMAND} -DFOLDER=${samples_folder} -DOUTPUT=${embedded_samples}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/demo/embed_samples.cmake
    DEPENDS ${samples_folder}/customer_totals.sql ${samples_folder}/orders.sql
            demo/embed_samples.cmake
    VERBATIM)

target_sources(millrace_app PRIVATE
    ${embedded_samples}
    demo/children.cc
    demo/demo.cc
    demo/demo_database.cc
    demo/demo_folder.cc
    demo/demo_topics.cc
    demo/live_block.cc
    demo/proof.cc
    demo/shop.cc
    demo/visibility.cc)
