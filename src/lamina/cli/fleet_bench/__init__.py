"""What `lamina bench fleet` is made of: many simulated hosts in a process, and the load that is put on their control planes."""

#: what each server takes of a GPU
VGPU_TYPE = "nvidia-11"
