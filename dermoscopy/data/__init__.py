"""From raw data to a checked, split manifest: sources, label tables, images, manifest, split."""
