"""Training of networks: loop, callbacks, augmentation and checkpoints."""
