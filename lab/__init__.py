"""A real host without a GPU: Debian's kernel in QEMU's software emulation, with a module of our own that makes vGPUs."""
