"""Lamina on a real kernel, a real libvirt and real QEMU processes, in the lab's machine. `make lab` runs it."""
