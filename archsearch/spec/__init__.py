"""What a user writes: a network block by block, resolved into operations with known shapes."""
