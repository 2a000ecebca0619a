"""What `lamina doctor` looks at, one module for each patient: this installation, a running Lamina, this machine."""
