"""From images to features: backbones, views, engines, and where features are kept."""
