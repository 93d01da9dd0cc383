# The demo, as part of millrace_app: a shop, relays and workers as processes, and the proof.
target_sources(millrace_app PRIVATE
    demo/children.cc
    demo/demo.cc
    demo/live_block.cc
    demo/proof.cc
    demo/shop.cc
    demo/visibility.cc)
