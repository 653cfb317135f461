"""What the convolutional hierarchy on digits is made of, for all who build it; needs no package."""

# Channels of the maps of both passes, by their side.
CHANNELS = {14: 32, 7: 64, 1: 128}
# Groups and channels of each, by the side of the maps.
GROUPS = {1: (2, 16), 7: (3, 4), 14: (2, 2)}
# Residual cells at each scale on the way up, and after each group on the way down.
BLOCKS_UP, BLOCKS_DOWN = 2, 1
# Of all scales of the latent variables.
SCALE_FLOOR, SCALE_CEILING = 1e-2, 1e2
LEARNING_RATE, BATCH_SIZE = 3e-3, 128
